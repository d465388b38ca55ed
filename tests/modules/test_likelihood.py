"""Likelihoods of images against brute force: sums over all values, textbook formulas, expected values."""

import math

import pytest
import torch
from torch import Tensor

from vqnat_plugin.modules.likelihood import (
    DENSITIES,
    MixtureLikelihood,
    bits_per_dim,
    gaussian_log_probability,
    logistic_log_probability,
    to_levels,
    to_unit,
)

KINDS = sorted(DENSITIES)


def features_of(
    likelihood: MixtureLikelihood, batch: int, size: int, seed: int = 1, spread: float = 1.0
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, likelihood.parameters_per_pixel, size, size)
    return spread * torch.randn(shape, generator=generator)


def test_levels_round_trip() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_levels(to_unit(levels)), levels)
    assert to_unit(levels)[0] == -1 and to_unit(levels)[-1] == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0])
def test_sums_to_one_over_the_values(kind: str, spread: float) -> None:
    likelihood = MixtureLikelihood(kind, components=3, channels=1)
    features = features_of(likelihood, 1, 1, spread=spread).expand(256, -1, -1, -1)
    values = torch.arange(256).view(256, 1, 1, 1)
    total = likelihood.log_probability(features, values).double().exp().sum()
    assert float(total) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_sums_to_one_over_the_values_of_two_channels(kind: str) -> None:
    likelihood = MixtureLikelihood(kind, components=2, channels=2)
    values = torch.cartesian_prod(torch.arange(256), torch.arange(256)).view(-1, 2, 1, 1)
    features = features_of(likelihood, 1, 1).expand(len(values), -1, -1, -1)
    total = likelihood.log_probability(features, values).double().exp().sum()
    assert float(total) == pytest.approx(1.0, abs=1e-4)


def distribution(kind: str, x: Tensor, mean: float, scale: float) -> Tensor:
    if kind == "logistic":
        return torch.sigmoid((x - mean) / scale)
    return 0.5 * (1 + torch.erf((x - mean) / scale / math.sqrt(2)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("mean", "scale"), [(0.0, 0.3), (0.9, 0.05), (-1.2, 0.4), (0.1, 2.0)])
def test_a_bin_is_the_difference_of_the_distribution(kind: str, mean: float, scale: float) -> None:
    levels = to_unit(torch.arange(256)).double()
    upper = distribution(kind, levels + 1 / 255, mean, scale)
    lower = distribution(kind, levels - 1 / 255, mean, scale)
    upper[-1], lower[0] = 1.0, 0.0
    found = DENSITIES[kind](levels.float(), torch.tensor(mean), torch.tensor(math.log(scale))).double().exp()
    torch.testing.assert_close(found, upper - lower, atol=1e-7, rtol=2e-3)


@pytest.mark.parametrize("density", [logistic_log_probability, gaussian_log_probability])
def test_extreme_parameters_stay_finite(density) -> None:  # type: ignore[no-untyped-def]
    levels = to_unit(torch.arange(256))
    for mean in (-50.0, 0.0, 50.0):
        for log_scale in (-7.0, 0.0, 8.0):
            parameters = torch.tensor([mean, log_scale], requires_grad=True)
            value = density(levels, parameters[0], parameters[1])
            assert bool(value.isfinite().all()) and float(value.detach().max()) <= 1e-6
            value.sum().backward()
            assert bool(parameters.grad.isfinite().all())


def test_channels_are_coupled_as_in_a_hand_computed_case() -> None:
    likelihood = MixtureLikelihood("logistic", components=1, channels=3)
    # weight, means, log scales (one is taken off), couplings before tanh.
    couplings = [0.5, -0.25, 0.75]
    features = torch.tensor([3.0, 0.1, -0.2, 0.3, 0.0, 0.5, -0.5, *(math.atanh(c) for c in couplings)])
    image = torch.tensor([200, 30, 120])
    r, g, b = to_unit(image).tolist()
    means = [0.1, -0.2 + 0.5 * r, 0.3 - 0.25 * r + 0.75 * g]
    expected = 0.0
    for value, mean, log_scale in zip((r, g, b), means, (-1.0, -0.5, -1.5), strict=True):
        scale = math.exp(log_scale)
        upper, lower = (1 / (1 + math.exp(-(value + d / 255 - mean) / scale)) for d in (1, -1))
        expected += math.log(upper - lower)
    found = likelihood.log_probability(features.view(1, -1, 1, 1), image.view(1, 3, 1, 1))
    assert float(found) == pytest.approx(expected, abs=1e-4)
    assert bits_per_dim(-expected, 3) == pytest.approx(-expected / 3 / math.log(2))


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_add_up_and_the_batch_does_not_matter(kind: str) -> None:
    likelihood = MixtureLikelihood(kind, components=2)
    features = features_of(likelihood, 2, 3)
    images = torch.randint(256, (2, 3, 3, 3), generator=torch.Generator().manual_seed(2))
    whole = likelihood.log_probability(features, images)
    for number in range(2):
        parts = [
            likelihood.log_probability(
                features[number : number + 1, :, y : y + 1, x : x + 1],
                images[number : number + 1, :, y : y + 1, x : x + 1],
            )
            for y in range(3)
            for x in range(3)
        ]
        torch.testing.assert_close(torch.cat(parts).sum(), whole[number], atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_mean_is_the_expected_value_where_the_range_does_not_cut(kind: str) -> None:
    likelihood = MixtureLikelihood(kind, components=2, channels=2)
    features = 0.2 * features_of(likelihood, 1, 1, seed=5)
    # Narrow enough that hardly any mass lies beyond the range.
    split = features.view(1, 2, -1, 1, 1)
    split[:, :, 3:5] -= 2.0
    values = torch.cartesian_prod(torch.arange(256), torch.arange(256)).view(-1, 2, 1, 1)
    probability = likelihood.log_probability(features.expand(len(values), -1, -1, -1), values).exp()
    expected = (probability[:, None] * to_unit(values)[:, :, 0, 0]).sum(0)
    torch.testing.assert_close(likelihood.mean(features)[0, :, 0, 0], expected, atol=5e-3, rtol=0)


def test_unknown_kind() -> None:
    with pytest.raises(ValueError, match="kind is 'cauchy', must be one of"):
        MixtureLikelihood("cauchy")
