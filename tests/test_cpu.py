"""Dropout with four decisions out of each random number, and fairseq's Adam in one pass."""

import copy

import pytest
import torch
import torch.nn.functional as F
from fairseq.optim.adam import Adam

from vqnat_plugin import cpu
from vqnat_plugin.cpu import has_bfloat16


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_rate_scale_and_gradient(p: float, dtype: torch.dtype) -> None:
    x = torch.ones(401, 999, dtype=dtype, requires_grad=True)
    y = cpu.dropout(x, p)
    kept = y != 0
    # Six standard deviations of a mean of 400,599 independent decisions.
    assert abs(kept.float().mean().item() - (1 - p)) < 6 * (p * (1 - p) / x.numel()) ** 0.5
    assert torch.equal(y[kept], torch.full_like(y[kept], 1 / (1 - p)))
    y.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, y.detach())


def test_decisions_of_one_number_are_independent() -> None:
    kept = (cpu.dropout(torch.ones(400_000), 0.5) != 0).float().view(-1, 4)
    correlation = torch.corrcoef(kept.t())
    assert (correlation - torch.eye(4)).abs().max() < 0.02
    assert (kept.mean(0) - 0.5).abs().max() < 0.01


def test_everything_else_is_torch() -> None:
    x = torch.randn(5, 3)
    assert torch.equal(cpu.dropout(x, 0.0), x)
    assert torch.equal(cpu.dropout(x, 1.0), torch.zeros_like(x))
    assert torch.equal(cpu.dropout(x, 0.3, training=False), x)
    with pytest.raises(ValueError, match=r"1\.5"):
        cpu.dropout(x, 1.5)


def test_odd_sizes() -> None:
    for count in range(9):
        assert cpu.dropout(torch.ones(count), 0.5).shape == (count,)


def test_use_fast_kernels_reaches_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(F, "dropout", F.dropout)
    monkeypatch.setattr(Adam, "step", Adam.step)
    enabled = torch.backends.cuda.flash_sdp_enabled()
    try:
        cpu.use_fast_kernels()
        torch.manual_seed(1)
        expected = cpu.dropout(torch.ones(64), 0.5)
        torch.manual_seed(1)
        assert torch.equal(torch.nn.Dropout(0.5)(torch.ones(64)), expected)
        assert not torch.backends.cuda.flash_sdp_enabled()
    finally:
        torch.backends.cuda.enable_flash_sdp(enabled)


FUSED_STEP = cpu.with_fused_step(Adam.step)


def adam(seed: int = 0) -> Adam:
    torch.manual_seed(seed)
    parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in ((7, 5), (300,), (4,))]
    return Adam(parameters, lr=0.01, betas=(0.9, 0.98), eps=1e-3, weight_decay=0.1)


def give_gradients(optimizer: Adam, update: int) -> None:
    """Gradients from tiny to large; the last parameter has its first one late."""
    generator = torch.Generator().manual_seed(update)
    for number, p in enumerate(optimizer.param_groups[0]["params"]):
        scale = 10.0 ** torch.randint(-8, 3, p.shape, generator=generator)
        p.grad = torch.randn(p.shape, generator=generator) * scale
        if number == 2 and update < 3:
            p.grad = None


def test_fused_adam_is_that_of_fairseq_and_goes_on_from_its_state() -> None:
    plain, fused = adam(), adam()
    for update in range(6):
        for optimizer, step in ((plain, Adam.step), (fused, FUSED_STEP)):
            give_gradients(optimizer, update)
            step(optimizer)
    resumed = adam(1)
    for p, saved in zip(resumed.param_groups[0]["params"], plain.param_groups[0]["params"], strict=True):
        p.data.copy_(saved)
    resumed.load_state_dict(copy.deepcopy(plain.state_dict()))
    for optimizer, step in ((plain, Adam.step), (fused, FUSED_STEP), (resumed, FUSED_STEP)):
        give_gradients(optimizer, 9)
        step(optimizer)
    for other in (fused, resumed):
        torch.testing.assert_close(other.param_groups[0]["params"], plain.param_groups[0]["params"])
        torch.testing.assert_close(other.state_dict()["state"], plain.state_dict()["state"])


def test_parameters_in_half_precision_are_left_to_fairseq() -> None:
    parameters = [torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16)) for _ in range(2)]
    for p, step in zip(parameters, (Adam.step, FUSED_STEP), strict=True):
        p.grad = torch.ones_like(p)
        step(Adam([p], lr=0.5))
    assert torch.equal(*parameters) and parameters[0][0] < 1


@pytest.mark.parametrize("supported", [True, False])
def test_an_older_torch_is_asked_in_its_words(supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported, raising=False)
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert has_bfloat16.__wrapped__() is supported
