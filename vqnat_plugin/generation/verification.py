"""Checking drafts by an autoregressive model, see `runtime/verification.py`: with checkpoints, in torch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..runtime.verification import Verdict, Verified, verify


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
        encoder = self.teacher.encoder
        encoded = encoder.forward_torchscript(
            {name: net_input[name] for name in ("src_tokens", "src_lengths")}
        )
        found = []
        for number, (draft, limit) in enumerate(zip(drafts, limits, strict=True)):
            row = torch.tensor([number], device=net_input["src_tokens"].device)
            reader = _Reader(self, encoder.reorder_encoder_out(encoded, row), row)
            found.append(verify(draft, reader, min(limit, longest), self.tolerance))
        return found


class _Reader:
    """See `runtime.verification.Reader`. Reads a sentence anew each time: fairseq's decoders go on by one."""

    def __init__(self, verifier: Verifier, encoded: Any, like: Tensor) -> None:
        self.verifier, self.encoded, self.like = verifier, encoded, like
        dictionary = verifier.teacher.decoder.dictionary
        self.pad, self.eos, self.unk = dictionary.pad(), dictionary.eos(), dictionary.unk()
        self.seen: list[int] = []

    def read(self, accepted: int, last: int, tokens: Sequence[int]) -> Verdict:
        """See `runtime.verification.Reader`."""
        verifier = self.verifier
        before = [*self.seen[: accepted - 1], last] if accepted else []
        ended = bool(tokens) and tokens[-1] == self.eos
        shown = [self.eos, *before, *(tokens[:-1] if ended else tokens)]
        logits, _ = verifier.teacher.decoder(self.like.new_tensor([shown]), encoder_out=self.encoded)
        scores = logits[0, accepted:].float().log_softmax(-1)
        scored = self.like.new_tensor([*tokens, *[self.eos] * (not ended)])
        scores[:, self.pad] = -torch.inf
        scores[:, self.unk] -= verifier.unk_penalty
        scores[: max(0, verifier.min_len - accepted), self.eos] = -torch.inf
        best, places = scores.max(dim=1)
        of_tokens = scores.gather(1, scored[:, None]).squeeze(1)
        self.seen = [*before, *tokens]
        return Verdict(places.tolist(), best.tolist(), of_tokens.tolist())
