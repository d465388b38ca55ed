"""Checking drafts by an autoregressive model, see `runtime/verification.py`: with checkpoints, in torch."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..runtime.verification import Shown, Verdict, Verified, verify
from .latent_search import MOST_LOGITS
from .rescoring import encode


class Verifier:
    """An autoregressive model that checks the translations of a latent one."""

    def __init__(self, teacher: Any, tolerance: float, min_len: int, unk_penalty: float) -> None:
        """
        Args:
            teacher: a fairseq encoder-decoder model.
            tolerance: see `verify`.
            min_len: at least so many words, EOS not counted.
            unk_penalty: taken off the log-probability of the unknown word.
        """
        self.teacher, self.tolerance = teacher, tolerance
        self.min_len, self.unk_penalty = min_len, unk_penalty

    @torch.no_grad()
    def __call__(
        self, net_input: dict[str, Any], drafts: Sequence[Sequence[int]], limits: Sequence[int]
    ) -> list[Verified]:
        """Check one draft a sentence.

        Args:
            net_input: the batch's `src_tokens` and `src_lengths`.
            drafts: tokens, EOS at the end.
            limits: most tokens of each sentence, EOS included; the teacher's own counts as well.
        """
        longest = self.teacher.max_decoder_positions()
        reader = _Reader(self, encode(self.teacher, net_input), net_input["src_tokens"])
        return verify(drafts, reader, [min(limit, longest) for limit in limits], self.tolerance)


class _Reader:
    """See `runtime.verification.Reader`. Reads sentences anew each time: fairseq's decoders go on by one."""

    def __init__(self, verifier: Verifier, encoded: Any, like: Tensor) -> None:
        self.verifier, self.encoded, self.like = verifier, encoded, like
        dictionary = verifier.teacher.decoder.dictionary
        self.pad, self.eos, self.unk = dictionary.pad(), dictionary.eos(), dictionary.unk()
        self.symbols = len(dictionary)
        self.seen: dict[int, list[int]] = {}

    def read(self, shown: Mapping[int, Shown]) -> list[Verdict]:
        """See `runtime.verification.Reader`."""
        inputs = []
        for number, each in shown.items():
            before = [*self.seen[number][: each.accepted - 1], each.last] if each.accepted else []
            ended = bool(each.tokens) and each.tokens[-1] == self.eos
            inputs.append([self.eos, *before, *(each.tokens[:-1] if ended else each.tokens)])
            self.seen[number] = [*before, *each.tokens]
        rows = max(1, MOST_LOGITS // (max(map(len, inputs)) * self.symbols))
        found: list[Verdict] = []
        for start in range(0, len(inputs), rows):
            some = slice(start, start + rows)
            found += self._judge(list(shown)[some], list(shown.values())[some], inputs[some])
        return found

    def _judge(
        self, numbers: list[int], shown: Sequence[Shown], inputs: Sequence[Sequence[int]]
    ) -> list[Verdict]:
        verifier, longest = self.verifier, max(map(len, inputs))
        read = self.like.new_tensor([[*row, *[self.pad] * (longest - len(row))] for row in inputs])
        states = verifier.teacher.encoder.reorder_encoder_out(self.encoded, self.like.new_tensor(numbers))
        logits, _ = verifier.teacher.decoder(read, encoder_out=states)
        # What is judged stands behind what was accepted; that of all sentences in a row.
        places = torch.arange(longest, device=read.device).expand_as(read)
        judged = (places >= self.like.new_tensor([each.accepted for each in shown])[:, None]) & read.ne(
            self.pad
        )
        counts = [len(row) - each.accepted for row, each in zip(inputs, shown, strict=True)]
        scored = [
            token
            for each, count in zip(shown, counts, strict=True)
            for token in (*each.tokens, *[self.eos] * (count - len(each.tokens)))
        ]
        logits = logits[judged]
        scores = logits.float().log_softmax(-1)
        scores[:, self.pad] = -torch.inf
        scores[:, self.unk] -= verifier.unk_penalty
        scores[places[judged] < verifier.min_len, self.eos] = -torch.inf
        best_scores, best = scores.max(dim=1)
        of_tokens = scores.gather(1, self.like.new_tensor(scored)[:, None]).squeeze(1)
        each_row = (values.cpu().split(counts) for values in (best, best_scores, of_tokens))
        return [Verdict(*(part.tolist() for part in row)) for row in zip(*each_row, strict=True)]
