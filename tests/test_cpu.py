"""Dropout with four decisions out of each random number."""

import pytest
import torch
import torch.nn.functional as F

from vqnat_plugin import cpu


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
