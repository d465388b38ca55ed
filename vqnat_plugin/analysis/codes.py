"""What each code stands for: the words under it, where it occurs, its neighbours, and examples."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from tqdm import tqdm

from ..evaluation.detokenizer import Detokenizer
from ..models.checkpoints import training_data
from .code_use import code_use
from .latent_model import codes_of, load_latent_model, moved

# How many of everything are kept for a code.
SEGMENTS = 12
NEIGHBOURS = 8
EXAMPLES = 5


@dataclass
class Code:
    """Where a code was seen.

    Attributes:
        count: how often.
        segments: the target words under it, as one text.
        words: the same words one by one.
        positions: which latent of its sentence it was, from 0.
        examples: numbers of sentences.
    """

    count: int = 0
    segments: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    positions: Counter[int] = field(default_factory=Counter)
    examples: list[int] = field(default_factory=list)


def inspect(
    checkpoint: Path,
    data: Path | None = None,
    subset: str = "train",
    sentences: int = 5000,
    batch_size: int = 50,
    seed: int = 1,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Look at the codes of the target side of a subset.

    Args:
        checkpoint: of a model trained with `--task translation_vq`.
        data: binarised data; what the model was trained on by default.
        subset: split of it.
        sentences: at most so many, drawn at random.
        batch_size: sentences.
        seed: of the draw and of the map.
        device: where the model runs; the CPU by default.

    Returns:
        `codes`, one entry a code (see `Code`; with `neighbours` by distance and its place `xy` on a map),
        `sentences` used as examples with their segmentation, and figures of the whole.

    Raises:
        DataError: the checkpoint or the subset is missing.
        CheckpointError: the checkpoint is damaged, or of another kind of model.
    """
    device = device or torch.device("cpu")
    model, _, task = load_latent_model(checkpoint, subset, data, device)
    dataset = task.dataset(subset)
    chosen = np.random.default_rng(seed).permutation(len(dataset))[:sentences].tolist()
    size = model.quantizer.codebook_size
    codes = [Code() for _ in range(size)]
    shown: dict[int, dict[str, Any]] = {}
    for number, source, segments in _segmented(model, task, subset, chosen, batch_size, device):
        for position, (code, words) in enumerate(segments):
            entry = codes[code]
            entry.count += 1
            entry.segments[" ".join(words)] += 1
            entry.words.update(words)
            entry.positions[position] += 1
            if len(entry.examples) < EXAMPLES and number not in entry.examples:
                entry.examples.append(number)
                shown[number] = {
                    "source": source,
                    "segments": [[code, " ".join(words)] for code, words in segments],
                }
    codebook = model.quantizer.codebook.detach().cpu()
    counts = np.array([code.count for code in codes])
    return {
        "checkpoint": str(checkpoint),
        "subset": subset,
        "seed": seed,
        "sentences_seen": len(chosen),
        "codebook_size": size,
        "words_per_code": 1 << model.config.compress_steps,
        **code_use(counts.tolist(), size),
        "codes": _described(codes, _neighbours(codebook.numpy()), _map(codebook, counts, seed)),
        "sentences": shown,
    }


@torch.no_grad()
def _segmented(
    model: Any, task: Any, subset: str, chosen: list[int], batch_size: int, device: torch.device
) -> Iterator[tuple[int, str, list[tuple[int, list[str]]]]]:
    """Number, source text, and (code, target words under it) of each chosen sentence."""
    dataset = task.dataset(subset)
    text = Detokenizer(task, training_data(task.cfg), source=True)
    chosen = sorted(chosen, key=dataset.num_tokens)
    width = 1 << model.config.compress_steps
    for start in tqdm(range(0, len(chosen), batch_size), desc=f"codes of {subset}", unit="batch"):
        sample = dataset.collater([dataset[number] for number in chosen[start : start + batch_size]])
        sample = moved(sample, device)
        source = sample["net_input"]["src_tokens"]
        found, mask = codes_of(model, sample["target"], model.encode(source))
        for row, number in enumerate(sample["id"].tolist()):
            tokens = sample["target"][row]
            words = [task.target_dictionary[token] for token in tokens[tokens != model.pad].tolist()]
            codes = enumerate(found[row, mask[row]].tolist())
            segments = [(code, words[i * width : (i + 1) * width]) for i, code in codes]
            yield number, text(source[row]), segments


def _neighbours(codebook: np.ndarray) -> list[list[tuple[int, float]]]:
    """The nearest other codes and their distances."""
    if len(codebook) == 1:
        return [[]]
    found = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(codebook) - 1)).fit(codebook).kneighbors()
    return [
        list(zip(codes, lengths, strict=True))
        for lengths, codes in zip(found[0].round(3).tolist(), found[1].tolist(), strict=True)
    ]


def _map(codebook: Tensor, counts: np.ndarray, seed: int) -> dict[int, list[float]]:
    """A place in the plane for each used code (t-SNE); too few codes have none."""
    used = np.flatnonzero(counts)
    if len(used) < 5:
        return {}
    perplexity = min(30.0, (len(used) - 1) / 3)
    places = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(codebook[used].numpy())
    return dict(zip(used.tolist(), places.round(2).tolist(), strict=True))


def _described(
    codes: list[Code], neighbours: list[list[tuple[int, float]]], places: dict[int, list[float]]
) -> list[dict[str, Any]]:
    return [
        {
            "code": number,
            "count": code.count,
            "segments": code.segments.most_common(SEGMENTS),
            "distinct_segments": len(code.segments),
            "words": code.words.most_common(SEGMENTS),
            "positions": sorted(code.positions.items()),
            "neighbours": neighbours[number],
            "examples": code.examples,
            "xy": places.get(number),
        }
        for number, code in enumerate(codes)
    ]
