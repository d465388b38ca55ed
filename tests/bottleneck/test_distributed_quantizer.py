"""Two processes equal one with both batches."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor

from vqnat_plugin.bottleneck import EMVectorQuantizer, Quantizer, ResidualEMQuantizer
from vqnat_plugin.bottleneck.collectives import gather_ragged_rows

STEPS = 6
State = dict[str, Tensor]


def batch(step: int, rank: int | None) -> tuple[Tensor, Tensor]:
    """Vectors (20, 4) and mask (20,) of one rank, or (40, 4) and (40,) of both."""
    generator = torch.Generator().manual_seed(step)
    z, mask = torch.randn(2, 20, 4, generator=generator), torch.rand(2, 20, generator=generator) < 0.7
    mask[:, 0] = True
    return (z.flatten(0, 1), mask.flatten()) if rank is None else (z[rank], mask[rank])


def random_numbers_of(rank: int | None, seed: int, before: int) -> None:
    """Seeds the generator; the second rank skips the `before` numbers that belong to the first."""
    torch.manual_seed(seed)
    if rank == 1:
        torch.rand(before)


def state(quantizer: Quantizer) -> State:
    buffers = {name: buffer.clone() for name, buffer in quantizer.named_buffers()}
    return {"codebook": quantizer.codebook.clone(), **buffers}


def train_hard(rank: int | None) -> State:
    """Hard EM in two blocks with accumulation over two forwards."""
    torch.manual_seed(0)
    quantizer = EMVectorQuantizer(8, 4, blocks=2, decay=0.7, init="random", revival=False)
    for step in range(STEPS):
        for part in range(2):
            quantizer(*batch(2 * step + part, rank))
        quantizer.update_codebook()
    return state(quantizer)


def train_monte_carlo(rank: int | None) -> State:
    torch.manual_seed(0)
    quantizer = EMVectorQuantizer(8, 4, "monte_carlo", samples=3, decay=0.7, init="random", revival=False)
    for step in range(STEPS):
        random_numbers_of(rank, step, before=20 * 3)
        quantizer(*batch(step, rank))
        quantizer.update_codebook()
    return state(quantizer)


def train_posterior(rank: int | None) -> State:
    torch.manual_seed(0)
    quantizer = EMVectorQuantizer(8, 4, "posterior", decay=0.7, init="random", revival=False)
    for step in range(STEPS):
        quantizer(*batch(step, rank))
        quantizer.update_codebook()
    return state(quantizer)


def train_with_revival(rank: int | None) -> State:
    torch.manual_seed(0)
    quantizer = EMVectorQuantizer(30, 4, decay=0.3, revival_threshold=0.5)
    quantizer.initialize_codebook(*batch(0, rank))
    for step in range(STEPS):
        random_numbers_of(rank, step, before=20)
        quantizer(*batch(step, rank))
        quantizer.update_codebook()
    return state(quantizer)


def train_residual(rank: int | None) -> State:
    """Three levels, two groups each; codes start from data, level by level."""
    torch.manual_seed(0)
    quantizer = ResidualEMQuantizer(3, 8, 4, blocks=2, decay=0.7, revival=False)
    quantizer.initialize_codebook(*batch(0, rank))
    for step in range(STEPS):
        quantizer(*batch(step, rank))
        quantizer.update_codebook()
    return state(quantizer)


def train_forward_on_the_sphere(rank: int | None) -> State:
    """No M step by hand, and a code that keeps still."""
    torch.manual_seed(0)
    quantizer = EMVectorQuantizer(8, 4, distance="cosine", update="forward", decay=0.7, revival=False)
    for step in range(STEPS):
        quantizer(*batch(step, rank))
        quantizer.freeze(torch.tensor([2]))
    quantizer.update_codebook()
    return state(quantizer)


class Model(torch.nn.Module):
    """A parameter, which DistributedDataParallel asks for, and a quantiser."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.quantizer = EMVectorQuantizer(8, 4, decay=0.7, init="random", revival=False)

    def forward(self, z: Tensor, mask: Tensor) -> Tensor:
        return self.quantizer(self.scale * z, mask).commitment_loss


