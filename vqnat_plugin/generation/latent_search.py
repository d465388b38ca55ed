"""Search over latent sequences: greedy, beam or samples, with cached keys and values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..modules.attention import KeyValues
from ..runtime.decoding import LIKELY_END

# Logits of words that are made at a time: 1 GiB in fp32.
MOST_LOGITS = 1 << 28


@dataclass
class Latents:
    """Candidate latent sequences of a batch.

    Attributes:
        codes: (batch, beam, latents) int64; 0 behind the end.
        mask: (batch, beam, latents), true at real latents.
        scores: (batch, beam), log-probability including the end symbol, nats.
    """

    codes: Tensor
    mask: Tensor
    scores: Tensor


class EndOfBatch:
    """Asks whether all sequences have ended, without making a GPU wait for the answer.

    On a GPU the answer to an earlier question is used as soon as it has arrived; steps taken in between
    change nothing: ended sequences stay as they are, and each search has a random generator of its own.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.asked = 0
        # The first question with the answer yes.
        self.found: int | None = None
        self.pending: list[tuple[Any, Tensor, int]] = []

    def reached(self, ended: Tensor) -> bool:
        """Whether `ended` (any shape) was all true, now or as far as is known."""
        self.asked += 1
        if not self.on_gpu:
            self._note(ended.all(), self.asked)
            return self.found is not None
        flag = torch.empty((), dtype=torch.bool, pin_memory=True)
        flag.copy_(ended.all(), non_blocking=True)
        event = torch.cuda.Event()
        # Not the current device's, where that is another.
        event.record(torch.cuda.current_stream(ended.device))
        self.pending.append((event, flag, self.asked))
        while self.pending and self.pending[0][0].query():
            self._note(*self.pending.pop(0)[1:])
        return self.found is not None

    def first(self) -> int | None:
        """The question, from 1, at which all had ended; None for none. Waits for what is not yet known."""
        while self.pending and self.found is None:
            event, answer, question = self.pending.pop(0)
            event.synchronize()
            self._note(answer, question)
        return self.found

    def _note(self, answer: Tensor, question: int) -> None:
        if self.found is None and bool(answer):
            self.found = question


def mean_log_probabilities(log_probabilities: Sequence[Tensor]) -> Tensor:
    """Log of the mean probability over an ensemble, shaped like each entry."""
    if len(log_probabilities) == 1:
        return log_probabilities[0]
    stacked = torch.stack(list(log_probabilities))
    return stacked.logsumexp(0) - math.log(len(log_probabilities))


