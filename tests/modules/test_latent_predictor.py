"""The predictor: step by step it writes what it learns all at once."""

import torch
from torch import Tensor

from vqnat_plugin.modules.attention import TransformerStack
from vqnat_plugin.modules.latent_predictor import LatentPredictor

DIM, CODE_DIM, CODES = 12, 6, 5


def predictor() -> LatentPredictor:
    torch.manual_seed(0)
    return LatentPredictor(CODES, CODE_DIM, DIM, TransformerStack(2, DIM, 24, 3, 0.0, cross=True)).eval()


def source(batch: int) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, 7, DIM), torch.arange(7) < torch.randint(1, 8, (batch, 1))


def test_cached_steps_equal_the_teacher_forced_pass() -> None:
    model = predictor()
    memory, mask = source(2)
    latents = torch.randn(6, 4, CODE_DIM)
    logits = model(latents, memory.repeat_interleave(3, 0), mask.repeat_interleave(3, 0))
    assert logits.shape == (6, 5, CODES + 1) and model.end == CODES
    projected, past = model.stack.project(memory), None
    for position in range(5):
        last = latents[:, position - 1] if position else None
        step, past = model.step(last, position, 6, projected, mask, past)
        torch.testing.assert_close(step, logits[:, position], atol=1e-5, rtol=1e-4)


def test_a_step_sees_the_codes_before_it_and_nothing_else() -> None:
    model = predictor()
    memory, mask = source(1)
    latents = torch.randn(1, 4, CODE_DIM)
    changed = latents.clone()
    changed[:, 2] = torch.randn(1, CODE_DIM)
    moved = (model(latents, memory, mask) - model(changed, memory, mask)).abs().amax((0, 2)) > 1e-6
    assert moved.tolist() == [False, False, False, True, True]


def test_padding_of_the_source_never_matters() -> None:
    model = predictor()
    memory, mask = source(8)
    assert not mask.all()
    latents = torch.randn(8, 4, CODE_DIM)
    torch.testing.assert_close(
        model(latents, memory + 9 * ~mask[..., None], mask), model(latents, memory, mask)
    )
    assert not torch.allclose(
        model(latents, memory + 9 * mask[..., None], mask), model(latents, memory, mask)
    )