def train_under_ddp(rank: int | None) -> State:
    """DistributedDataParallel copies buffers of the first rank to all before each of two forwards a step."""
    torch.manual_seed(0)
    model = Model()
    wrapped = model if rank is None else torch.nn.parallel.DistributedDataParallel(model)
    for step in range(STEPS):
        for part in range(2):
            wrapped(*batch(2 * step + part, rank)).backward()
        model.quantizer.update_codebook()
    return state(model.quantizer)


def start(rank: int | None) -> State:
    """Initialisation from data, when ranks hold different generators and numbers of vectors."""
    torch.manual_seed(0 if rank != 1 else 123)
    quantizer = EMVectorQuantizer(6, 4)
    torch.manual_seed(0 if rank != 1 else 123)
    z, mask = batch(0, rank)
    quantizer.initialize_codebook(z, mask, batches=2)
    return state(quantizer)


def one_rank_without_data(rank: int | None) -> State:
    """The second rank has only dummy batches, and in one step nobody has data."""
    torch.manual_seed(0)
    quantizer = EMVectorQuantizer(8, 4, decay=0.7, init="random")
    for step in range(STEPS):
        torch.manual_seed(step)
        z, mask = batch(step, rank or 0)
        quantizer(z, mask, accumulate=rank != 1 and step != 3)
        assert quantizer.update_codebook() is (step != 3)
    return state(quantizer)


def one_rank_without_a_vector_at_the_start(rank: int | None) -> State:
    torch.manual_seed(0)
    quantizer = EMVectorQuantizer(6, 4)
    z, mask = batch(0, rank or 0)
    quantizer.initialize_codebook(z, mask & (rank != 1))
    return state(quantizer)


SCENARIOS: dict[str, Callable[[int | None], State]] = {
    function.__name__: function
    for function in (
        train_hard,
        train_monte_carlo,
        train_posterior,
        train_with_revival,
        train_residual,
        train_forward_on_the_sphere,
        train_under_ddp,
        start,
        one_rank_without_data,
        one_rank_without_a_vector_at_the_start,
    )
}


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    results: dict[str, object] = {name: scenario(rank) for name, scenario in SCENARIOS.items()}
    # Every rank raises, so that none waits for the others.
    mask = torch.zeros(20, dtype=torch.bool)
    try:
        EMVectorQuantizer(4, 4).initialize_codebook(torch.ones(20, 4), mask)
    except ValueError as error:
        results["error"] = str(error)
    results["rows"] = gather_ragged_rows(torch.full((rank, 2), float(rank)))
    # A group of one rank does not wait for the other.
    groups = [dist.new_group([0]), dist.new_group([1])]
    alone = EMVectorQuantizer(4, 4, init="random")
    if rank == 0:
        alone(torch.ones(3, 4))
    results["alone"] = alone.update_codebook(groups[rank])
    both = dist.new_group([0, 1])
    alone(torch.ones(3, 4))
    results["both"] = alone.update_codebook(both)
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """What each of two gloo processes found."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(run_rank, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", SCENARIOS)
def test_two_ranks_equal_one_with_both_batches(name: str, results: list[dict[str, object]]) -> None:
    expected = SCENARIOS[name](None)
    assert bool(expected["codebook"].isfinite().all())
    if name == "train_with_revival":
        assert int(expected["revived"]) > 0
    for found in (results[0][name], results[1][name]):
        assert isinstance(found, dict) and found.keys() == expected.keys()
        for key in expected:
            # The products of the posterior round by shape, and thirds in fp64 by the order of addition.
            if name == "train_posterior" or expected[key].dtype == torch.float64:
                torch.testing.assert_close(found[key], expected[key])
            else:
                assert torch.equal(found[key], expected[key]), key


def test_ranks_agree_bit_by_bit(results: list[dict[str, object]]) -> None:
    for name in SCENARIOS:
        one, other = results[0][name], results[1][name]
        assert isinstance(one, dict) and isinstance(other, dict)
        assert all(torch.equal(one[key], other[key]) for key in one), name


def test_errors_groups_and_gathering(results: list[dict[str, object]]) -> None:
    for rank, found in enumerate(results):
        assert "no valid vector" in str(found["error"])
        assert torch.equal(found["rows"], torch.ones(1, 2))  # type: ignore[arg-type]
        assert found["alone"] is (rank == 0)
        assert found["both"] is True
