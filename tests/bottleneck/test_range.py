"""Numbers at the ends of fp32: right, against double precision, or refused; never silently wrong."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vqnat_plugin.bottleneck import EMVectorQuantizer, GradientQuantizer, GumbelQuantizer
from vqnat_plugin.bottleneck.assignment import Similarity, nearest_codes, posterior_codes, sample_codes
from vqnat_plugin.bottleneck.kmeans import kmeans

DRAWS = 40
# A draw is a multiple of 2^-24, so that none is of a code less probable than exp(-17).
RAREST = 17.0


def distances(vectors: Tensor, codes: Tensor) -> Tensor:
    """(N, K) squared distances, fp64."""
    return (vectors.double()[:, None] - codes.double()).square().sum(dim=2)


def rounding(vectors: Tensor, codes: Tensor) -> Tensor:
    """(N, 1): how far fp32 may take a squared distance, up to what all codes have in common."""
    centre = codes.double().mean(dim=0)
    spread = (codes.double() - centre).norm(dim=1).max() + 1e-7 * centre.norm()
    away = (vectors.double() - centre).norm(dim=1, keepdim=True)
    return 2e-6 * (away + spread) * spread + 2e-7 * (away + spread) * centre.norm()


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Vectors and codes: their scales, the distance between them, and that from the origin, all at random."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    size, dim = draw(st.sampled_from([1, 2, 5, 37, 100])), draw(st.sampled_from([1, 3, 16]))
    scale = 10.0 ** draw(st.integers(-36, 29))
    ratio = 10.0 ** draw(st.sampled_from([-12, -3, 0, 0, 0, 3, 12]))
    offset = 10.0 ** draw(st.sampled_from([-99, -99, 0, 2]))
    codes = (torch.randn(size, dim, generator=generator).double() + offset) * scale
    vectors = torch.randn(20, dim, generator=generator).double() * min(scale * ratio, 1e37) + offset * scale
    return vectors.float(), codes.clamp(-1e30, 1e30).float()


@settings(max_examples=200)
@given(problems())
def test_nearest_codes_at_every_scale(problem: tuple[Tensor, Tensor]) -> None:
    vectors, codes = problem
    exact = distances(vectors, codes)
    found = exact.gather(1, nearest_codes(vectors, codes)[:, None])
    assert bool((found <= exact.amin(dim=1, keepdim=True) + rounding(vectors, codes)).all())


@settings(max_examples=200)
@given(problems(), st.integers(-30, 30))
def test_draws_and_posteriors_at_every_scale_and_temperature(
    problem: tuple[Tensor, Tensor], exponent: int
) -> None:
    vectors, codes = problem
    temperature = 10.0**exponent
    exact, error = distances(vectors, codes), rounding(vectors, codes)
    uniforms = torch.rand(len(vectors), DRAWS, generator=torch.Generator().manual_seed(1))
    soft = sample_codes(vectors, codes, temperature, uniforms)
    weights = torch.ones(len(vectors))
    whole = posterior_codes(vectors, Similarity(codes, temperature), weights)
    assert soft.samples is not None
    best = exact.amin(dim=1, keepdim=True)
    assert bool((exact.gather(1, soft.nearest[:, None]) <= best + error).all())
    assert torch.equal(soft.nearest, whole.nearest)
    assert bool((exact.gather(1, soft.samples) <= best + error + RAREST * temperature).all())
    assert float(whole.counts.sum()) == pytest.approx(len(vectors), rel=1e-5)
    assert bool(whole.means.isfinite().all() & soft.entropy.isfinite().all())
    # Where rounding does not decide, it is the posterior itself.
    clear = (error < 1e-3 * temperature).squeeze(1)
    p = ((best - exact) / temperature).softmax(dim=1)[clear]
    torch.testing.assert_close(
        soft.entropy[clear].double(), torch.special.entr(p).sum(dim=1), atol=2e-2, rtol=0
    )
    torch.testing.assert_close(soft.entropy, whole.entropy, atol=1e-3, rtol=1e-3)
    cumulated = torch.nn.functional.pad(p.cumsum(dim=1), (1, 0))
    samples, draws = soft.samples[clear], 1.0 - uniforms.double()[clear]
    assert bool((cumulated.gather(1, samples) - 1e-2 <= draws).all())
    assert bool((draws <= cumulated.gather(1, samples + 1) + 1e-2).all())
    spread = float((codes.double() - codes.double().mean(dim=0)).abs().max())
    centre = float(codes.double().abs().max())
    tolerance = 1e-2 * spread + 1e-6 * centre
    assert bool(((whole.means[clear].double() - p @ codes.double()).abs() <= tolerance).all())


@pytest.mark.parametrize("power", [-60, -49, -20, -1, 1, 20, 49, 60])
def test_powers_of_two_change_no_bit(power: int) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors, codes = torch.randn(50, 8, generator=generator), torch.randn(70, 8, generator=generator)
    uniforms = torch.rand(50, 10, generator=generator)
    scale = 2.0**power
    assert torch.equal(nearest_codes(vectors * scale, codes * scale), nearest_codes(vectors, codes))
    if abs(power) < 50:
        one = sample_codes(vectors, codes, 1.0, uniforms)
        other = sample_codes(vectors * scale, codes * scale, scale * scale, uniforms)
        assert one.samples is not None and other.samples is not None
        assert torch.equal(one.samples, other.samples) and torch.equal(one.entropy, other.entropy)
    first, second = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    found = kmeans(vectors * scale, 9, 3, first)
    assert torch.equal(found, kmeans(vectors, 9, 3, second) * scale)


@pytest.mark.parametrize("scale", [1e-25, 1e-18, 1e18, 1e20, 1e25])
@pytest.mark.parametrize("assignment", ["hard", "monte_carlo", "posterior"])
def test_training_at_extreme_scales(scale: float, assignment: str) -> None:
    torch.manual_seed(0)
    centres = torch.randn(4, 6)
    labels = torch.randint(4, (200,))
    z = ((centres[labels] + 0.01 * torch.randn(200, 6)) * scale).requires_grad_()
    quantizer = EMVectorQuantizer(4, 6, assignment, temperature=1.0, decay=0.5)
    quantizer.initialize_codebook(z.detach())
    for _ in range(3):
        out = quantizer(z)
        quantizer.update_codebook()
    error = distances(out.quantized.detach(), z.detach()).diagonal().mean()
    exact, found = float(0.25 * error / 6), float(out.commitment_loss)
    # Infinite where the sum of the squares is.
    assert found == pytest.approx(math.inf if exact > 3e37 / z.numel() else exact, rel=1e-3, abs=1e-38)
    assert bool(quantizer.codebook.isfinite().all())
    if scale > 1:
        clusters = quantizer(z).codes
        assert all(len(set(clusters[labels == label].tolist())) == 1 for label in range(4))
        assert len(set(clusters.tolist())) == 4
        assert float(distances(quantizer.codebook / scale, centres).amin(dim=1).max()) < 0.01


def test_what_no_code_can_hold_is_refused() -> None:
    quantizer = EMVectorQuantizer(4, 3)
    large = torch.full((8, 3), 1e33)
    for given_ in (large, torch.full((8, 3), math.nan), torch.full((8, 3), -math.inf)):
        with pytest.raises(ValueError, match=r"not finite, or beyond 1e\+30"):
            quantizer.initialize_codebook(given_)
        with pytest.raises(ValueError, match=r"not finite, or beyond 1e\+30"):
            quantizer.set_codebook(given_[:4])
    quantizer.initialize_codebook(torch.randn(8, 3))
    before = quantizer.codebook.clone()
    quantizer(large)
    with pytest.warns(UserWarning, match="M step skipped"):
        assert not quantizer.update_codebook()
    assert torch.equal(quantizer.codebook, before)
    quantizer(torch.randn(8, 3))
    assert quantizer.update_codebook()


@pytest.mark.parametrize("temperature", [0.0, -1.0, 1e-31, 1e31, math.inf, math.nan])
def test_temperatures_out_of_range_are_refused(temperature: float) -> None:
    for make in (
        lambda: EMVectorQuantizer(4, 3, "posterior", temperature=temperature),
        lambda: GumbelQuantizer(4, 3, temperature),
        lambda: Similarity(torch.zeros(4, 3), temperature),
    ):
        with pytest.raises(ValueError, match=r"temperature is .*, must be positive, from 1e-30 to 1e"):
            make()
    quantizer = EMVectorQuantizer(4, 3, "monte_carlo", init="random")
    quantizer.temperature = temperature
    with pytest.raises(ValueError, match="temperature is "):
        quantizer(torch.zeros(2, 3))


def test_relaxed_draws_are_those_of_the_posterior_at_every_temperature() -> None:
    torch.manual_seed(0)
    z = torch.randn(200, 6)
    found = []
    for temperature in (1e-30, 1e-3, 1.0, 1e8, 1e30):
        torch.manual_seed(1)
        quantizer = GumbelQuantizer(16, 6, temperature)
        inputs = z.clone().requires_grad_()
        torch.manual_seed(2)
        out = quantizer(inputs)
        out.quantized.square().sum().backward()
        assert out.samples is not None and inputs.grad is not None
        assert bool(inputs.grad.isfinite().all())
        assert torch.equal(out.quantized, quantizer.lookup(out.samples.squeeze(-1)))
        found.append(out.samples)
    assert all(torch.equal(each, found[0]) for each in found)
    assert len(found[0].unique()) > 8


@pytest.mark.parametrize("scale", [1e-25, 1e20])
def test_codes_trained_by_gradients_at_extreme_scales(scale: float) -> None:
    torch.manual_seed(0)
    quantizer = GradientQuantizer(16, 6).eval()
    with torch.no_grad():
        quantizer.codebook.mul_(scale)
    z = torch.randn(50, 6) * scale
    assert torch.equal(quantizer(z).codes, distances(z, quantizer.codebook.detach()).argmin(dim=1))
