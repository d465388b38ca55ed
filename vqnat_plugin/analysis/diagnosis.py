"""The student under every kind of latents: of a given text, predicted, of true length, shuffled, random."""

import math
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairseq.sequence_generator import SequenceGenerator
from torch import Tensor

from ..evaluation.detokenizer import Detokenizer
from ..generation.latent_search import Latents
from ..generation.rescoring import load_rescorer, rescore
from ..models.checkpoints import training_data
from ..tasks.validation_bleu import UNKNOWN, UNKNOWN_IN_REFERENCE
from .latent_model import batches, codes_of, load_latent_model

# What is decoded, in the order of the table. `text` is the teacher's output, or the reference without one.
SYSTEMS = {
    "teacher_greedy": "the teacher itself, greedy",
    "autoencoder": "codes of that text, decoded: what quantisation and parallel words cost",
    "true_length": "predicted codes, as many as that text has",
    "predicted": "predicted codes, greedy: the system itself",
    "candidates": "the best of several latent candidates by the model's own score",
    "rescored": "the best of them by the teacher",
    "oracle": "the best of them by sentence BLEU against the reference: about what a ranking can reach",
    "shuffled": "codes of another sentence of the batch: what the source alone carries",
    "random": "random codes: what the source alone carries",
}
LENGTH_LIMITS = {"max_len_a": 1.2, "max_len_b": 10}
# A position is shown where at least so many sentences reach it.
LEAST_SENTENCES = 20


@dataclass
class PredictorFigures:
    """Teacher-forced figures of the latent predictor by position (from 0); the end symbol counts.

    Attributes:
        totals: for each position its hits, nats, and number of sentences, (3,).
    """

    totals: dict[int, np.ndarray] = field(default_factory=dict)

    def add(self, position: int, correct: float, nats: float, count: int) -> None:
        """Add the hits, nats and number of sentences of some batch at a position."""
        self.totals[position] = self.totals.get(position, np.zeros(3)) + np.array([correct, nats, count])

    def summary(self) -> dict[str, Any]:
        """Accuracy and perplexity, over everything and by position."""
        correct, nats, count = sum(self.totals.values(), start=np.zeros(3)).tolist()
        shown = [total for _, total in sorted(self.totals.items()) if total[2] >= LEAST_SENTENCES]
        return {
            "accuracy": correct / count,
            "perplexity": math.exp(nats / count),
            "accuracy_by_position": [float(total[0] / total[2]) for total in shown],
            "perplexity_by_position": [math.exp(total[1] / total[2]) for total in shown],
        }


class Diagnosis:
    """A trained model, its task and data, and what it writes under different latents."""

    def __init__(
        self,
        checkpoint: Path,
        data: Path | None = None,
        teacher: Path | None = None,
        subset: str = "test",
        beam: int = 4,
        tokenizer: str | None = None,
        device: torch.device | None = None,
    ) -> None:
        """
        Args:
            checkpoint: of a model trained with `--task translation_vq`.
            data: binarised data; what the model was trained on by default.
            teacher: its autoregressive teacher; by default the one that it was initialised from, if that is
                still there.
            subset: split of `data`.
            beam: latent candidates of a sentence.
            tokenizer: how tokens become text, see `Detokenizer`.
            device: where everything runs; the CPU by default.

        Raises:
            DataError: a file or the subset is missing.
            CheckpointError: a checkpoint is damaged, or of another kind of model, or the teacher has other
                dictionaries.
        """
        self.device = device or torch.device("cpu")
        model, config, task = load_latent_model(checkpoint, subset, data, self.device)
        before = Path(model.config.init_from_teacher or "")
        self.teacher = teacher or (before if before.is_file() else None)
        self.task, self.subset, self.model, self.data = task, subset, model, Path(config.task.data)
        self.teachers = [load_rescorer(self.teacher, model, task, "--teacher")] if self.teacher else []
        self.greedy, self.beam = (
            task.build_generator([model], Namespace(beam=size, nbest=size, **LENGTH_LIMITS))
            for size in (1, beam)
        )
        self.dictionary = task.target_dictionary
        self.text = Detokenizer(task, training_data(task.cfg), tokenizer)

    def batches(self, batch_size: int) -> Iterator[dict[str, Any]]:
        """The subset in batches, sentences of similar length together."""
        return batches(self.task, self.subset, batch_size, "diagnosis", self.device)

    def teacher_output(self, sample: dict[str, Any]) -> list[Tensor]:
        """The teacher's greedy translations, token ids with EOS."""
        search = SequenceGenerator(self.teachers, self.dictionary, beam_size=1, **LENGTH_LIMITS)
        found = search.generate(self.teachers, sample)
        return [hypotheses[0]["tokens"] for hypotheses in found]

    def padded(self, rows: Sequence[Tensor]) -> Tensor:
        """Sentences as one tensor, padded on the right."""
        pad = self.dictionary.pad()
        return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=pad)

    def write(self, memory: Any, codes: Tensor, mask: Tensor) -> list[str]:
        """What the decoder makes of codes (batch, latents), real where mask is true."""
        latents = Latents(codes[:, None], mask[:, None], torch.zeros_like(mask[:, :1], dtype=torch.float32))
        found = self.greedy.write([self.model], [memory], latents)
        return [self.written(hypotheses[0]["tokens"]) for hypotheses in found]

    def written(self, tokens: Tensor) -> str:
        """The text of an output; an unknown word is never that of a reference."""
        return self.text(tokens, UNKNOWN)

    @torch.no_grad()
    def of_true_length(self, memory: Any, lengths: Tensor) -> list[str]:
        """Greedy latents, exactly `lengths` (batch,) of them."""
        found = self.greedy.search(
            [self.model], [memory], lengths, longest=int(lengths.max()), at_least=lengths
        )
        return self.write(memory, found.codes[:, 0], found.mask[:, 0])

    @torch.no_grad()
    def add_predictor(self, total: PredictorFigures, codes: Tensor, mask: Tensor, memory: Any) -> None:
        """Adds the predictor's figures on given codes (batch, latents) to `total`."""
        end = self.model.predictor.end
        lengths = mask.sum(1)
        vectors = self.model.quantizer.lookup(codes).to(memory.states.dtype)
        log_probabilities = self.model.predictor(vectors, memory.states, memory.mask).float().log_softmax(-1)
        steps = torch.arange(mask.size(1) + 1, device=mask.device)
        labels = torch.nn.functional.pad(codes, (0, 1)).where(steps < lengths[:, None], end)
        nats = -log_probabilities.gather(-1, labels[..., None]).squeeze(-1)
        real = steps <= lengths[:, None]
        hits = (log_probabilities.argmax(-1) == labels) & real
        figures = torch.stack([hits.sum(0), nats.where(real, 0.0).double().sum(0), real.sum(0)], 1)
        for position, values in enumerate(figures.tolist()):
            total.add(position, *values)


