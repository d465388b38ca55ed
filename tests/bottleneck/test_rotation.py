"""The rotation trick against its definition, and as the gradient of a quantiser."""

import pytest
import torch

from vqnat_plugin.bottleneck import EMVectorQuantizer
from vqnat_plugin.bottleneck.rotation import rotate, straight_through


def test_the_map_is_a_rotation_and_a_stretch_onto_the_code() -> None:
    torch.manual_seed(0)
    z, code = torch.randn(6, 5), torch.randn(6, 5)
    for vector, target in zip(z, code, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda x, target=target: rotate(x, target), vector)
        # A multiple of an orthogonal matrix of determinant 1 that takes z to the code.
        stretch = target.norm() / vector.norm()
        turn = jacobian / stretch
        torch.testing.assert_close(turn @ turn.T, torch.eye(5), atol=1e-5, rtol=0)
        assert float(torch.linalg.det(turn)) == pytest.approx(1, abs=1e-4)
        torch.testing.assert_close(jacobian @ vector, target, atol=1e-5, rtol=1e-5)
        # Vectors orthogonal to both stay where they are.
        basis = torch.linalg.qr(torch.stack([vector, target], 1), mode="complete").Q[:, 2:]
        torch.testing.assert_close(turn @ basis, basis, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_value_is_the_code(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    z, code = torch.randn(9, 4, dtype=dtype), torch.randn(9, 4)
    for estimator in (rotate, straight_through):
        assert torch.equal(estimator(z, code), code.to(dtype))


def test_where_there_is_no_rotation_gradients_go_straight_through() -> None:
    z = torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, 1.0], [1e-20, 0.0]], requires_grad=True)
    code = torch.tensor([[1.0, 2.0], [0.0, 0.0], [-3.0, -1.0], [1e25, 1e25]])
    upstream = torch.randn(4, 2)
    (gradient,) = torch.autograd.grad(rotate(z, code), z, upstream)
    torch.testing.assert_close(gradient, upstream)


@pytest.mark.parametrize("assignment", ["hard", "monte_carlo", "posterior"])
def test_a_quantiser_passes_rotated_gradients(assignment: str) -> None:
    torch.manual_seed(2)
    quantizer = EMVectorQuantizer(8, 4, assignment, gradient="rotation")
    quantizer.initialize_codebook(torch.randn(50, 4))
    z, mask = torch.randn(3, 6, 4, requires_grad=True), torch.rand(3, 6) < 0.7
    out = quantizer(z, mask)
    upstream = torch.randn(3, 6, 4)
    (gradient,) = torch.autograd.grad(out.quantized, z, upstream)
    (expected,) = torch.autograd.grad(rotate(z, out.quantized.detach()), z, upstream * mask[..., None])
    torch.testing.assert_close(gradient, expected * mask[..., None])
    assert bool((gradient[~mask] == 0).all())
    with pytest.raises(ValueError, match="gradient is 'sideways'"):
        EMVectorQuantizer(8, 4, gradient="sideways")
