"""The prior over code grids: a proper distribution, in raster order, sampled with a cache as without."""

import itertools

import pytest
import torch
from tiny_images import tiny_prior

from vqnat_plugin.errors import UsageError
from vqnat_plugin.models.options import complete
from vqnat_plugin.models.vq_image_prior import VQImagePrior, VQImagePriorConfig


def test_probabilities_of_all_grids_sum_to_one() -> None:
    prior = tiny_prior(codes=3, shape=(2, 1, 2))
    grids = torch.tensor(list(itertools.product(range(3), repeat=4))).view(-1, 2, 1, 2)
    with torch.no_grad():
        assert float(prior.log_probability(grids).exp().sum()) == pytest.approx(1.0, abs=1e-5)
        assert float(prior(grids).losses["codes"]) == pytest.approx(
            -float(prior.log_probability(grids).sum()), rel=1e-5
        )
    assert prior(grids).codes == 81 * 4


def test_a_state_of_another_autoencoder_is_refused() -> None:
    state = tiny_prior(digest=11).state_dict()
    with pytest.raises(UsageError, match="--codes-from: the prior was trained on the codes of another"):
        tiny_prior(digest=22).upgrade_state_dict(state)
    tiny_prior(digest=11).upgrade_state_dict(state)


def test_a_code_depends_on_those_before_it_alone() -> None:
    prior = tiny_prior()
    codes = torch.randint(6, (1, 2, 2, 2), generator=torch.Generator().manual_seed(1))
    logits = prior.logits(codes).flatten(0, 2)
    for position in range(8):
        changed = codes.clone()
        changed.view(-1)[position] = (changed.view(-1)[position] + 1) % 6
        moved = (prior.logits(changed).flatten(0, 2) != logits).any(-1)
        assert moved.tolist() == [later > position for later in range(8)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_tells_nothing_of_a_code(dtype: torch.dtype) -> None:
    """Not even where embeddings are of very different sizes."""
    torch.manual_seed(0)
    head = tiny_prior(shape=(2, 2, 4)).head.to(dtype)
    with torch.no_grad():
        head.embedding.weight.mul_(torch.logspace(-3, 3, len(head.embedding.weight))[:, None])
    states = torch.randn(50, head.places.size(1), dtype=dtype)
    codes = torch.randint(6, (50, 4))
    logits = head(states, codes)
    for slot in range(4):
        changed = codes.clone()
        changed[:, slot:] = torch.randint(6, (50, 4 - slot))
        assert torch.equal(head(states, changed)[:, : slot + 1], logits[:, : slot + 1])


def test_every_place_has_its_own_position() -> None:
    places = tiny_prior(shape=(2, 3, 2))._positions()
    assert places.shape == (6, 16) and len({row.numpy().tobytes() for row in places.detach()}) == 6


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_cached_sampling_equals_uncached(temperature: float) -> None:
    prior = tiny_prior()
    found = prior.sample(5, temperature, torch.Generator().manual_seed(3))
    assert found.shape == (5, 2, 2, 2)
    generator = torch.Generator().manual_seed(3)
    codes = torch.zeros(5, 2, 2, 2, dtype=torch.long)
    with torch.no_grad():
        for place in range(4):
            for slot in range(2):
                probabilities = (prior.logits(codes)[:, place, slot] / temperature).softmax(-1)
                drawn = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
                codes[:, place // 2, place % 2, slot] = drawn
    assert torch.equal(found, codes)


def test_samples_follow_the_probabilities() -> None:
    prior = tiny_prior(codes=3, shape=(1, 2, 1))
    drawn = prior.sample(20_000, generator=torch.Generator().manual_seed(1)).flatten(1)
    grids = torch.tensor(list(itertools.product(range(3), repeat=2)))
    with torch.no_grad():
        expected = 20_000 * prior.log_probability(grids.view(-1, 1, 2, 1)).exp()
    found = torch.stack([(drawn == grid).all(1).sum() for grid in grids])
    assert float(((found - expected) / expected.sqrt()).abs().max()) < 4.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, "--layers 0: needs at least 1"),
        ({"dropout": 1.0}, "--dropout 1.0: needs a value from 0 to below 1"),
        ({"attention_heads": 3}, "--attention-heads 3: needs a divisor of --embed-dim"),
    ],
)
def test_options_out_of_range(changes: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        complete(VQImagePriorConfig, VQImagePriorConfig(**changes))


def test_a_task_without_codes() -> None:
    with pytest.raises(UsageError, match="add --task image_vq --codes-from CHECKPOINT"):
        VQImagePrior.build_model(VQImagePriorConfig(), object())
