"""The kinds of quantiser by name: `register` adds one, wherever it is defined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .base import Quantizer, require


@dataclass(frozen=True)
class Settings:
    """What kinds are built from; each takes what it knows.

    Attributes:
        codebook_size: number of codes K. dim: size of a vector.
        samples, temperature, decay, epsilon, commitment_weight, init: see `EMVectorQuantizer`; all but
            commitment_weight are for EM alone, and with Gumbel-softmax it weighs the divergence.
        revival_threshold: with EM, 0 for none; revival_until: last update at which codes are replaced, 0 for
            no end.
        hard_from: update from which training takes nearest codes only, 0 for never.
        channels: see `Quantizer`.
        relaxation: temperature of a relaxed draw whose gradient is used.
        divergence_scale: for a divergence from a prior, which is a mean over vectors, where a model weighs a
            quantiser's loss by something else.
    """

    codebook_size: int
    dim: int
    samples: int = 10
    temperature: float = 1.0
    decay: float = 0.999
    epsilon: float = 1e-5
    commitment_weight: float = 0.25
    init: str = "data"
    revival_threshold: float = 0.3
    revival_until: int = 0
    hard_from: int = 0
    relaxation: float = 1.0
    divergence_scale: float = 1.0
    channels: str | None = None


Builder = Callable[[Settings], Quantizer]
# Name to what builds it and what it is, in a few words.
_KINDS: dict[str, tuple[Builder, str]] = {}


def register(name: str, summary: str) -> Callable[[Builder], Builder]:
    """Adds a kind: a decorator of the function that builds it from `Settings`.

    Raises:
        ValueError: another module has a kind of this name.
    """

    def add(builder: Builder) -> Builder:
        taken = _module(_KINDS[name][0]) if name in _KINDS else ""
        # A module may be run again, as cells of a notebook are.
        require(taken in ("", _module(builder)), "name", name, f"another, since {taken} has this one")
        _KINDS[name] = (builder, summary)
        return builder

    return add


def _module(builder: Builder) -> str:
    """Where a builder is defined, or what it completes is."""
    return str(getattr(builder, "func", builder).__module__)


def kinds() -> dict[str, str]:
    """All kinds by name, with what each is in a few words."""
    return {name: summary for name, (_, summary) in _KINDS.items()}


def build(name: str, settings: Settings) -> Quantizer:
    """A quantiser by the name of its kind.

    Raises:
        ValueError: there is no such kind, or a setting is out of its range.
    """
    require(name in _KINDS, "kind", name, f"one of {', '.join(_KINDS)}")
    return _KINDS[name][0](settings)
