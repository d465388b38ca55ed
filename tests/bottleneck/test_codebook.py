"""The M step against brute force, the start of the codebook, revival, and what state survives."""

import copy
import io

import pytest
import torch
from torch import Tensor

from vqnat_plugin.bottleneck import EMVectorQuantizer, perplexity, usage
from vqnat_plugin.bottleneck.kmeans import kmeans, seed_codes
from vqnat_plugin.bottleneck.statistics import MAX_REVIVED, Statistics

ASSIGNMENTS = ["hard", "monte_carlo", "posterior"]


def state(quantizer: EMVectorQuantizer) -> dict[str, Tensor]:
    """Copies of all buffers, saved or not."""
    return {name: buffer.clone() for name, buffer in quantizer.named_buffers()}


def assert_same_state(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert torch.equal(one[name], other[name]), name


def clusters(count: int = 600, dim: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A mixture of six narrow Gaussians: vectors (count, dim) and centres (6, dim)."""
    generator = torch.Generator().manual_seed(seed)
    centres = 4.0 * torch.randn(6, dim, generator=generator)
    chosen = torch.randint(6, (count,), generator=generator)
    return centres[chosen] + 0.1 * torch.randn(count, dim, generator=generator), centres


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_m_step_equals_its_formula(assignment: str, blocks: int) -> None:
    torch.manual_seed(0)
    quantizer = EMVectorQuantizer(
        5, 4, assignment, samples=3, decay=0.8, epsilon=1e-2, blocks=blocks, init="random", revival=False
    )
    counts, sums = quantizer.counts.double(), quantizer.sums.double()
    for _ in range(3):
        z = torch.randn(2, 11, 4)
        out = quantizer(z)
        soft = out.soft_codes.double().view(22, blocks, 5)
        new = torch.einsum("nbk,nbd->kbd", soft, z.double().view(22, blocks, -1)).reshape(5, 4)
        counts = 0.8 * counts + 0.2 * soft.sum(dim=0)
        sums = 0.8 * sums + 0.2 * new
        assert quantizer.update_codebook() is True
        n = counts.sum(dim=1, keepdim=True)
        smoothed = (counts + 1e-2) * n / (n + 5 * 1e-2)
        codes = sums.view(5, blocks, -1) / smoothed.t()[:, :, None]
        for found, expected in (
            (quantizer.counts, counts),
            (quantizer.sums, sums),
            (quantizer.codebook, codes),
        ):
            torch.testing.assert_close(found, expected.view_as(found).float(), atol=1e-5, rtol=1e-4)


def test_decay_zero_is_one_lloyd_step() -> None:
    torch.manual_seed(1)
    quantizer = EMVectorQuantizer(12, 3, decay=0.0, epsilon=1e-9, revival=False)
    start = torch.randn(12, 3)
    start[7] = 50.0  # no vector comes near this one
    quantizer.set_codebook(start)
    z = torch.randn(100, 3)
    nearest = (z[:, None] - start).square().sum(dim=2).argmin(dim=1)
    assert torch.equal(quantizer(z).codes, nearest)
    quantizer.update_codebook()
    for code in range(12):
        members = z[nearest == code]
        expected = members.mean(dim=0) if len(members) else start[code]
        torch.testing.assert_close(quantizer.codebook[code], expected)
    torch.testing.assert_close(quantizer.counts[0], torch.bincount(nearest, minlength=12).float())


@pytest.mark.parametrize("kernel", ["all codes", "near codes"])
def test_a_code_that_is_far_from_everything_stays_in_a_lloyd_step(kernel: str) -> None:
    """However small the share is that its posterior leaves it; codes are few, or many."""
    size = 6 if kernel == "all codes" else 64
    torch.manual_seed(0)
    quantizer = EMVectorQuantizer(size, 3, "posterior", decay=0.0, revival=False)
    codes = torch.randn(size, 3)
    codes[0] = 50.0
    quantizer.set_codebook(codes)
    quantizer(torch.randn(500, 3))
    quantizer.update_codebook()
    assert torch.equal(quantizer.codebook[0], codes[0])
    assert not torch.equal(quantizer.codebook[1:], codes[1:])


@pytest.mark.parametrize("assignment", ["hard", "posterior"])
def test_two_forwards_equal_one_with_both_batches(assignment: str) -> None:
    torch.manual_seed(2)
    whole = EMVectorQuantizer(9, 4, assignment, blocks=2, decay=0.5, revival=False, init="random")
    parts = copy.deepcopy(whole)
    z, mask = torch.randn(6, 10, 4), torch.rand(6, 10) < 0.7
    whole(z, mask)
    parts(z[:2], mask[:2])
    parts(z[2:], mask[2:])
    whole.update_codebook()
    parts.update_codebook()
    if assignment == "hard":
        assert_same_state(state(whole), state(parts))
    torch.testing.assert_close(whole.codebook, parts.codebook)


def test_monte_carlo_statistics_converge_to_the_posterior() -> None:
    torch.manual_seed(3)
    exact = EMVectorQuantizer(7, 2, "posterior", decay=0.0, init="random", revival=False)
    sampled = EMVectorQuantizer(7, 2, "monte_carlo", samples=5000, decay=0.0, init="random", revival=False)
    sampled.load_state_dict(exact.state_dict())
    z = torch.randn(200, 2)
    for quantizer in (exact, sampled):
        quantizer(z)
        quantizer.update_codebook()
    torch.testing.assert_close(sampled.counts, exact.counts, rtol=0.02, atol=0.0)
    torch.testing.assert_close(sampled.codebook, exact.codebook, rtol=0.0, atol=0.02)


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_a_mixture_of_gaussians_is_recovered(assignment: str) -> None:
    torch.manual_seed(4)
    quantizer = EMVectorQuantizer(6, 4, assignment, samples=5, decay=0.9)
    for step in range(40):
        z, centres = clusters(seed=0)
        z = z + 0.1 * torch.randn_like(z)
        if step == 0:
            quantizer.initialize_codebook(z)
        quantizer(z)
        quantizer.update_codebook()
    distance = torch.cdist(centres, quantizer.codebook).min(dim=1).values
    assert float(distance.max()) < 0.1
    assert float(quantizer.eval()(z).metrics["usage"]) == 1.0


def test_random_start_without_revival_collapses_as_in_the_paper_and_data_start_does_not() -> None:
    torch.manual_seed(5)
    z = torch.nn.functional.layer_norm(torch.randn(512, 32), (32,))
    plain = EMVectorQuantizer(64, 32, init="random", revival=False)
    ours = EMVectorQuantizer(64, 32)
    assert plain.initialized and not ours.initialized
    ours.initialize_codebook(z)
    for quantizer in (plain, ours):
        for _ in range(5):
            out = quantizer(z)
            quantizer.update_codebook()
    assert float(plain(z).metrics["usage"]) < 0.3
    assert (
        float(plain.codebook.norm(dim=1).max()) > 100.0
    )  # codes without vectors are thrown away: S_j / epsilon
    assert float(out.metrics["usage"]) > 0.9
    assert float(ours.codebook.norm(dim=1).max()) < 10.0


def test_update_is_a_no_op_when_nothing_was_accumulated() -> None:
    torch.manual_seed(6)
    quantizer = EMVectorQuantizer(4, 2, "monte_carlo", init="random")
    before = state(quantizer)
    assert quantizer.update_codebook() is False
    quantizer(torch.randn(3, 2), accumulate=False)
    assert quantizer.update_codebook() is False
    quantizer(torch.randn(3, 2), torch.zeros(3, dtype=torch.bool))
    assert quantizer.update_codebook() is False
    quantizer(torch.randn(3, 2))
    quantizer.discard()
    assert quantizer.update_codebook() is False
    quantizer.eval()(torch.randn(3, 2))
    assert quantizer.update_codebook() is False
    assert_same_state(before, state(quantizer))
    quantizer.train()(torch.randn(3, 2))
    assert quantizer.update_codebook() is True
    assert quantizer.update_codebook() is False  # used up


def test_discard_drops_only_what_was_not_applied() -> None:
    torch.manual_seed(7)
    one = EMVectorQuantizer(4, 2, init="random", revival=False)
    other = copy.deepcopy(one)
    z, skipped = torch.randn(20, 2), torch.randn(20, 2)
    one(z)
    one.update_codebook()
    other(skipped)
    other.discard()
    other(z)
    other(skipped, accumulate=False)
    other.update_codebook()
    assert_same_state(state(one), state(other))


def test_statistics_that_are_not_finite_skip_the_m_step() -> None:
    quantizer = EMVectorQuantizer(4, 2, init="random")
    before = state(quantizer)
    quantizer(torch.tensor([[1.0, 2.0], [float("inf"), 0.0]]))
    with pytest.warns(UserWarning, match="not finite"):
        assert quantizer.update_codebook() is False
    assert_same_state(before, state(quantizer))


@pytest.mark.parametrize("blocks", [1, 3])
def test_lookup(blocks: int) -> None:
    quantizer = EMVectorQuantizer(5, 6, blocks=blocks, init="random")
    codes = torch.randint(5, (2, 7) if blocks == 1 else (2, 7, blocks))
    found = quantizer.lookup(codes)
    assert found.shape == (2, 7, 6) and found.dtype == torch.float32
    codes = codes.view(2, 7, blocks)
    width = 6 // blocks
    for block in range(blocks):
        columns = slice(block * width, (block + 1) * width)
        assert torch.equal(found[..., columns], quantizer.codebook[:, columns][codes[..., block]])


def test_histogram_counts_what_m_steps_saw() -> None:
    torch.manual_seed(8)
    quantizer = EMVectorQuantizer(6, 4, blocks=2, init="random")
    seen = torch.zeros(2, 6, dtype=torch.float64)
    for _ in range(3):
        z, mask = torch.randn(30, 4), torch.rand(30) < 0.5
        codes = quantizer(z, mask).codes[mask]
        seen += torch.stack([torch.bincount(codes[:, b], minlength=6) for b in range(2)])
        quantizer.update_codebook()
    quantizer(z)
    quantizer.discard()
    assert torch.equal(quantizer.histogram, seen)
    assert "histogram" not in quantizer.state_dict()
    quantizer.reset_histogram()
    assert float(quantizer.histogram.sum()) == 0.0
    assert EMVectorQuantizer(6, 4).histogram.shape == (6,)


def test_usage_and_perplexity() -> None:
    histogram = torch.tensor([[2.0, 2.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 9.0], [0.0] * 4])
    torch.testing.assert_close(usage(histogram), torch.tensor([0.5, 1.0, 0.25, 0.0]))
    torch.testing.assert_close(perplexity(histogram), torch.tensor([2.0, 4.0, 1.0, 0.0]))


# The start


@pytest.mark.parametrize("blocks", [1, 2])
def test_initialization_sets_codes_counts_and_sums(blocks: int) -> None:
    torch.manual_seed(9)
    quantizer = EMVectorQuantizer(6, 4, blocks=blocks)
    z = torch.randn(3, 20, 4)
    mask = torch.ones(3, 20, dtype=torch.bool)
    mask[1, 5:] = False
    z[1, 5:] = float("nan")
    quantizer(torch.randn(5, 4), accumulate=False)
    assert not quantizer.initialized
    quantizer.initialize_codebook(z, mask)
    assert quantizer.initialized
    assert bool(quantizer.codebook.isfinite().all())
    torch.testing.assert_close(quantizer.counts, torch.full((blocks, 6), 45 / 6))
    torch.testing.assert_close(quantizer.sums, quantizer.codebook * 45 / 6)
    quantizer.initialize_codebook(z, mask, batches=3)
    torch.testing.assert_close(quantizer.counts, torch.full((blocks, 6), 45 / 3 / 6))


def test_initialization_is_kmeans_and_depends_on_the_seed_alone() -> None:
    z, centres = clusters()
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        quantizer = EMVectorQuantizer(6, 4)
        torch.manual_seed(seed)
        quantizer.initialize_codebook(z)
        found.append(quantizer.codebook.clone())
        assert float(torch.cdist(centres, quantizer.codebook).min(dim=1).values.max()) < 0.1
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


@pytest.mark.parametrize("revival", [True, False])
@pytest.mark.parametrize("assignment", ["hard", "monte_carlo", "posterior"])
@pytest.mark.filterwarnings("ignore:the codebook starts from 6 vectors")
def test_codes_for_which_there_was_no_vector_find_places_of_their_own(assignment: str, revival: bool) -> None:
    quantizer = EMVectorQuantizer(16, 4, assignment, temperature=0.5, decay=0.9, revival=revival)
    z = torch.randn(6, 4)
    quantizer.initialize_codebook(z)
    assert torch.equal(quantizer.codebook[:6], z) and len(quantizer.codebook.unique(dim=0)) == 16
    for _ in range(60):
        quantizer(torch.randn(512, 4))
        quantizer.update_codebook()
    distances = torch.cdist(quantizer.codebook, quantizer.codebook) + 9 * torch.eye(16)
    assert float(distances.min()) > 0.5


def test_a_start_from_too_few_vectors_is_told_where_nothing_mends_it() -> None:
    quantizer, z = EMVectorQuantizer(16, 4, revival=False), torch.randn(6, 4)
    with pytest.warns(UserWarning, match="starts from 6 vectors, and 10 of 16 codes are near others"):
        quantizer.initialize_codebook(z)
    assert bool(quantizer.counts.eq(quantizer.counts[0, 0]).all())


def test_without_lloyd_steps_codes_are_vectors() -> None:
    quantizer, z = EMVectorQuantizer(4, 3), torch.randn(40, 3)
    quantizer.initialize_codebook(z, lloyd_steps=0)
    assert bool((quantizer.codebook[:, None] == z).all(-1).any(1).all())
    for wrong in ({"lloyd_steps": -1}, {"batches": 0}):
        with pytest.raises(ValueError, match=f"^{next(iter(wrong))} is "):
            quantizer.initialize_codebook(z, **wrong)


def test_seeds_are_distinct_vectors_and_lloyd_steps_lower_the_distortion() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(3000, 5, generator=generator)
    # More codes than seeding rounds, so that several are chosen at once.
    seeds = seed_codes(vectors, 200, generator)
    assert len(seeds.unique(dim=0)) == 200
    assert float(torch.cdist(seeds, vectors).min(dim=1).values.max()) < 1e-2

    def distortion(codes: Tensor) -> float:
        return float(torch.cdist(vectors, codes).min(dim=1).values.square().mean())

    plain = distortion(vectors[torch.randperm(3000, generator=generator)[:200]])
    seeded = distortion(kmeans(vectors, 200, 0, generator))
    refined = distortion(kmeans(vectors, 200, 10, generator))
    assert refined < 0.9 * seeded and seeded < plain


@pytest.mark.parametrize("count", [1, 3, 8])
def test_initialization_with_fewer_vectors_than_codes_uses_them_all(count: int) -> None:
    quantizer = EMVectorQuantizer(8, 2)
    z = torch.randn(count, 2)
    quantizer.initialize_codebook(z)
    assert torch.equal(quantizer.codebook[:count].unique(dim=0), z.unique(dim=0))
    distances = torch.cdist(quantizer.codebook, z).amin(1)
    assert float(distances.max()) < 0.1 * float(z.std(correction=0)) or count == 1


def test_identical_vectors_can_be_the_start() -> None:
    quantizer = EMVectorQuantizer(4, 2)
    quantizer.initialize_codebook(torch.ones(50, 2))
    torch.testing.assert_close(quantizer.codebook, torch.ones(4, 2))


def test_initialization_refuses_padding_only_and_numbers_that_are_not_finite() -> None:
    quantizer = EMVectorQuantizer(4, 2)
    with pytest.raises(ValueError, match="no valid vector"):
        quantizer.initialize_codebook(torch.ones(5, 2), torch.zeros(5, dtype=torch.bool))
    with pytest.raises(ValueError, match="not finite"):
        quantizer.initialize_codebook(torch.full((5, 2), float("inf")))
    assert not quantizer.initialized


def test_use_before_initialization_warns() -> None:
    quantizer = EMVectorQuantizer(4, 2)
    with pytest.warns(UserWarning, match="initialize_codebook"):
        quantizer(torch.randn(5, 2))


# Revival


def stale_quantizer(**options: object) -> EMVectorQuantizer:
    """Codes 0 to 3 on data around the origin, codes 4 to 7 far away from any."""
    torch.manual_seed(10)
    quantizer = EMVectorQuantizer(8, 2, decay=0.5, revival_threshold=0.1, **options)  # type: ignore[arg-type]
    codes = torch.randn(8, 2)
    codes[4:] += 1000.0
    quantizer.set_codebook(codes, count=10.0)
    return quantizer


def test_stale_codes_are_replaced_by_vectors_just_seen() -> None:
    quantizer = stale_quantizer()
    for _ in range(10):
        z = torch.randn(40, 2)
        quantizer(z, torch.arange(40) < 20)
        before = state(quantizer)
        quantizer.update_codebook()
        if int(quantizer.revived):
            break
    assert int(quantizer.revived) == 4
    # The code itself, its count and its sum; and only valid vectors, none of them twice.
    assert len(quantizer.codebook[4:].unique(dim=0)) == 4
    for code in range(4, 8):
        assert bool((quantizer.codebook[code] == z[:20]).all(dim=1).any())
    expected = quantizer.counts[0, 4]
    decayed = 0.5 * before["counts"][0].double()
    decayed[:4] += 0.5 * torch.bincount(torch.cdist(z[:20], before["codebook"]).argmin(1), minlength=4)
    torch.testing.assert_close(expected.double(), 0.1 * decayed.mean(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(quantizer.counts[0, 4:], expected.expand(4))
    torch.testing.assert_close(quantizer.sums[4:], quantizer.codebook[4:] * expected)
    torch.testing.assert_close(quantizer.counts[0, :4].double(), decayed[:4])
    quantizer.reset_histogram()
    assert int(quantizer.revived) == 0


def test_replaced_codes_that_nothing_takes_are_replaced_again_at_once() -> None:
    """A vector far away from all others is the likeliest new place of a code, and a bad one."""
    torch.manual_seed(16)
    quantizer = EMVectorQuantizer(3, 2, decay=0.9, revival_threshold=0.1)
    quantizer.set_codebook(torch.tensor([[-1.0, 0.0], [1.0, 0.0], [1000.0, 0.0]]), count=10.0)
    quantizer.counts[0, 2] = 0.0
    far = torch.tensor([[-500.0, 0.0]])
    quantizer(torch.cat([torch.randn(40, 2), far]))
    quantizer.update_codebook()
    assert quantizer.codebook[2].tolist() == far[0].tolist()
    quantizer(torch.randn(40, 2))
    quantizer.update_codebook()
    assert int(quantizer.revived) == 2
    assert float(quantizer.codebook[2].abs().max()) < 5.0


def test_clusters_without_a_code_get_one() -> None:
    """Codes that share a cluster are stale beside the others, which K-means alone never mends."""
    torch.manual_seed(17)
    centres = 20.0 * torch.eye(8)
    quantizer = EMVectorQuantizer(8, 8, decay=0.9, revival_threshold=0.7)
    quantizer.set_codebook(centres[[0, 0, 0, 1, 1, 2, 3, 4]] + torch.randn(8, 8), count=8.0)
    for _ in range(300):
        quantizer(centres[torch.randint(8, (64,))] + torch.randn(64, 8))
        quantizer.update_codebook()
    quantizer.revival = False
    assert sorted(quantizer.eval()(centres).codes.tolist()) == list(range(8))


def test_revival_can_be_switched_off_between_steps() -> None:
    quantizer = stale_quantizer()
    quantizer(torch.randn(20, 2))
    quantizer.revival = False
    for _ in range(20):
        quantizer(torch.randn(20, 2))
        quantizer.update_codebook()
    assert int(quantizer.revived) == 0
    assert float(quantizer.codebook[4:].min()) > 100.0


def test_revival_replaces_no_more_codes_than_there_are_vectors() -> None:
    quantizer = stale_quantizer()
    while not int(quantizer.revived):
        quantizer(torch.randn(2, 2))
        quantizer.update_codebook()
    assert int(quantizer.revived) == 2


def test_revival_in_blocks_and_of_many_codes() -> None:
    torch.manual_seed(11)
    quantizer = EMVectorQuantizer(MAX_REVIVED + 50, 4, blocks=2, decay=0.5, init="random")
    for _ in range(12):
        quantizer(torch.randn(1000, 4))
        quantizer.update_codebook()
    assert int(quantizer.revived) > MAX_REVIVED
    assert float(quantizer.codebook.abs().max()) < 10.0
    assert float(quantizer(torch.randn(5000, 4)).metrics["usage"]) > 0.9


def test_sample_of_vectors_follows_weights_over_batches_and_skips_padding() -> None:
    torch.manual_seed(12)
    drawn = torch.zeros(30)
    weights = 1.0 + (torch.arange(30) % 3)
    weights[25:] = 0.0
    for _ in range(3000):
        statistics = Statistics(1, 1, 1, torch.device("cpu"))
        values = torch.arange(30.0)[:, None]
        statistics.keep(values[:10], weights[:10], torch.rand(10))
        statistics.keep(values[10:], weights[10:], torch.rand(20))
        vectors, present = statistics.sample()
        assert bool(present.all())
        drawn[vectors[:, 0].long()] += 1
    assert float(drawn[25:].sum()) == 0.0
    expected = 3000 * weights[:25] / weights.sum()
    assert float(((drawn[:25] - expected) / expected.sqrt()).abs().max()) < 4.0


def test_sample_has_no_vector_twice_and_may_stay_short() -> None:
    torch.manual_seed(13)
    statistics = Statistics(1, 5, 1, torch.device("cpu"))
    statistics.keep(torch.arange(4.0)[:, None], torch.tensor([1.0, 100.0, 0.0, 1e-20]), torch.rand(4))
    vectors, present = statistics.sample()
    assert sorted(vectors[present, 0].tolist()) == [0.0, 1.0, 3.0]
    statistics.clear()
    assert not bool(statistics.sample()[1].any())


@pytest.mark.parametrize(("size", "vectors"), [(4096, 64), (4096, 200), (512, 64)])
def test_codes_that_wait_for_a_place_are_not_drawn_away_at_once(size: int, vectors: int) -> None:
    """Counts near epsilon would draw them to the origin."""
    torch.manual_seed(15)
    quantizer = EMVectorQuantizer(size, 4, decay=0.99)
    z = 5.0 + torch.randn(vectors, 4)
    quantizer.initialize_codebook(z)
    before = quantizer.codebook.clone()
    quantizer(z)
    quantizer.update_codebook()
    waiting = quantizer.codebook[vectors:].norm(dim=1) / before[vectors:].norm(dim=1)
    # Those that found a place are few here, or near as well.
    assert 0.95 < float(waiting.median()) < 1.05


def test_stale_codes_go_where_codes_are_missing() -> None:
    """Most vectors sit on a code already; a uniform draw would put the stale code on top of it."""
    torch.manual_seed(14)
    for _ in range(20):
        quantizer = EMVectorQuantizer(3, 2, decay=0.5, revival_threshold=0.1)
        quantizer.set_codebook(torch.tensor([[0.0, 0.0], [20.0, 0.0], [1000.0, 0.0]]), count=10.0)
        rest = torch.tensor([[20.0, 0.0]] * 3 + [[10.0, 9.0]])
        while not int(quantizer.revived):
            quantizer(torch.cat([1e-3 * torch.randn(95, 2), rest]))
            quantizer.update_codebook()
        assert quantizer.codebook[2].tolist() == [10.0, 9.0]


# What survives


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_resumed_training_is_bit_equal(assignment: str) -> None:
    torch.manual_seed(13)
    batches = [torch.randn(30, 4) for _ in range(8)]

    def train(quantizer: EMVectorQuantizer, steps: list[Tensor]) -> None:
        for z in steps:
            quantizer(z)
            quantizer.update_codebook()

    quantizer = EMVectorQuantizer(9, 4, assignment, blocks=2, decay=0.6)
    quantizer.initialize_codebook(batches[0])
    train(quantizer, batches[:4])
    file = io.BytesIO()
    torch.save(quantizer.state_dict(), file)
    file.seek(0)
    generator_state = torch.get_rng_state()
    quantizer.reset_histogram()
    train(quantizer, batches[4:])

    resumed = EMVectorQuantizer(9, 4, assignment, blocks=2, decay=0.6)
    resumed(batches[0], accumulate=False)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert resumed.initialized
    torch.set_rng_state(generator_state)
    train(resumed, batches[4:])
    assert_same_state(state(quantizer), state(resumed))


@pytest.mark.parametrize("convert", ["half", "bfloat16", "double"])
def test_state_stays_fp32_whatever_the_model_is_converted_to(convert: str) -> None:
    torch.manual_seed(14)
    model = torch.nn.ModuleDict({"quantizer": EMVectorQuantizer(6, 4), "linear": torch.nn.Linear(4, 4)})
    quantizer = model["quantizer"]
    assert isinstance(quantizer, EMVectorQuantizer)
    z = torch.randn(50, 4)
    quantizer.initialize_codebook(z)
    quantizer(z)
    twin = copy.deepcopy(quantizer)
    getattr(model, convert)()
    assert model["linear"].weight.dtype != torch.float32  # type: ignore[union-attr]
    assert_same_state(state(twin), state(quantizer))
    # What was accumulated survives as well, exactly.
    quantizer.update_codebook()
    twin.update_codebook()
    assert_same_state(state(twin), state(quantizer))
    # And a 16-bit batch counts with the values that it has.
    low = torch.randn(50, 4).to(model["linear"].weight.dtype)  # type: ignore[arg-type]
    quantizer(low)
    twin(low.float())
    quantizer.update_codebook()
    twin.update_codebook()
    assert_same_state(state(twin), state(quantizer))
    restored = EMVectorQuantizer(6, 4).half()
    restored.load_state_dict(quantizer.state_dict())
    assert torch.equal(restored.codebook, quantizer.codebook)
    assert torch.equal(restored.counts, quantizer.counts)


def test_no_buffer_is_boolean_and_none_is_a_parameter() -> None:
    quantizer = EMVectorQuantizer(6, 4)
    assert not list(quantizer.parameters())
    assert all(buffer.dtype != torch.bool for buffer in quantizer.buffers())
    assert set(quantizer.state_dict()) == {"codebook", "counts", "sums", "started", "frozen"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codebook_size": 0}, "codebook_size is 0"),
        ({"codebook_size": 2.5}, "codebook_size is 2.5"),
        ({"dim": -1}, "dim is -1"),
        ({"assignment": "soft"}, "assignment is 'soft'"),
        ({"samples": 0}, "samples is 0"),
        ({"samples": True}, "samples is True"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"decay": 1.0}, "decay is 1.0"),
        ({"decay": -0.1}, "decay is -0.1"),
        ({"epsilon": 0.0}, "epsilon is 0.0"),
        ({"commitment_weight": -1.0}, "commitment_weight is -1.0"),
        ({"blocks": 3}, r"blocks is 3, must be a divisor of dim \(4\)"),
        ({"blocks": 0}, "blocks is 0"),
        ({"init": "kmeans"}, "init is 'kmeans'"),
        ({"revival_threshold": 1.0}, "revival_threshold is 1.0"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"codebook_size": 8, "dim": 4, **options}
    with pytest.raises(ValueError, match=message):
        EMVectorQuantizer(**arguments)  # type: ignore[arg-type]


def test_bad_codes_are_refused() -> None:
    quantizer = EMVectorQuantizer(8, 4)
    with pytest.raises(ValueError, match=r"shape \(4, 8\), must be \(8, 4\)"):
        quantizer.set_codebook(torch.zeros(4, 8))
    with pytest.raises(ValueError, match="count is 0"):
        quantizer.set_codebook(torch.zeros(8, 4), count=0)
