"""Where quality is lost between teacher and student: scores of what was decoded, and their differences."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..evaluation.bleu import DEFAULT, bleu_metric, comparable, corpus_bleu, score, word_splitter
from ..evaluation.tables import markdown_table
from ..reading import read_lines
from .code_use import code_use
from .diagnosis import SYSTEMS, Written

LENGTH_CLASSES = 4


def check_references(references: Sequence[Path], sentences: int) -> list[list[str]]:
    """The lines of references, each of so many.

    Raises:
        DataError: one cannot be read, has another number of lines, or none with a word.
    """
    truth = [read_lines(path) for path in references]
    for path, lines in zip(references, truth, strict=True):
        if len(lines) != sentences:
            raise DataError(f"--ref {path}: {len(lines)} lines for {sentences} sentences")
        if not any(map(str.split, lines)):
            raise DataError(f"--ref {path}: holds no word")
    return truth


def find_losses(written: Written, references: Sequence[Path] = (), tokenize: str = DEFAULT) -> dict[str, Any]:
    """Score everything that was decoded.

    Args:
        written: see `decode`.
        references: raw text, one sentence a line; the detokenised target side without any.
        tokenize: sacreBLEU's name of the tokeniser for BLEU and for lengths.

    Returns:
        `systems` (scores, also by source length), `losses` (BLEU lost in each part), `predictor` and `codes`.

    Raises:
        DataError: a reference cannot be read, or has another number of sentences.
        UsageError: see `bleu_metric`.
    """
    order = sorted(written.references)
    truth = check_references(references, len(order)) or [[written.references[n] for n in order]]
    written.add("oracle", order, _oracle([written.candidates[n] for n in order], truth, tokenize))
    split = word_splitter(tokenize)
    words = sum(len(split(text)) for text in truth[0])
    edges = np.quantile([written.lengths[n] for n in order], np.arange(1, LENGTH_CLASSES) / LENGTH_CLASSES)
    classes = np.searchsorted(edges, [written.lengths[n] for n in order], side="left")
    systems = {}
    for name in SYSTEMS:
        if name not in written.systems:
            continue
        texts = [written.systems[name][n] for n in order]
        systems[name] = {
            **score(texts, truth, tokenize).as_dict(),
            "length_ratio": sum(len(split(text)) for text in texts) / words,
            "bleu_by_length": _by_class(texts, truth, classes, tokenize),
        }
    return {
        "systems": systems,
        "length_classes": _class_names([written.lengths[n] for n in order], classes),
        "losses": _losses({name: figures["bleu"] for name, figures in systems.items()}),
        "predictor": written.predictor.summary(),
        "codes": {
            "codebook_size": written.codebook_size,
            **code_use(list(written.codes.values()), written.codebook_size),
        },
    }


def _oracle(
    candidates: Sequence[Sequence[str]], references: Sequence[Sequence[str]], tokenize: str
) -> list[str]:
    """Of each sentence's candidates the one of highest sentence BLEU."""
    metric = bleu_metric(tokenize, effective_order=True)

    def best(texts: Sequence[str], truth: list[str]) -> str:
        truth = list(map(comparable, truth))
        return max(map(comparable, texts), key=lambda text: metric.sentence_score(text, truth).score)

    truths = map(list, zip(*references, strict=True))
    return [best(texts, truth) for texts, truth in zip(candidates, truths, strict=True)]


def _by_class(
    texts: Sequence[str], references: Sequence[Sequence[str]], classes: np.ndarray, tokenize: str
) -> list[float | None]:
    """BLEU of the sentences of each class; None for a class without any."""
    scores: list[float | None] = []
    for number in range(LENGTH_CLASSES):
        chosen = np.flatnonzero(classes == number).tolist()
        scores.append(
            corpus_bleu(
                [texts[i] for i in chosen],
                [[lines[i] for i in chosen] for lines in references],
                tokenize=tokenize,
            ).score
            if chosen
            else None
        )
    return scores


def _class_names(lengths: Sequence[int], classes: np.ndarray) -> list[str]:
    """The range of source tokens (without EOS) of each class."""
    names = []
    for number in range(LENGTH_CLASSES):
        inside = np.array(lengths)[classes == number] - 1
        names.append(f"{inside.min()}-{inside.max()}" if len(inside) else "none")
    return names


def _losses(bleu: dict[str, float]) -> dict[str, float]:
    """BLEU lost from one system to the next; of the parts that were measured.

    No predictor could know the codes of a reference: without a teacher nothing is said of it.
    """
    parts = {
        "autoencoder": ("teacher_greedy", "autoencoder"),
        **({"predictor": ("autoencoder", "true_length")} if "teacher_greedy" in bleu else {}),
        "length": ("true_length", "predicted"),
        "gained by candidates": ("predicted", "candidates"),
        "left to a better ranking": ("candidates", "oracle"),
    }
    gains = ("gained by candidates", "left to a better ranking")
    return {
        name: (bleu[after] - bleu[before]) * (1 if name in gains else -1)
        for name, (before, after) in parts.items()
        if {before, after} <= bleu.keys()
    }


def losses_table(result: dict[str, Any]) -> str:
    """The result as Markdown: systems, losses, and score by length."""
    systems = result["systems"]
    rows = [
        [
            name,
            f"{figures['bleu']:.1f}",
            f"{figures['chrf']:.1f}",
            f"{figures['brevity_penalty']:.3f}",
            f"{figures['length_ratio']:.3f}",
            f"{figures['repetition_rate']:.1%}",
        ]
        for name, figures in systems.items()
    ]
    main = markdown_table(["system", "BLEU", "chrF", "brevity", "length", "repeats"], rows)
    losses = markdown_table(
        ["lost (or gained) in", "BLEU"], [[name, f"{value:+.1f}"] for name, value in result["losses"].items()]
    )
    lengths = markdown_table(
        ["BLEU by source sub-words", *result["length_classes"]],
        [
            [name, *("" if value is None else f"{value:.1f}" for value in figures["bleu_by_length"])]
            for name, figures in systems.items()
        ],
    )
    text = (
        "the teacher's greedy output" if "teacher_greedy" in systems else "the reference, without a teacher"
    )
    explained = "\n".join([f"- {name}: {SYSTEMS[name]}" for name in systems] + [f"- that text: {text}"])
    predictor, codes = result["predictor"], result["codes"]
    first = next(iter(systems.values()))
    return (
        f"{main}\n\n{explained}\n\n{losses}\n\n{lengths}\n\n"
        f"- predictor, teacher-forced: accuracy {predictor['accuracy']:.3f}, "
        f"perplexity {predictor['perplexity']:.2f}\n"
        f"- codes: {codes['usage']:.1%} of {codes['codebook_size']} used, "
        f"perplexity {codes['perplexity']:.1f}\n"
        f"- BLEU: sacreBLEU, `{first['signature']}`; chrF: `{first['chrf_signature']}`; "
        "length: words over those of the reference; repeats: sentences in which a token follows itself"
    )
