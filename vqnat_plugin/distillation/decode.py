"""One process's translations: chunk after chunk, each kept as soon as it is done."""

import time
from collections.abc import Callable

import numpy as np
import torch

from .chunks import Chunk, equal_length_batches, in_mixed_order, plan_chunks
from .corpus import ParallelData, Sentences
from .settings import Settings, Share
from .teacher import Teacher, choose_device, load_teacher
from .workspace import Workspace


def translate_chunk(
    teacher: Teacher,
    sentences: Sentences,
    indices: np.ndarray,
    settings: Settings,
    report: Callable[[int], None],
) -> Chunk:
    """Translate the sentences `indices`, sorted by length, but for those too long for the teacher.

    Args:
        report: called with the number of sentences after each batch.
    """
    started = time.monotonic()
    lengths = sentences.source_lengths()
    longest = teacher.max_source_length
    readable = indices if longest is None else indices[lengths[indices] <= longest]
    outputs: dict[int, np.ndarray] = {}
    report(len(indices) - len(readable))
    for batch in equal_length_batches(readable, lengths, settings.max_tokens, settings.batch_size):
        translations = teacher.translate([sentences.source[int(index)] for index in batch])
        outputs.update(zip(batch.tolist(), translations, strict=True))
        report(len(batch))
    return Chunk(indices, [outputs.get(index) for index in indices.tolist()], time.monotonic() - started)


def decode_share(
    settings: Settings, data: ParallelData, workspace: Workspace, share: Share, report: Callable[[int], None]
) -> None:
    """Translate and keep those chunks of this share that are not there yet.

    Raises:
        DataError: see `load_teacher` and `choose_device`.
    """
    sentences = data.read()
    chunks = plan_chunks(sentences.source_lengths(), settings.chunk_size)
    todo = [number for number in share.chunks(len(chunks)) if number not in workspace.chunks]
    if not todo:
        return
    device = choose_device(share, settings.cpu, settings.search.precision)
    teacher = load_teacher(settings.teachers, data, settings.search, device, settings.user_dir)
    for number in in_mixed_order(todo):
        # Of use to sampling: a chunk is the same whoever draws it, and whenever.
        torch.manual_seed(settings.search.seed * len(chunks) + number)
        workspace.chunks.write(number, translate_chunk(teacher, sentences, chunks[number], settings, report))
