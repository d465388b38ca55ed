"""What fairseq decodes with: latents one after the other, then all words of all candidates at once."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bottleneck.metrics import same_numbering
from ..errors import UsageError
from ..modules.compressor import latent_count
from ..options import flag
from ..runtime.decoding import Decoding, check_least
from .latent_search import MOST_LOGITS, Latents, LatentSearch, mean_log_probabilities
from .rescoring import rescore
from .verification import Verifier

# Options of fairseq that go word by word, and their values when they are off.
UNSUPPORTED: dict[str, Any] = {
    "prefix_size": 0, "match_source_len": False, "diverse_beam_groups": -1, "diversity_rate": -1.0,
    "no_repeat_ngram_size": 0, "sampling_topp": -1.0, "lm_path": None, "print_alignment": None,
    "constraints": None, "score_reference": False, "replace_unk": None, "retain_dropout": False,
    "print_step": False, "retain_iter_history": False, "iter_decode_with_beam": 1,
    "iter_decode_with_external_reranker": False, "iter_decode_force_max_iter": False,
}  # fmt: skip
# Those that an exported model takes as well, under the same names; and what some are called here.
SHARED = ("max_len_a", "max_len_b", "min_len", "lenpen", "unkpen")
HERE = {
    "--candidates": "--beam",
    "--tolerance": "--verify-tolerance",
    "--rescore": "--rescore-with",
    "--verify": "--verify-with",
}


def _check(decoding: Decoding, nbest: int) -> None:
    """Raise `UsageError`, with the names that options have here, for values that cannot be."""
    try:
        decoding.check()
    except UsageError as error:
        raise UsageError(re.sub("|".join(f"{name}(?![-a-z])" for name in HERE), _named, str(error))) from None
    if nbest > decoding.candidates:
        raise UsageError(f"--nbest {nbest}: needs --beam {nbest} or more, but it is {decoding.candidates}")
    if decoding.verify and nbest > 1:
        raise UsageError(f"--verify-with: one translation is checked, leave --nbest {nbest} out")


def _named(name: re.Match[str]) -> str:
    return HERE[name[0]]


def _check_ensemble(models: Sequence[Any]) -> None:
    """Raise `UsageError` for models whose codes cannot mean the same."""
    checkpoints = "--path: the checkpoints of an ensemble need"
    if len({(m.config.codebook_size, m.config.compress_steps) for m in models}) > 1:
        raise UsageError(f"{checkpoints} the same --codebook-size and --compress-steps")
    first, *others = [model.quantizer.codebook for model in models]
    if any(first.shape != codes.shape or not same_numbering(first, codes) for codes in others):
        raise UsageError(f"{checkpoints} to be of one training: each training has codes of its own")


@dataclass
class Words:
    """Words of all candidates.

    Attributes:
        tokens: (batch, beam, positions) int64, EOS at the end of each candidate, padding behind.
        log_probabilities: (batch, beam, positions), of each token, nats; 0 at padding.
        lengths: (batch, beam), tokens with EOS.
    """

    tokens: Tensor
    log_probabilities: Tensor
    lengths: Tensor


class LatentGenerator:
    """Translates batches for `fairseq-generate`, `fairseq-interactive` and validation.

    Candidates are ranked by their joint score, log p(latents) + log p(words), divided by the number of words
    to the power of `--lenpen`, or by an autoregressive model (`--rescore-with`). Such a model may also check
    the best one and correct it (`--verify-with`).
    """

    def __init__(
        self,
        models: Sequence[Any],
        dictionary: Any,
        search: LatentSearch,
        max_len_a: float = 0.0,
        max_len_b: int = 200,
        min_len: int = 1,
        len_penalty: float = 1.0,
        normalize: bool = True,
        unk_penalty: float = 0.0,
        rescorers: Sequence[Any] = (),
        verifier: Verifier | None = None,
    ) -> None:
        """
        Args:
            models: one model or an ensemble of checkpoints of one run.
            dictionary: the target dictionary.
            search: how latents are found.
            max_len_a: with `max_len_b`: at most a * source length + b words, as in fairseq.
            min_len: at least so many words, EOS not counted.
            len_penalty: exponent of the number of words by which scores are divided.
            normalize: whether scores are divided at all.
            unk_penalty: taken off the log-probability of the unknown word.
            rescorers: autoregressive models that rank the candidates.
            verifier: what checks the best of them; there is one hypothesis then.

        Raises:
            UsageError: the models of an ensemble differ in the size of their codebooks or in the number of
                halvings, or are of several trainings.
        """
        _check_ensemble(models)
        for model in models:
            model.eval()
        self.search, self.rescorers, self.verifier = search, list(rescorers), verifier
        self.max_len_a, self.max_len_b, self.min_len = max_len_a, max_len_b, min_len
        self.exponent = len_penalty if normalize else 0.0
        self.unk_penalty = unk_penalty
        self.pad, self.eos, self.unk = dictionary.pad(), dictionary.eos(), dictionary.unk()
        self.bos = dictionary.bos()
        self.steps = models[0].config.compress_steps

    @classmethod
    def from_options(
        cls,
        models: Sequence[Any],
        args: Any,
        dictionary: Any,
        rescorers: Sequence[Any] = (),
        verifier: Any = None,
        tolerance: float = 0.0,
    ) -> "LatentGenerator":
        """From fairseq's generation options.

        Args:
            models: see `LatentGenerator`.
            args: the options.
            dictionary: the target dictionary.
            rescorers: see `LatentGenerator`.
            verifier: an autoregressive model that checks translations.
            tolerance: of the verifier, nats.

        Raises:
            UsageError: an option that parallel decoding cannot serve.
        """
        for name, off in UNSUPPORTED.items():
            if (value := getattr(args, name, off)) != off:
                raise UsageError(
                    f"{flag(name)} {value}: not supported by vq_nat_em, which writes all words at once; "
                    "leave it out"
                )
        found = Decoding(
            candidates=getattr(args, "beam", 5),
            rescore=bool(rescorers),
            verify=verifier is not None,
            tolerance=tolerance,
            **{name: getattr(args, name) for name in SHARED if hasattr(args, name)},
        )
        _check(found, getattr(args, "nbest", 1))
        if verifier is not None:
            check_least(found.min_len, verifier.max_decoder_positions())
        sampling, topk = getattr(args, "sampling", False), getattr(args, "sampling_topk", -1)
        temperature = getattr(args, "temperature", 1.0)
        if temperature <= 0:
            raise UsageError(f"--temperature {temperature}: needs a value above 0")
        if topk > 0 and not sampling:
            raise UsageError(f"--sampling-topk {topk}: needs --sampling")
        return cls(
            models,
            dictionary,
            LatentSearch(found.candidates, sampling, temperature, topk),
            max_len_a=found.max_len_a,
            max_len_b=found.max_len_b,
            min_len=found.min_len,
            len_penalty=found.lenpen,
            normalize=not getattr(args, "unnormalized", False),
            unk_penalty=found.unkpen,
            rescorers=rescorers,
            verifier=verifier and Verifier(verifier, tolerance, found.min_len, found.unkpen),
        )

    def length_limits(self, source_lengths: Tensor) -> Tensor:
        """Most words of each sentence, EOS included, for source lengths that include EOS: both (batch,)."""
        # Doubles, for the same whole numbers as in Python.
        limits = (self.max_len_a * source_lengths.double() + self.max_len_b).long() + 1
        return limits.clamp(min=self.min_len + 1)

    def generate(
        self, models: Sequence[Any], sample: dict[str, Any], prefix_tokens: Tensor | None = None, **_: Any
    ) -> list[list[dict[str, Any]]]:
        """Translate a batch; per sentence `beam` hypotheses, best first, in fairseq's form.

        Each holds `tokens` (with EOS), `score`, `positional_scores` (nats); no attention, no alignment. One
        that was checked also has `passes`, how often the autoregressive model has read it.
        """
        del prefix_tokens  # `from_options` has refused it
        for teacher in (*self.rescorers, *([self.verifier.teacher] if self.verifier else [])):
            ours, theirs = next(models[0].parameters()), next(teacher.parameters())
            if (ours.device, ours.dtype) != (theirs.device, theirs.dtype):
                # In a training they were made before the model went to its device.
                teacher.to(device=ours.device, dtype=ours.dtype)
        with torch.inference_mode():
            source = sample["net_input"]["src_tokens"]
            memories = [model.encode(source) for model in models]
            limits = self.length_limits(memories[0].lengths)
            # The width of the source bounds all lengths, and the host knows it already.
            longest = max(int(self.max_len_a * source.size(1) + self.max_len_b), self.min_len) + 1
            latents = self.search(
                models,
                memories,
                -(-limits // (1 << self.steps)),
                longest=latent_count(longest, self.steps),
                at_least=latent_count(self.min_len + 1, self.steps),
            )
            words = self._decode(models, memories, latents, limits)
            scores = latents.scores + words.log_probabilities.sum(-1)
            if self.rescorers:
                scores, words.log_probabilities = rescore(
                    self.rescorers, sample["net_input"], words.tokens, self.pad
                )
            # Hypotheses that the search never filled (fewer codes than beam) have no score.
            scores = torch.where(
                latents.scores.isfinite(), scores / words.lengths.double() ** self.exponent, -torch.inf
            )
        # Outside of it, since fairseq changes scores in place.
        hypotheses = self._hypotheses(words, scores)
        if self.verifier is None:
            return hypotheses
        drafts = [every[0]["tokens"].tolist() for every in hypotheses]
        checked = self.verifier(sample["net_input"], drafts, limits.tolist())
        found = []
        for each in checked:
            score = sum(each.scores) / len(each.tokens) ** self.exponent
            hypothesis = _hypothesis(torch.tensor(each.tokens), score, torch.tensor(each.scores))
            found.append([{**hypothesis, "passes": each.passes}])
        return found

    @torch.no_grad()
    def reconstruct(self, models: Sequence[Any], sample: dict[str, Any]) -> list[list[dict[str, Any]]]:
        """Decode the posterior codes of `sample["target"]`: one hypothesis a sentence, as from `generate`."""
        memories = [model.encode(sample["net_input"]["src_tokens"]) for model in models]
        target = sample["target"]
        latents = None
        vectors = []
        for model, memory in zip(models, memories, strict=True):
            z, mask = model.compress(target, memory)
            out = model.bottleneck(z, mask, accumulate=False)
            # Without codes there is nothing to decode: z itself would be better than any code.
            vectors.append(torch.zeros_like(z) if out is None else out.quantized)
            codes = mask.long() if out is None else out.codes
            latents = Latents(
                codes[:, None], mask[:, None], torch.zeros_like(mask[:, :1], dtype=torch.float32)
            )
        assert latents is not None
        return self.write(models, memories, latents, vectors)

    @torch.no_grad()
    def write(
        self,
        models: Sequence[Any],
        memories: Sequence[Any],
        latents: Latents,
        vectors: Sequence[Tensor] | None = None,
    ) -> list[list[dict[str, Any]]]:
        """Words of given latents, of any length, in the form of `generate`; scored by the words alone.

        Args:
            models: one model or an ensemble.
            memories: the source encoded by each of them.
            latents: (batch, beam, latents).
            vectors: (batch * beam, latents, code_dim), to be decoded instead of the codes, one a model.
        """
        limits = (latents.mask.sum(-1).amax(1) << self.steps) + 1
        words = self._decode(models, memories, latents, limits, vectors)
        return self._hypotheses(words, words.log_probabilities.sum(-1) / words.lengths)

    def _decode(
        self,
        models: Sequence[Any],
        memories: Sequence[Any],
        latents: Latents,
        limits: Tensor,
        vectors: Sequence[Tensor] | None = None,
    ) -> Words:
        """All words of all candidates, in one pass of each model; logits of some sentences at a time."""
        batch, beam, _ = latents.codes.shape
        mask = latents.mask.flatten(0, 1)
        every = []
        for number, model in enumerate(models):
            memory = memories[number]
            looked_up = (
                model.quantizer.lookup(latents.codes.flatten(0, 1)) if vectors is None else vectors[number]
            )
            states = model.decode(
                looked_up.to(memory.states.dtype) * mask.unsqueeze(-1),
                mask,
                model.decoder.project(memory.states),
                memory.mask,
            )
            every.append(states.unflatten(0, (batch, beam)))
        size = max(1, MOST_LOGITS // (every[0][0, ..., 0].numel() * len(models[0].output_weight)))
        lengths = latents.mask.sum(-1) << self.steps
        parts = []
        for start in range(0, batch, size):
            rows = slice(start, start + size)
            logits = [
                F.linear(states[rows], model.output_weight).float()
                for states, model in zip(every, models, strict=True)
            ]
            if len(models) > 1:
                logits = [mean_log_probabilities([each.log_softmax(-1) for each in logits])]
            parts.append(self._cut(logits[0], lengths[rows], limits[rows]))
        if len(parts) == 1:
            return parts[0]
        return Words(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Words)))

    def _cut(self, logits: Tensor, positions_of: Tensor, limits: Tensor) -> Words:
        """The most probable words up to the first EOS.

        Where none comes within a candidate's own positions (batch, beam), EOS follows the last word; where
        the length limit (batch,) comes first, EOS takes the last place. A forced EOS costs what it has where
        the words end.

        Args:
            logits: (batch, beam, positions, vocabulary), changed in place; only few figures of each position
                are kept.
        """
        normalizer = logits.logsumexp(-1)
        eos = logits[..., self.eos] - normalizer
        logits[..., self.pad] = -torch.inf
        logits[..., self.bos] = -torch.inf
        logits[..., self.unk] -= self.unk_penalty
        logits[:, :, : self.min_len, self.eos] = -torch.inf
        best, tokens = logits.max(-1)
        # One position more, where EOS may have to follow.
        best, tokens = F.pad(best - normalizer, (0, 1)), F.pad(tokens, (0, 1))
        positions = torch.arange(tokens.size(2), device=tokens.device)
        last = torch.minimum(positions_of, limits[:, None] - 1)
        end = ((tokens == self.eos) | (positions >= last[..., None])).int().argmax(-1)
        at_end, behind = positions == end[..., None], positions > end[..., None]
        within = torch.minimum(end, positions_of - 1).clamp(min=0)
        tokens = tokens.masked_fill(at_end, self.eos).masked_fill(behind, self.pad)
        best = torch.where(at_end, eos.gather(-1, within[..., None]), best).masked_fill(behind, 0.0)
        return Words(tokens, best, end + 1)

    def _hypotheses(self, words: Words, scores: Tensor) -> list[list[dict[str, Any]]]:
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        gathered = order[..., None].expand_as(words.tokens)
        # The one copy to the host: everything as doubles, which hold token numbers exactly.
        packed = torch.cat(
            [
                words.tokens.gather(1, gathered).double(),
                words.log_probabilities.gather(1, gathered).double(),
                words.lengths.gather(1, order)[..., None].double(),
                scores[..., None].double(),
            ],
            -1,
        ).cpu()
        positions = words.tokens.size(-1)
        hypotheses = []
        for sentence in packed:
            found: list[dict[str, Any]] = []
            for row in sentence:
                score, length = float(row[-1]), int(row[-2])
                if score == -float("inf") and found:
                    continue
                by_position = row[positions : positions + length].float()
                found.append(_hypothesis(row[:length].long(), score, by_position))
            hypotheses.append(found)
        return hypotheses


def _hypothesis(tokens: Tensor, score: float, positional_scores: Tensor) -> dict[str, Any]:
    """A hypothesis in fairseq's form."""
    return {
        "tokens": tokens,
        "score": score,
        "positional_scores": positional_scores,
        "attention": None,
        "alignment": None,
    }


class Reconstruction:
    """A generator's other face: decodes the codes of the reference, for reconstruction BLEU."""

    def __init__(self, generator: LatentGenerator) -> None:
        self.generator = generator

    def generate(self, models: Sequence[Any], sample: dict[str, Any], **_: Any) -> list[list[dict[str, Any]]]:
        """See `LatentGenerator.reconstruct`."""
        return self.generator.reconstruct(models, sample)
