"""Finite scalar quantisation against its definition."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqnat_plugin.bottleneck import FiniteScalarQuantizer
from vqnat_plugin.bottleneck.finite_scalar import levels_of


@settings(max_examples=40)
@given(levels=st.lists(st.integers(2, 9), min_size=1, max_size=4))
def test_codes_are_all_points_of_the_grid(levels: list[int]) -> None:
    quantizer = FiniteScalarQuantizer(levels)
    size = math.prod(levels)
    assert quantizer.codebook_size == size and quantizer.dim == len(levels)
    values = [[(digit - level // 2) / (level // 2) for digit in range(level)] for level in levels]
    # The first digit counts fastest.
    grid = torch.tensor([point[::-1] for point in itertools.product(*values[::-1])])
    torch.testing.assert_close(quantizer.codebook, grid)
    # Codes of far vectors are the corners, those in the middle the middle.
    far = torch.tensor(list(itertools.product([-50.0, 50.0], repeat=len(levels))))
    corners = torch.tensor(list(itertools.product([0, 1], repeat=len(levels)))) * (torch.tensor(levels) - 1)
    strides = torch.tensor([math.prod(levels[:place]) for place in range(len(levels))])
    assert torch.equal(quantizer.encode(far), (corners * strides).sum(1))


@pytest.mark.parametrize("level", [3, 4, 5, 8])
def test_rounding_and_its_gradient(level: int) -> None:
    quantizer = FiniteScalarQuantizer([level])
    z = torch.linspace(-3, 3, 301)[:, None].double().requires_grad_()
    out = quantizer(z.float())
    half, offset = (level - 1) * 1.001 / 2, 0.5 * (level % 2 == 0)
    bounded = torch.tanh(z + math.atanh(offset / half)) * half - offset
    expected = bounded.round() / (level // 2)
    clear = ((bounded - bounded.round()).abs() < 0.499).squeeze(1)
    torch.testing.assert_close(out.quantized[clear], expected[clear].float())
    assert out.codes.min() == 0 and out.codes.max() == level - 1 and float(out.commitment_loss) == 0
    (gradient,) = torch.autograd.grad(quantizer(z.float()).quantized.sum(), z)
    (closed_form,) = torch.autograd.grad(bounded.sum() / (level // 2), z)
    torch.testing.assert_close(gradient, closed_form, rtol=1e-4, atol=1e-5)


def test_two_levels_are_the_sign() -> None:
    torch.manual_seed(0)
    z = torch.randn(2000, 3, requires_grad=True)
    quantizer = FiniteScalarQuantizer([2, 2, 2])
    out = quantizer(z)
    assert torch.equal(out.quantized, torch.where(z > 0, 0.0, -1.0))
    assert float(out.metrics["perplexity"]) > 7.9
    (gradient,) = torch.autograd.grad(out.quantized.sum(), z)
    torch.testing.assert_close(gradient, (1 - z.tanh() ** 2) * 1.001 / 2, rtol=1e-4, atol=1e-6)


def test_layers_lead_to_and_from_other_widths() -> None:
    torch.manual_seed(0)
    quantizer = FiniteScalarQuantizer([5, 4], dim=7)
    z = torch.randn(3, 6, 7, requires_grad=True)
    out = quantizer(z)
    plain = FiniteScalarQuantizer([5, 4])
    inside = plain(quantizer.project_in(z))
    assert torch.equal(out.codes, inside.codes)
    torch.testing.assert_close(out.quantized, quantizer.project_out(inside.quantized))
    out.quantized.square().sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in quantizer.parameters())  # type: ignore[union-attr]


def test_levels_of_a_size() -> None:
    assert levels_of(512) == [8, 8, 8]
    assert levels_of(1000) == [8, 5, 5, 5]
    assert levels_of(4096) == [8, 8, 8, 8]
    assert levels_of(256) == [8, 8, 4]
    assert levels_of(24) == [6, 4]
    assert levels_of(2) == [2]
    for size in range(2, 300):
        if max(p for p in range(2, size + 1) if size % p == 0 and all(p % q for q in range(2, p))) <= 7:
            assert math.prod(levels_of(size)) == size
    for size in (1, 11, 26, 4099):
        with pytest.raises(ValueError, match=rf"codebook_size is {size}, must be a product"):
            levels_of(size)


@pytest.mark.parametrize("levels", [[], [1], [4, 0], [2.0]])
def test_bad_levels(levels: list[int]) -> None:
    with pytest.raises(ValueError, match="levels is"):
        FiniteScalarQuantizer(levels)


def test_no_vector_has_a_code_beyond_the_grid() -> None:
    quantizer = FiniteScalarQuantizer([1200, 2001, 2])
    far = torch.tensor([[50.0] * 3, [-50.0] * 3])
    assert quantizer.encode(far).tolist() == [quantizer.codebook_size - 1, 0]
    z = torch.tensor([[float("nan"), 0, 0], [float("inf"), float("-inf"), 0]])
    out = quantizer(z)
    assert int(out.codes.min()) >= 0 and int(out.codes.max()) < quantizer.codebook_size
    # So that a step of mixed precision is seen to fail, and is skipped.
    assert bool(out.quantized[0].isnan().any())
