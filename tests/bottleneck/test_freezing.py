"""Codes that keep still."""

import pytest
import torch

from vqnat_plugin.bottleneck import EMVectorQuantizer


def make(**options: object) -> EMVectorQuantizer:
    torch.manual_seed(0)
    quantizer = EMVectorQuantizer(8, 4, decay=0.5, **options)  # type: ignore[arg-type]
    quantizer.set_codebook(torch.randn(8, 4))
    return quantizer


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("blocks", [1, 2])
def test_frozen_codes_stay_and_the_others_move_as_without(blocks: int, distance: str, decay: float) -> None:
    frozen, free = (make(blocks=blocks, distance=distance, revival=False) for _ in range(2))
    frozen.decay = free.decay = decay
    frozen.freeze(torch.tensor([1, 6]))
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    z = torch.randn(60, 4)
    for quantizer in (frozen, free):
        quantizer(z)
        assert quantizer.update_codebook() is True
    others = torch.tensor([0, 2, 3, 4, 5, 7])
    for name in ("codebook", "sums"):
        assert torch.equal(frozen.state_dict()[name][[1, 6]], before[name][[1, 6]])
        assert torch.equal(frozen.state_dict()[name][others], free.state_dict()[name][others])
    assert torch.equal(frozen.counts[:, [1, 6]], before["counts"][:, [1, 6]])
    assert torch.equal(frozen.counts[:, others], free.counts[:, others])
    assert torch.equal(frozen.histogram, free.histogram)


def test_a_whole_codebook_and_its_release() -> None:
    quantizer = make()
    before = quantizer.codebook.clone()
    quantizer.freeze()
    for _ in range(3):
        quantizer(torch.randn(60, 4))
        quantizer.update_codebook()
    assert torch.equal(quantizer.codebook, before)
    assert float(quantizer.histogram.sum()) == 180
    quantizer.unfreeze()
    quantizer(torch.randn(60, 4))
    quantizer.update_codebook()
    assert not torch.equal(quantizer.codebook, before)


def test_frozen_codes_are_not_replaced_however_stale() -> None:
    quantizer = make(revival_threshold=0.5)
    quantizer.set_codebook(torch.cat([torch.randn(4, 4), 100 + torch.randn(4, 4)]))
    quantizer.freeze(torch.tensor([5]))
    before = quantizer.codebook.clone()
    for _ in range(6):
        quantizer(torch.randn(60, 4))
        quantizer.update_codebook()
    assert torch.equal(quantizer.codebook[5], before[5])
    assert bool((quantizer.codebook[[4, 6, 7]] != before[[4, 6, 7]]).any(dim=1).all())
    assert int(quantizer.revived) >= 3


def test_freezing_is_saved_and_states_of_before_it_can_be_read() -> None:
    quantizer = make()
    quantizer.freeze(torch.tensor([2]))
    state = quantizer.state_dict()
    other = make()
    other.load_state_dict(state)
    other(torch.randn(60, 4))
    other.update_codebook()
    assert torch.equal(other.codebook[2], quantizer.codebook[2])
    del state["frozen"]
    other.load_state_dict(state)
    assert not bool(other.frozen.any())
    other(torch.randn(60, 4))
    other.update_codebook()
    assert not torch.equal(other.codebook[2], quantizer.codebook[2])


def test_a_state_of_other_parts_releases_nothing() -> None:
    model = torch.nn.ModuleDict({"encoder": torch.nn.Linear(4, 4), "quantizer": make()})
    quantizer = model["quantizer"]
    quantizer.freeze(torch.tensor([1, 5]))  # type: ignore[operator]
    parts = {name: value for name, value in model.state_dict().items() if name.startswith("encoder")}
    model.load_state_dict(parts, strict=False)
    assert quantizer.frozen.nonzero().flatten().tolist() == [1, 5]  # type: ignore[operator, union-attr]
    # One of before there was such a thing.
    older = {name: value for name, value in model.state_dict().items() if not name.endswith("frozen")}
    model.load_state_dict(older)
    assert not bool(quantizer.frozen.any())  # type: ignore[operator, union-attr]
