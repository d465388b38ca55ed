"""When the M step is made: by hand, or at the start of the next forward; and what tells of a missing one."""

import warnings

import pytest
import torch

from vqnat_plugin.bottleneck import EMVectorQuantizer, ResidualEMQuantizer
from vqnat_plugin.bottleneck.quantizer import BATCHES_WITHOUT_M_STEP


def pair(**options: object) -> tuple[EMVectorQuantizer, EMVectorQuantizer]:
    """A quantiser with each way to make the M step, in the same state."""
    manual = EMVectorQuantizer(8, 4, decay=0.5, **options)  # type: ignore[arg-type]
    forward = EMVectorQuantizer(8, 4, decay=0.5, update="forward", **options)  # type: ignore[arg-type]
    return manual, forward


@pytest.mark.parametrize("assignment", ["hard", "monte_carlo", "posterior"])
def test_forward_makes_the_m_step_of_the_batch_before(assignment: str) -> None:
    torch.manual_seed(0)
    manual, forward = pair(assignment=assignment)
    batches = torch.randn(5, 30, 4)
    torch.manual_seed(1)
    # A forward takes no random number for the start, so that it can be run once more.
    with torch.random.fork_rng(devices=[]):
        manual.initialize_codebook(batches[0])
    outs = []
    for z in batches:
        outs.append(manual(z))
        manual.update_codebook()
    torch.manual_seed(1)
    for z, out in zip(batches, outs, strict=True):
        assert torch.equal(forward(z).quantized, out.quantized)
    # The last M step is still to come; evaluation does not make it.
    before = forward.codebook.clone()
    forward.eval()(batches[0])
    assert torch.equal(forward.codebook, before) and not torch.equal(before, manual.codebook)
    assert forward.update_codebook() is True
    assert torch.equal(forward.codebook, manual.codebook)


def test_forward_starts_from_the_first_valid_batch() -> None:
    torch.manual_seed(0)
    quantizer = EMVectorQuantizer(4, 4, update="forward")
    z, mask = torch.randn(6, 10, 4), torch.rand(6, 10) < 0.5
    z[~mask] = float("nan")
    quantizer(z, mask, accumulate=False)
    assert not quantizer.initialized
    quantizer(z, mask)
    assert quantizer.initialized and bool(quantizer.codebook.isfinite().all())
    assert float(quantizer.eval()(z, mask).metrics["usage"]) == 1.0


@pytest.mark.parametrize("nothing", [0.0, float("nan")])
def test_forward_starts_from_the_first_batch_that_has_something(nothing: float) -> None:
    torch.manual_seed(0)
    quantizer = EMVectorQuantizer(4, 4, update="forward")
    z = torch.randn(6, 10, 4)
    mask = torch.full((6, 10), nothing != 0.0)
    out = quantizer(torch.full_like(z, nothing), mask)
    assert not quantizer.initialized and out.codes.shape == mask.shape
    quantizer(z)
    assert quantizer.initialized and quantizer.update_codebook()
    assert bool(quantizer.codebook.isfinite().all())


def test_an_update_by_hand_is_not_made_twice() -> None:
    torch.manual_seed(0)
    manual, forward = pair(init="random", revival=False)
    forward.load_state_dict(manual.state_dict())
    for z in torch.randn(4, 30, 4):
        for quantizer in (manual, forward):
            quantizer(z)
            quantizer.update_codebook()
    assert torch.equal(manual.codebook, forward.codebook)


def test_residual_levels_update_forward() -> None:
    torch.manual_seed(0)
    quantizer = ResidualEMQuantizer(3, 8, 4, update="forward", decay=0.5, level_dropout=0.5)
    quantizer(torch.randn(2, 40, 4))
    assert quantizer.initialized
    before = quantizer.codebook.clone()
    for _ in range(6):
        quantizer(torch.randn(20, 10, 4))
    assert bool((quantizer.codebook != before).any(dim=2).any(dim=1).all())


def test_many_batches_without_an_m_step_warn_once() -> None:
    quantizer = EMVectorQuantizer(8, 4, init="random")
    z = torch.randn(3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(BATCHES_WITHOUT_M_STEP - 1):
            quantizer(z)
        # Neither an M step now and then nor evaluation is suspicious.
        quantizer.update_codebook()
        for _ in range(BATCHES_WITHOUT_M_STEP - 1):
            quantizer(z)
            quantizer.eval()(z)
            quantizer.train()(z, accumulate=False)
    with pytest.warns(UserWarning, match=r"no M step.*update_codebook\(\).*update='forward'"):
        quantizer(z)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(BATCHES_WITHOUT_M_STEP):
            quantizer(z)


@pytest.mark.parametrize("levels", [0, 2])
def test_a_loop_that_makes_m_steps_when_it_likes_is_not_warned(levels: int) -> None:
    quantizer = ResidualEMQuantizer(levels, 8, 4) if levels else EMVectorQuantizer(8, 4)
    quantizer.initialize_codebook(torch.randn(50, 4))
    quantizer.expects_m_steps = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(BATCHES_WITHOUT_M_STEP + 1):
            quantizer(torch.randn(3, 4))


def test_modes_are_checked() -> None:
    with pytest.raises(ValueError, match="update is 'never', must be 'manual' or 'forward'"):
        EMVectorQuantizer(8, 4, update="never")
