"""Likelihoods of images: exact probabilities of the 256 values of every channel, in nats.

Source: discretised logistic mixtures as in PixelCNN++ (Salimans et al. 2017, arXiv 1701.05517, section 2.1),
here in a closed form that needs no cases for small scales.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 256
# Scales below this, in units of [-1, 1], make values certain that an image never has twice.
LEAST_LOG_SCALE = -7.0


def to_unit(images: Tensor) -> Tensor:
    """Values 0 to 255 of any type to floats from -1 to 1."""
    return images.float() / ((LEVELS - 1) / 2) - 1


def to_levels(values: Tensor) -> Tensor:
    """Floats from -1 to 1 to the nearest values 0 to 255, uint8."""
    return ((values.clamp(-1, 1) + 1) * ((LEVELS - 1) / 2)).round().to(torch.uint8)


def logistic_log_probability(levels: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log P(level) of a logistic distribution in bins of one level, whose outer bins reach to infinity.

    With a and b the bin's ends in units of the scale, sigma(b) - sigma(a) is
    sigma(b) sigma(-a) (1 - exp(a - b)): no difference of near-equal numbers is ever taken.

    Args:
        levels: values -1 to 1 of the 256 levels.
        mean: same shape, or one that broadcasts.
        log_scale: likewise.
    """
    half_bin = 1 / (LEVELS - 1)
    inverse = torch.exp(-log_scale)
    centred = (levels - mean) * inverse
    width = half_bin * inverse
    upper, lower = centred + width, centred - width
    up_to = F.logsigmoid(upper)
    beyond = F.logsigmoid(-lower)
    inside = up_to + beyond + torch.log(-torch.expm1(-2 * width))
    return torch.where(levels < -1 + half_bin, up_to, torch.where(levels > 1 - half_bin, beyond, inside))


def gaussian_log_probability(levels: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log P(level) of a normal distribution in the same bins; arguments as in `logistic_log_probability`.

    In doubles inside: the logarithm's gradient far from the mean is a difference of huge numbers.
    """
    kind = mean.dtype
    levels, mean, log_scale = levels.double(), mean.double(), log_scale.double()
    half_bin = 1 / (LEVELS - 1)
    inverse = torch.exp(-log_scale)
    centred = (levels - mean) * inverse
    # By symmetry the bin may be mirrored to the left of the mean, where both ends have accurate logarithms.
    mirrored = -centred.abs()
    upper = torch.special.log_ndtr(mirrored + half_bin * inverse)
    lower = torch.special.log_ndtr(mirrored - half_bin * inverse)
    inside = upper + torch.log(-torch.expm1((lower - upper).clamp(max=-1e-12)))
    up_to = torch.special.log_ndtr(centred + half_bin * inverse)
    beyond = torch.special.log_ndtr(-centred + half_bin * inverse)
    found = torch.where(levels < -1 + half_bin, up_to, torch.where(levels > 1 - half_bin, beyond, inside))
    return found.to(kind)


DENSITIES = {"logistic": logistic_log_probability, "gaussian": gaussian_log_probability}


class MixtureLikelihood(nn.Module):
    """p(image | features): at every pixel a mixture over all channels, pixels independent.

    Within a component the mean of a channel depends linearly on the channels before it, so that colours need
    no mixture of their own. Features are (batch, `parameters_per_pixel`, height, width).

    Args:
        kind: "logistic" or "gaussian".
        components: of the mixture.
        channels: of the image.

    Raises:
        ValueError: there is no such kind.
    """

    def __init__(self, kind: str = "logistic", components: int = 10, channels: int = 3) -> None:
        super().__init__()
        if kind not in DENSITIES:
            raise ValueError(f"kind is {kind!r}, must be one of {', '.join(DENSITIES)}")
        self.density, self.components, self.channels = DENSITIES[kind], components, channels
        self.pairs = channels * (channels - 1) // 2
        self.parameters_per_pixel = components * (1 + 2 * channels + self.pairs)

    def _split(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log weights (B, M, H, W); means, log scales (B, M, C, H, W) and couplings (B, M, pairs, H, W)."""
        batch, _, height, width = features.shape
        m, c = self.components, self.channels
        # Convolutions may leave channels innermost, where taking one of them is slow.
        features = features.contiguous().float().view(batch, m, -1, height, width)
        weights, means, log_scales, couplings = features.split([1, c, c, self.pairs], dim=2)
        # Scales start well inside the range of -1 to 1.
        log_scales = (log_scales - 1).clamp(min=LEAST_LOG_SCALE)
        return weights[:, :, 0].log_softmax(1), means, log_scales, couplings.tanh()

    def _shifted(self, means: Tensor, couplings: Tensor, before: Tensor) -> Tensor:
        """Means (B, M, C, H, W) given the values of the channels before each, (B, 1 or M, C, H, W)."""
        channels = range(self.channels)
        return torch.stack([self._shift(channel, means, couplings, before) for channel in channels], 2)

    def _shift(self, channel: int, means: Tensor, couplings: Tensor, before: Tensor | list[Tensor]) -> Tensor:
        """The mean (B, M, H, W) of a channel; `before` has those before it, in dimension 2 or as a list."""
        mean, first = means[:, :, channel], channel * (channel - 1) // 2
        for earlier in range(channel):
            value = before[earlier] if isinstance(before, list) else before[:, :, earlier]
            mean = mean + couplings[:, :, first + earlier] * value
        return mean

    def log_probability(self, features: Tensor, images: Tensor) -> Tensor:
        """log P(image) in nats, (batch,).

        Args:
            features: (batch, `parameters_per_pixel`, height, width).
            images: (batch, channels, height, width), 0 to 255.
        """
        with torch.autocast(features.device.type, enabled=False):
            log_weights, means, log_scales, couplings = self._split(features)
            levels = to_unit(images)[:, None]
            means = self._shifted(means, couplings, levels)
            by_channel = self.density(levels, means, log_scales)
            return (log_weights + by_channel.sum(2)).logsumexp(1).sum((1, 2))

    def mean(self, features: Tensor) -> Tensor:
        """The expected image, (batch, channels, height, width), from -1 to 1, or nearly so.

        Of each component it has the mean, no further than the range goes: near black and white, where the
        range cuts a component, that is a little beyond the image of least squared error.
        """
        with torch.autocast(features.device.type, enabled=False):
            log_weights, means, _, couplings = self._split(features)
            expected: list[Tensor] = []
            for channel in range(self.channels):
                # Outer bins reach to infinity: no component means a value beyond the range.
                expected.append(self._shift(channel, means, couplings, expected).clamp(-1, 1))
            return (log_weights.exp()[:, :, None] * torch.stack(expected, 2)).sum(1)


def bits_per_dim(nats: float, dimensions: int) -> float:
    """Nats of whole images to bits a dimension (a channel of a pixel)."""
    return nats / dimensions / math.log(2)
