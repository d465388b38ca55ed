"""The E step against brute force in double precision."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vqnat_plugin.bottleneck import assignment
from vqnat_plugin.bottleneck.assignment import (
    Similarity,
    add_sampled_vectors,
    count_samples,
    mean_code_vectors,
    mean_one_hot,
    nearest_codes,
    posterior,
    posterior_codes,
    sample_codes,
)

# Sizes with and without a part-filled last group, and the smallest ones.
SIZES = [1, 2, 3, 5, 16, 37, 100, 1000, 4097]


def distances(vectors: Tensor, codes: Tensor) -> Tensor:
    return (vectors.double()[:, None] - codes.double()).square().sum(dim=2)


def exact_posterior(vectors: Tensor, codes: Tensor, temperature: float = 1.0) -> Tensor:
    return (-distances(vectors, codes) / temperature).softmax(dim=1)


def problem(size: int, count: int = 40, dim: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed + size)
    return torch.randn(count, dim, generator=generator), torch.randn(size, dim, generator=generator)


@pytest.mark.parametrize("size", SIZES)
def test_nearest_codes_equal_brute_force(size: int) -> None:
    vectors, codes = problem(size)
    torch.testing.assert_close(nearest_codes(vectors, codes), distances(vectors, codes).argmin(dim=1))


def test_nearest_code_is_the_lowest_on_a_tie() -> None:
    vectors, codes = problem(50)
    doubled = torch.cat([codes, codes])
    torch.testing.assert_close(nearest_codes(vectors, doubled), nearest_codes(vectors, codes))


def test_data_far_from_the_origin_keep_their_precision() -> None:
    vectors, codes = problem(64)
    found = nearest_codes(vectors + 4096.0, codes + 4096.0)
    # Adding and subtracting 4096 rounds vectors to multiples of 2^-11, and nothing more.
    expected = distances(vectors + 4096.0, codes + 4096.0).argmin(dim=1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("size", SIZES)
def test_samples_invert_the_distribution_function(size: int) -> None:
    vectors, codes = problem(size)
    uniforms = torch.rand(len(vectors), 50, generator=torch.Generator().manual_seed(1))
    found = sample_codes(vectors, codes, 2.0, uniforms)
    assert found.samples is not None
    cumulated = torch.nn.functional.pad(exact_posterior(vectors, codes, 2.0).cumsum(dim=1), (1, 0))
    draw = 1.0 - uniforms.double()
    assert bool((cumulated.gather(1, found.samples) - 1e-5 <= draw).all())
    assert bool((draw <= cumulated.gather(1, found.samples + 1) + 1e-5).all())
    torch.testing.assert_close(found.nearest, nearest_codes(vectors, codes))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("temperature", [0.1, 1.0, 8.0])
def test_entropy_equals_brute_force(size: int, temperature: float) -> None:
    vectors, codes = problem(size)
    expected = torch.special.entr(exact_posterior(vectors, codes, temperature)).sum(dim=1).float()
    weights = torch.ones(len(vectors))
    exact = posterior_codes(vectors, Similarity(codes, temperature), weights)
    torch.testing.assert_close(exact.entropy, expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(
        sample_codes(vectors, codes, temperature).entropy, expected, atol=2e-5, rtol=1e-4
    )


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1.0 - 2.0**-24])
def test_codes_of_probability_zero_are_never_drawn(uniform: float) -> None:
    codes = torch.full((300, 2), 100.0)
    codes[150] = 0.0
    samples = sample_codes(torch.zeros(4, 2), codes, 1.0, torch.full((4, 3), uniform)).samples
    assert samples is not None and bool((samples == 150).all())


def test_frequencies_of_samples_are_the_posterior() -> None:
    vectors, codes = problem(20, count=5)
    draws = 20_000
    uniforms = torch.rand(5, draws, generator=torch.Generator().manual_seed(2))
    samples = sample_codes(vectors, codes, 1.0, uniforms).samples
    assert samples is not None
    p = exact_posterior(vectors, codes)
    deviation = (mean_one_hot(samples, 20) - p).abs() / (p * (1 - p) / draws).sqrt().clamp(min=1.0 / draws)
    assert float(deviation.max()) < 4.5


@pytest.mark.parametrize("size", SIZES)
def test_posterior_statistics_equal_brute_force(size: int) -> None:
    vectors, codes = problem(size)
    weights = torch.ones(len(vectors))
    weights[::3] = 0.0
    vectors[::3] = 0.0
    found = posterior_codes(vectors, Similarity(codes, 1.5), weights)
    p = exact_posterior(vectors, codes, 1.5)
    tolerance = {"atol": 1e-5, "rtol": 1e-4}
    torch.testing.assert_close(found.counts.double(), weights.double() @ p, **tolerance)
    torch.testing.assert_close(
        found.sums.double(), (p * weights[:, None]).t() @ vectors.double(), **tolerance
    )
    torch.testing.assert_close(found.means.double(), p @ codes.double(), **tolerance)
    torch.testing.assert_close(posterior(vectors, Similarity(codes, 1.5)).double(), p, **tolerance)


@pytest.mark.parametrize("rows", [1, 7, 39, 40, 1000])
@pytest.mark.parametrize("size", [5, 1000])
def test_chunks_do_not_change_results(rows: int, size: int) -> None:
    vectors, codes = problem(size)
    uniforms = torch.rand(len(vectors), 20, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        nearest_codes(vectors, codes, rows), nearest_codes(vectors, codes), rtol=0, atol=0
    )
    whole, parts = (sample_codes(vectors, codes, 1.0, uniforms, rows=r) for r in (None, rows))
    assert whole.samples is not None and parts.samples is not None
    assert torch.equal(whole.samples, parts.samples)
    torch.testing.assert_close(whole.entropy, parts.entropy)
    ones = torch.ones(len(vectors))
    exact, exact_parts = (posterior_codes(vectors, Similarity(codes), ones, rows=r) for r in (None, rows))
    torch.testing.assert_close(exact.sums, exact_parts.sums, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(exact.counts, exact_parts.counts, atol=1e-5, rtol=1e-5)


@settings(max_examples=50)
@given(
    count=st.integers(0, 30),
    size=st.integers(1, 70),
    draws=st.integers(1, 6),
    masked=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_sample_statistics_equal_one_hots(count: int, size: int, draws: int, masked: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(count, 3, generator=generator)
    samples = torch.randint(size, (count, draws), generator=generator)
    weights = (torch.rand(count, generator=generator) < (0.5 if masked else 2.0)).float()
    vectors *= weights[:, None]
    one_hot = torch.nn.functional.one_hot(samples, size).double().mean(dim=1) * weights[:, None]
    torch.testing.assert_close(count_samples(samples, weights, size), one_hot.sum(dim=0))
    sums = torch.ones(size, 5, dtype=torch.float64)
    add_sampled_vectors(sums[:, 1:4], samples, vectors)
    torch.testing.assert_close(sums[:, 1:4], 1.0 + one_hot.t() @ vectors.double())
    assert bool((sums[:, [0, 4]] == 1.0).all())


def test_mean_code_vectors_and_mean_one_hot() -> None:
    _, codes = problem(9)
    samples = torch.tensor([[0, 0, 8, 3], [5, 5, 5, 5]])
    dense = mean_one_hot(samples, 9)
    torch.testing.assert_close(dense[0, [0, 3, 8]], torch.tensor([0.5, 0.25, 0.25]))
    torch.testing.assert_close(mean_code_vectors(codes, samples), dense @ codes)
    torch.testing.assert_close(mean_code_vectors(codes, samples)[1], codes[5])


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_memory_does_not_grow_with_vectors_times_codes() -> None:
    size, count = 4096, 3000
    vectors, codes = problem(size, count)
    with LargestTensor() as largest:
        nearest_codes(vectors, codes)
        found = sample_codes(vectors, codes, 1.0, torch.rand(count, 4))
        assert found.samples is not None
        count_samples(found.samples, torch.ones(count), size)
        add_sampled_vectors(torch.zeros(size, 3, dtype=torch.float64), found.samples, vectors)
        mean_code_vectors(codes, found.samples)
        posterior_codes(vectors, Similarity(codes), torch.ones(count))
    assert largest.elements <= 1 << 20 < count * size / 10


def test_vectors_that_are_not_finite_give_codes_in_range() -> None:
    _, codes = problem(1000)
    nan, inf = float("nan"), float("inf")
    vectors = torch.tensor([[nan] * 3, [inf, 0.0, 0.0], [-inf, inf, 1e38]])
    found = sample_codes(vectors, codes, 1.0, torch.rand(3, 5))
    assert found.samples is not None
    for values in (found.samples, found.nearest, nearest_codes(vectors, codes)):
        assert int(values.min()) >= 0 and int(values.max()) < 1000


@pytest.mark.parametrize("temperature", [1e-3, 0.05, 0.3, 1.0, 100.0])
def test_a_sparse_posterior_is_the_dense_one(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    vectors, codes = torch.randn(300, 4), torch.randn(700, 4)
    weights = (torch.rand(300) < 0.8).float()
    vectors *= weights[:, None]
    found = {}
    # Never sparse, as it is, and always sparse.
    for few in (10**9, assignment.FEW, 0):
        monkeypatch.setattr(assignment, "FEW", few)
        found[few] = posterior_codes(vectors, Similarity(codes, temperature), weights, rows=64)
    dense = found[10**9]
    p = (-torch.cdist(vectors.double(), codes.double()).square() / temperature).softmax(dim=1)
    torch.testing.assert_close(dense.means, (p @ codes.double()).float(), atol=1e-5, rtol=1e-4)
    for other in found.values():
        assert torch.equal(other.nearest, dense.nearest)
        for name in ("entropy", "means", "counts", "sums"):
            torch.testing.assert_close(getattr(other, name), getattr(dense, name), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("far", [1e3, 1e5, 1e8])
@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_a_code_far_away_does_not_blur_the_others(far: float, shift: float) -> None:
    codes, vectors = torch.randn(256, 8) + shift, torch.randn(500, 8) + shift
    codes[3] = far
    exact = torch.cdist(vectors.double(), codes.double())
    found = assignment.nearest_codes(vectors, codes)
    chosen = exact.gather(1, found[:, None]).squeeze(1)
    torch.testing.assert_close(chosen, exact.amin(1), rtol=1e-5, atol=1e-5 * (1 + shift))