class LatentSearch:
    """Finds `beam` latent sequences a sentence with the predictors of one model or an ensemble.

    A beam of 1 takes the most probable code at every step, and the end where it is more probable than all
    codes together, see `LIKELY_END`.
    """

    def __init__(self, beam: int, sampling: bool = False, temperature: float = 1.0, topk: int = -1) -> None:
        """
        Args:
            beam: sequences a sentence.
            sampling: draw them independently instead of searching for the most probable ones.
            temperature: divides the logits of every step.
            topk: draw from the k most probable codes only, if positive.
        """
        self.beam, self.sampling, self.temperature, self.topk = beam, sampling, temperature, topk

    @torch.no_grad()
    def __call__(
        self,
        models: Sequence[Any],
        memories: Sequence[Any],
        limits: Tensor,
        longest: int,
        at_least: int | Tensor,
    ) -> Latents:
        """Search.

        Args:
            models: one or several models that share a codebook's numbering.
            memories: the source encoded by each of them.
            limits: most latents of each sentence, (batch,).
            longest: a bound on all limits that is known without asking the device.
            at_least: fewest latents of every sentence, or of each, (batch,).
        """
        generator = self._generator(limits.device) if self.sampling else None
        batch, beam, device = limits.size(0), self.beam, limits.device
        end = models[0].predictor.end
        projected = [
            m.predictor.stack.project(memory.states) for m, memory in zip(models, memories, strict=True)
        ]
        past: list[list[KeyValues] | None] = [None] * len(models)
        scores = torch.zeros(batch, beam, device=device)
        if not self.sampling:
            # All hypotheses are equal at first: only one may be continued, or the beam fills with copies.
            scores[:, 1:] = -torch.inf
        ended = torch.zeros(batch, beam, dtype=torch.bool, device=device)
        chosen = torch.empty(batch, beam, 0, dtype=torch.long, device=device)
        done = EndOfBatch(device)
        rows = torch.arange(batch, device=device)[:, None] * beam
        for position in range(longest + 1):
            last = chosen[:, :, -1].flatten() if position else None
            steps = []
            for number, model in enumerate(models):
                # The code that ended sequences are fed is of no account.
                latents = None if last is None else model.quantizer.lookup(last.clamp(max=end - 1))
                logits, past[number] = model.predictor.step(
                    latents, position, batch * beam, projected[number], memories[number].mask, past[number]
                )
                steps.append((logits.float() / self.temperature).log_softmax(-1))
            step = self._constrain(
                mean_log_probabilities(steps).view(batch, beam, -1), ended, position, limits, at_least
            )
            parent, code, scores = self._choose(scores, step, generator)
            ended = ended.gather(1, parent) | (code == end)
            chosen = torch.cat([chosen.gather(1, parent[..., None].expand_as(chosen)), code[..., None]], -1)
            if beam > 1 and not self.sampling:
                order = (rows + parent).flatten()
                past = [[layer.select(order) for layer in layers] for layers in past if layers is not None]
            if done.reached(ended):
                break
        # How many steps more there were depends on time, and what is decoded is not to. The last one that
        # counts has ends alone, which stand for no words.
        first = done.first()
        chosen = chosen[..., : None if first is None else max(1, first - 1)]
        mask = chosen != end
        return Latents(chosen.masked_fill(~mask, 0), mask, scores)

    @staticmethod
    def _constrain(
        step: Tensor, ended: Tensor, position: int, limits: Tensor, at_least: int | Tensor
    ) -> Tensor:
        """Forbid what lengths forbid; ended sequences go on with end symbols at no cost."""
        end = step.size(-1) - 1
        only_end = torch.full_like(step, -torch.inf)
        only_end[..., end] = step[..., end]
        step = torch.where((position >= limits)[:, None, None], only_end, step)
        if isinstance(at_least, Tensor):
            step[..., end].masked_fill_((position < at_least)[:, None], -torch.inf)
        elif position < at_least:
            step[..., end] = -torch.inf
        only_end[..., end] = 0.0
        return torch.where(ended[..., None], only_end, step)

    @staticmethod
    def _generator(device: torch.device) -> torch.Generator:
        """Random numbers for one search.

        torch's own generator gives one number for it, so that later searches do not depend on how many steps
        this one takes: on a GPU that depends on when the answers of `EndOfBatch` arrive.
        """
        seed = torch.randint(1 << 62, ()).item()
        return torch.Generator(device).manual_seed(int(seed))

    @staticmethod
    def _greedy(step: Tensor) -> Tensor:
        """The most probable code, or the end: see the class."""
        best, code = step[..., :-1].max(-1)
        ends = (step[..., -1] > LIKELY_END) | best.isneginf()
        return code.masked_fill(ends, step.size(-1) - 1)

    def _choose(
        self, scores: Tensor, step: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Next symbol of each hypothesis: parent in the beam, symbol, score; each (batch, beam)."""
        batch, beam, symbols = step.shape
        if self.sampling:
            drawn = step
            if self.topk > 0:
                least = step.topk(min(self.topk, symbols), -1).values[..., -1:]
                drawn = step.masked_fill(step < least, -torch.inf)
            drawn = drawn.softmax(-1).flatten(0, 1)
            code = torch.multinomial(drawn, 1, generator=generator).view(batch, beam)
            parent = torch.arange(beam, device=step.device).expand(batch, beam)
            return parent, code, scores + step.gather(-1, code[..., None]).squeeze(-1)
        if beam == 1:
            code = self._greedy(step)
            return torch.zeros_like(code), code, scores + step.gather(-1, code[..., None]).squeeze(-1)
        total = (scores[..., None] + step).flatten(1)
        best, index = total.topk(beam, dim=1)
        return index // symbols, index % symbols, best
