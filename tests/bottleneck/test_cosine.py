"""EM on the sphere against its definition."""

import pytest
import torch
import torch.nn.functional as F

from vqnat_plugin.bottleneck import EMVectorQuantizer


def unit(vectors: torch.Tensor) -> torch.Tensor:
    return F.normalize(vectors, dim=-1)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("assignment", ["hard", "monte_carlo", "posterior"])
def test_assignments_depend_on_directions_alone(assignment: str, scale: float) -> None:
    torch.manual_seed(0)
    quantizer = EMVectorQuantizer(10, 4, assignment, 4000, temperature=0.3, distance="cosine")
    quantizer.set_codebook(torch.randn(10, 4) * 7)
    torch.testing.assert_close(quantizer.codebook.norm(dim=1), torch.ones(10))
    z = torch.randn(40, 4)
    out = quantizer(z * scale)
    cosines = unit(z) @ quantizer.codebook.T
    assert torch.equal(out.codes, cosines.argmax(1))
    p = (2 * cosines / 0.3).softmax(1)
    if assignment == "posterior":
        torch.testing.assert_close(out.soft_codes, p, atol=1e-5, rtol=1e-4)
    if assignment == "monte_carlo":
        assert out.samples is not None
        drawn = F.one_hot(out.samples, 10).float().mean(1)
        torch.testing.assert_close(drawn, p, atol=0.05, rtol=0)
    if assignment == "hard":
        torch.testing.assert_close(out.quantized.norm(dim=1), torch.ones(40))
        error = ((2 - 2 * cosines.amax(1)) / 4).mean()
        torch.testing.assert_close(out.metrics["commitment"], error)


def test_gradients_pass_the_normalisation() -> None:
    torch.manual_seed(1)
    quantizer = EMVectorQuantizer(10, 4, distance="cosine", init="random")
    z = torch.randn(6, 4, requires_grad=True)
    out = quantizer(z)
    upstream = torch.randn(6, 4)
    (gradient,) = torch.autograd.grad(out.quantized, z, upstream)
    (expected,) = torch.autograd.grad(unit(z), z, upstream)
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close((gradient * z).sum(1), torch.zeros(6), atol=1e-6, rtol=0)


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_m_step_is_that_of_spherical_k_means(blocks: int) -> None:
    torch.manual_seed(2)
    quantizer = EMVectorQuantizer(5, 4, distance="cosine", decay=0.0, revival=False, blocks=blocks)
    quantizer.set_codebook(torch.randn(5, 4))
    z = torch.randn(60, 4)
    before, codes = quantizer.codebook.clone(), quantizer(z).codes.view(60, blocks)
    quantizer.update_codebook()
    parts = unit(z.view(60, blocks, -1))
    for block, book in enumerate(quantizer.codebook.chunk(blocks, 1)):
        for code in range(5):
            members = parts[codes[:, block] == code, block]
            old = before.chunk(blocks, 1)[block][code]
            expected = unit(members.sum(0)) if len(members) else old
            torch.testing.assert_close(book[code], expected)
            assert float(book[code].norm()) == pytest.approx(1, abs=1e-6)


def test_averages_and_a_sum_without_direction() -> None:
    quantizer = EMVectorQuantizer(2, 2, distance="cosine", decay=0.5, revival=False)
    quantizer.set_codebook(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), count=4.0)
    quantizer(torch.tensor([[3.0, 3.0], [1.0, 0.0]]) + torch.tensor([1e-3, 0.0]))
    quantizer.update_codebook()
    first = unit(torch.tensor([3.001, 3.0]))
    expected = unit(2 * torch.tensor([1.0, 0.0]) + 0.5 * (first + torch.tensor([1.0, 0.0])))
    torch.testing.assert_close(quantizer.codebook, torch.stack([expected, torch.tensor([0.0, 1.0])]))
    # A code whose vectors cancel out stays where it is.
    quantizer.set_codebook(torch.tensor([[0.0, 1.0], [0.0, -1.0]]))
    quantizer.decay = 0.0
    quantizer(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    quantizer.update_codebook()
    assert torch.equal(quantizer.codebook, torch.tensor([[0.0, 1.0], [0.0, -1.0]]))


def test_the_start_finds_directions() -> None:
    torch.manual_seed(3)
    directions = unit(torch.randn(8, 16))
    lengths = 10 ** (4 * torch.rand(8, 50, 1) - 2)
    z = (directions[:, None] + 0.05 * torch.randn(8, 50, 16)) * lengths
    quantizer = EMVectorQuantizer(8, 16, distance="cosine")
    quantizer.initialize_codebook(z)
    torch.testing.assert_close(quantizer.codebook.norm(dim=1), torch.ones(8))
    best = (directions @ quantizer.codebook.T).amax(1)
    assert float(best.min()) > 0.99
    # With Euclidean distances lengths would hide the directions.
    for _ in range(5):
        quantizer(z)
        quantizer.update_codebook()
    assert float(quantizer.eval()(z).metrics["usage"]) == 1.0


def test_vectors_without_direction_and_16_bits() -> None:
    torch.manual_seed(4)
    quantizer = EMVectorQuantizer(10, 4, distance="cosine", init="random")
    z = torch.randn(20, 4)
    z[3] = 0
    z.requires_grad_()
    out = quantizer(z)
    (out.quantized.sum() + out.commitment_loss).backward()
    assert z.grad is not None and bool(z.grad.isfinite().all())
    quantizer.update_codebook()
    assert bool(quantizer.codebook.isfinite().all())
    low = quantizer.eval()(z.detach().bfloat16())
    assert low.quantized.dtype == torch.bfloat16
    assert torch.equal(low.codes, quantizer(z.detach().bfloat16().float()).codes)
    with pytest.raises(ValueError, match="distance is 'angular'"):
        EMVectorQuantizer(10, 4, distance="angular")
