"""Latent decoding as a slow and plain program: one sentence, no cache, every step from the beginning."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tiny import EOS, PAD
from torch import Tensor

from vqnat_plugin.models.vq_nat import VQNAT

BOS = 0


class Words:
    """The dictionary's special symbols."""

    def pad(self) -> int:
        return PAD

    def eos(self) -> int:
        return EOS

    def unk(self) -> int:
        return 3

    def bos(self) -> int:
        return BOS


@dataclass(frozen=True)
class Hypothesis:
    """Latents with their log-probability (end included), and the words with theirs."""

    codes: tuple[int, ...]
    latent_score: float
    words: tuple[int, ...]
    word_scores: tuple[float, ...]

    def score(self, length_penalty: float = 1.0) -> float:
        return (self.latent_score + sum(self.word_scores)) / len(self.words) ** length_penalty


def _mean(log_probabilities: list[Tensor]) -> Tensor:
    return torch.stack([x.exp() for x in log_probabilities]).mean(0).log()


def next_code(models: Sequence[VQNAT], source: Sequence[int], codes: Sequence[int]) -> list[float]:
    """Log-probabilities of the symbol after `codes`; the last one is the end symbol's."""
    steps = []
    for model in models:
        memory = model.encode(torch.tensor([list(source)]))
        vectors = model.quantizer.codebook[list(codes)][None]
        steps.append(model.predictor(vectors, memory.states, memory.mask)[0, -1].log_softmax(-1))
    return _mean(steps).tolist()


def latent_score(models: Sequence[VQNAT], source: Sequence[int], codes: Sequence[int]) -> float:
    """Log-probability of `codes` and the end."""
    symbols = [*codes, models[0].config.codebook_size]
    return sum(next_code(models, source, symbols[:i])[symbol] for i, symbol in enumerate(symbols))


def write_words(
    models: Sequence[VQNAT], source: Sequence[int], codes: Sequence[int], most: int, least: int = 1
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The most probable words of given latents, between `least` and `most` of them and EOS."""
    steps = []
    for model in models:
        memory = model.encode(torch.tensor([list(source)]))
        vectors, mask = (
            model.quantizer.codebook[list(codes)][None],
            torch.ones(1, len(codes), dtype=torch.bool),
        )
        states = model.decode(vectors, mask, model.decoder.project(memory.states), memory.mask)
        steps.append((states @ model.output_weight.T)[0].log_softmax(-1))
    rows = _mean(steps).tolist()
    words: list[int] = []
    scores: list[float] = []
    for row in rows[:most]:
        allowed = [w for w in range(len(row)) if w not in (PAD, BOS) and (w != EOS or len(words) >= least)]
        best = max(allowed, key=row.__getitem__)
        words.append(best)
        scores.append(row[best])
        if best == EOS:
            return tuple(words), tuple(scores)
    # No EOS: it follows where there is room within the limit, at the price that it has in the last place.
    last = min(len(words), len(rows) - 1)
    return (*words, EOS), (*scores, rows[last][EOS])


def decode(
    models: Sequence[VQNAT], source: Sequence[int], beam: int, most: int, least: int = 1
) -> list[Hypothesis]:
    """Beam search over latents, then the words of each; best joint score first.

    With a beam of 1 a sequence ends where the end is more probable than all codes together.
    """
    end = models[0].config.codebook_size
    block = 1 << models[0].config.compress_steps
    most_latents, least_latents = math.ceil((most + 1) / block), math.ceil((least + 1) / block)
    beams: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    while not all(codes and codes[-1] == end for codes, _ in beams):
        extended = []
        for codes, score in beams:
            if codes and codes[-1] == end:
                extended.append((codes, score))
                continue
            for symbol, log_probability in enumerate(next_code(models, source, codes)):
                too_short = symbol == end and len(codes) < least_latents
                too_long = symbol != end and len(codes) >= most_latents
                unlikely = beam == 1 and symbol == end and log_probability <= math.log(0.5)
                if not too_short and not too_long and not (unlikely and len(codes) < most_latents):
                    extended.append(((*codes, symbol), score + log_probability))
        beams = sorted(extended, key=lambda entry: -entry[1])[:beam]
    hypotheses = [
        Hypothesis(codes[:-1], score, *write_words(models, source, codes[:-1], most, least))
        for codes, score in beams
    ]
    return sorted(hypotheses, key=lambda hypothesis: -hypothesis.score())