@dataclass
class Written:
    """What was decoded, by number of the sentence in the subset.

    Attributes:
        systems: text of each of `SYSTEMS` but the oracle.
        candidates: texts of all candidates.
        references: the detokenised target side.
        lengths: source tokens, with EOS.
        predictor: figures of the predictor on the codes of the teacher's output (or of the reference).
        codes: how often that text uses each code.
        codebook_size: number of codes.
    """

    systems: dict[str, dict[int, str]] = field(default_factory=dict)
    candidates: dict[int, list[str]] = field(default_factory=dict)
    references: dict[int, str] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)
    predictor: PredictorFigures = field(default_factory=PredictorFigures)
    codes: Counter[int] = field(default_factory=Counter)
    codebook_size: int = 0

    def add(self, system: str, numbers: Sequence[int], texts: Sequence[str]) -> None:
        """Add the texts of one of `SYSTEMS` for some sentences."""
        self.systems.setdefault(system, {}).update(zip(numbers, texts, strict=True))


def decode(diagnosis: Diagnosis, batch_size: int = 50, seed: int = 1) -> Written:
    """Decode the subset under every kind of latents; the seed is that of the random ones."""
    written = Written(codebook_size=diagnosis.model.quantizer.codebook_size)
    generator = torch.Generator().manual_seed(seed)
    before: tuple[Tensor, Tensor] | tuple[()] = ()
    for sample in diagnosis.batches(batch_size):
        numbers = sample["id"].tolist()
        source = sample["net_input"]["src_tokens"]
        with torch.no_grad():
            memory = diagnosis.model.encode(source)
        references = [diagnosis.text(target, UNKNOWN_IN_REFERENCE) for target in sample["target"]]
        written.references.update(zip(numbers, references, strict=True))
        written.lengths.update(zip(numbers, memory.lengths.tolist(), strict=True))
        tokens = sample["target"]
        if diagnosis.teachers:
            outputs = diagnosis.teacher_output(sample)
            written.add("teacher_greedy", numbers, [diagnosis.written(output) for output in outputs])
            tokens = diagnosis.padded(outputs)
        codes, mask = codes_of(diagnosis.model, tokens, memory)
        written.codes.update(codes[mask].tolist())
        diagnosis.add_predictor(written.predictor, codes, mask, memory)
        # A sentence alone in its batch gets codes of the batch before.
        others = (codes.roll(1, 0), mask.roll(1, 0)) if len(codes) > 1 or not before else before
        before = (codes[:1], mask[:1])
        drawn = torch.randint(written.codebook_size, codes.shape, generator=generator)
        systems = {
            "autoencoder": diagnosis.write(memory, codes, mask),
            "true_length": diagnosis.of_true_length(memory, mask.sum(1)),
            "shuffled": diagnosis.write(memory, *others),
            "random": diagnosis.write(memory, drawn.to(codes.device), mask),
        }
        for name, texts in systems.items():
            written.add(name, numbers, texts)
        greedy = diagnosis.greedy.generate([diagnosis.model], sample)
        written.add("predicted", numbers, [diagnosis.written(found[0]["tokens"]) for found in greedy])
        _add_candidates(diagnosis, sample, written)
    return written


def _add_candidates(diagnosis: Diagnosis, sample: dict[str, Any], written: Written) -> None:
    numbers = sample["id"].tolist()
    found = diagnosis.beam.generate([diagnosis.model], sample)
    texts = [[diagnosis.written(each["tokens"]) for each in hypotheses] for hypotheses in found]
    written.candidates.update(zip(numbers, texts, strict=True))
    written.add("candidates", numbers, [candidates[0] for candidates in texts])
    if not diagnosis.teachers:
        return
    width = max(map(len, found))
    # A search over few codes finds fewer candidates: the first one fills their places.
    filled = [hypotheses + hypotheses[:1] * (width - len(hypotheses)) for hypotheses in found]
    tokens = diagnosis.padded([each["tokens"] for hypotheses in filled for each in hypotheses])
    tokens = tokens.view(len(found), width, -1).to(sample["target"].device)
    pad = diagnosis.dictionary.pad()
    scores, _ = rescore(diagnosis.teachers, sample["net_input"], tokens, pad)
    best = (scores / tokens.ne(pad).sum(-1)).argmax(1).tolist()
    chosen = [
        candidates[b] if b < len(candidates) else candidates[0]
        for candidates, b in zip(texts, best, strict=True)
    ]
    written.add("rescored", numbers, chosen)
