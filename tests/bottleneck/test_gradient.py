"""The gradient-trained codebook of VQ-VAE: nearest codes, its two losses, padding, and that it learns."""

import pytest
import torch

from vqnat_plugin.bottleneck import GradientQuantizer


def test_nearest_code_straight_through() -> None:
    torch.manual_seed(1)
    quantizer = GradientQuantizer(6, 3)
    z = torch.randn(2, 5, 3, requires_grad=True)
    out = quantizer(z)
    expected = torch.cdist(z, quantizer.codebook.expand(2, 6, 3)).argmin(-1)
    assert torch.equal(out.codes, expected) and torch.equal(out.samples[..., 0], expected)
    torch.testing.assert_close(out.quantized, quantizer.codebook[expected])
    weights = torch.randn(2, 5, 3)
    (out.quantized * weights).sum().backward()
    assert torch.equal(z.grad, weights) and quantizer.codebook.grad is None
    assert torch.equal(quantizer.histogram, torch.bincount(expected.flatten(), minlength=6).double())


def test_losses_are_those_of_the_paper() -> None:
    torch.manual_seed(2)
    quantizer = GradientQuantizer(4, 3, commitment_weight=0.25)
    z = torch.randn(7, 3, requires_grad=True)
    out = quantizer(z)
    chosen = quantizer.codebook[out.codes].detach()
    torch.testing.assert_close(out.commitment_loss, 1.25 * (z - chosen).square().mean())
    out.commitment_loss.backward()
    torch.testing.assert_close(z.grad, 0.25 * 2 * (z - chosen).detach() / 21)
    pull = torch.zeros(4, 3).index_add_(0, out.codes, 2 * (chosen - z.detach()) / 21)
    torch.testing.assert_close(quantizer.codebook.grad, pull)


@pytest.mark.parametrize("filling", [1e30, float("nan")])
def test_padding_never_matters(filling: float) -> None:
    torch.manual_seed(3)
    quantizer = GradientQuantizer(6, 3)
    mask = torch.tensor([[True] * 4, [True, False, False, False]])
    clean = torch.randn(2, 4, 3) * mask[..., None]
    dirty = clean.masked_fill(~mask[..., None], filling).requires_grad_()
    out, expected = quantizer(dirty, mask), quantizer(clean, mask)
    assert torch.equal(out.quantized, expected.quantized) and torch.equal(out.codes, expected.codes)
    torch.testing.assert_close(out.commitment_loss, expected.commitment_loss)
    (out.quantized.sum() + out.commitment_loss).backward()
    assert bool(dirty.grad.isfinite().all()) and bool((dirty.grad[~mask] == 0).all())
    assert float(quantizer.histogram.sum()) == 10


def test_it_finds_two_clusters() -> None:
    torch.manual_seed(4)
    quantizer = GradientQuantizer(2, 2)
    with torch.no_grad():
        quantizer.codebook.copy_(torch.tensor([[-0.1, 0.0], [0.1, 0.0]]))
    data = torch.randn(400, 2) * 0.1 + torch.tensor([[3.0, 1.0], [-3.0, 2.0]]).repeat(200, 1)
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=1.0)
    for _ in range(60):
        optimizer.zero_grad()
        quantizer(data).commitment_loss.backward()
        optimizer.step()
    found = quantizer.codebook.detach()[quantizer.codebook[:, 0].argsort()]
    torch.testing.assert_close(found, torch.tensor([[-3.0, 2.0], [3.0, 1.0]]), atol=0.05, rtol=0)


def test_evaluation_counts_nothing_and_arguments_are_checked() -> None:
    quantizer = GradientQuantizer(4, 3).eval()
    quantizer(torch.randn(5, 3))
    assert float(quantizer.histogram.sum()) == 0.0
    quantizer.train()(torch.randn(5, 3), accumulate=False)
    assert float(quantizer.histogram.sum()) == 0.0
    for arguments in ((0, 3), (4, 0), (4, 3, -1.0)):
        with pytest.raises(ValueError, match="must be"):
            GradientQuantizer(*arguments)
