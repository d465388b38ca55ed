"""Distillation from beginning to end: chunk after chunk, in one process or several, then the data set."""

import contextlib
import functools
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from tqdm import tqdm

# Before fairseq, which it keeps quiet.
from .. import compat  # noqa: F401
from ..data.settings import SUSPICIOUS
from ..errors import BusyError, DataError, UserError, explain
from ..files import alone, write_atomically
from ..launch import available_cores, worker_environment
from ..reading import read_json, sha256
from .chunks import Chunk, equal_length_batches, in_mixed_order, plan_chunks
from .corpus import ParallelData, Sentences, open_data
from .merge import choices, merge
from .settings import DistillOptions, Share
from .teacher import Teacher, choose_device, open_teacher
from .workspace import Workspace, identity


@dataclass(frozen=True)
class Job:
    """What is to be translated, and where it is kept."""

    options: DistillOptions
    data: ParallelData
    workspace: Workspace


def distill(options: DistillOptions) -> bool:
    """Replace the training targets in `options.data` by a teacher's translations.

    This is sequence-level distillation (Kim and Rush, 2016), which non-autoregressive models learn from (Gu
    et al., 2018; Roy et al., 2018). `options.out` becomes a folder for fairseq-train: the same dictionaries,
    valid and test sets, and a training set whose targets are what the teacher's beam search finds. Finished
    chunks outlive whatever ends the process: the same call goes on from there, with any number of ranks and
    workers.

    Returns:
        Whether the data set is complete. If not, other ranks are still at work.

    Raises:
        UserError: something that the user can put right.
    """
    options.check()
    options = options.on(torch.cuda.device_count(), available_cores())
    data = open_data(options.data, options.source_lang, options.target_lang)
    workspace = Workspace(options.out, identity(options, data))
    if not options.restart and workspace.is_finished(choices(options, data)):
        _copy_text_pipeline(data, options.out)
        print(f"distill: {options.out} is finished already; --restart makes it anew")
        return True
    rank = options.share.rank
    try:
        # Ranks work side by side.
        with alone(options.out / f"rank-{rank}", beside=True):
            return _distill(options, data, workspace)
    except BusyError:
        raise DataError(
            f"--out {options.out}: another process is at work there as rank {rank}; wait for its end, or end "
            "it"
        ) from None


def _distill(options: DistillOptions, data: ParallelData, workspace: Workspace) -> bool:
    """What is left to do; see `distill`."""
    sentences = data.read()
    begun = workspace.folder.exists()
    workspace.open(options.restart)

    chunks = plan_chunks(sentences.source_lengths, options.chunk_size)
    try:
        _translate(Job(options, data, workspace), [len(chunk) for chunk in chunks])
    except UserError:
        if not begun and options.share.world_size == 1:
            workspace.forget()
        raise
    missing = sum(number not in workspace.chunks for number in range(len(chunks)))
    if missing:
        share = options.share
        print(
            f"distill: rank {share.rank} of {share.world_size} is done; {missing} of {len(chunks)} chunks "
            "are still to come from other ranks, and the last one writes the data set"
        )
        return False
    merge(options, data, sentences, workspace, len(chunks))
    print(f"distill: {options.out} is complete; what is in it stands in {workspace.manifest.name}")
    _say_what_is_left_out(read_json(workspace.manifest)["counts"])
    return True


def _copy_text_pipeline(data: ParallelData, out: Path) -> None:
    """For data that were finished before their text pipeline was written, or changed."""
    for file in data.text_pipeline():
        copy = out / file.name
        if not copy.is_file() or sha256(copy) != sha256(file):
            write_atomically(copy, functools.partial(shutil.copyfile, file))


def _say_what_is_left_out(counts: dict[str, Any]) -> None:
    """Count by reason, and warn of a reason with a suspiciously large share."""
    total, filtered = counts["in"], counts["filtered"]
    reasons = ", ".join(f"{count} {reason}" for reason, count in filtered.items())
    print(
        f"distill: {counts['distilled']} of {total} sentences are translated; filtered: {reasons or 'none'}"
    )
    for reason, count in filtered.items():
        if count > SUSPICIOUS * total:
            print(
                f"vqnat distill: warning: {count} of {total} sentences ({count / total:.0%}) are filtered as "
                f"{reason}; see filtered.tsv",
                file=sys.stderr,
            )


def _translate(job: Job, sizes: list[int]) -> None:
    """Translate what is missing of this process's chunks, of which `sizes` has the sentences."""
    share = job.options.share
    mine = share.chunks(len(sizes))
    finished = [number for number in mine if number in job.workspace.chunks]
    if len(finished) == len(mine):
        return
    done = sum(sizes[number] for number in finished)
    if done:
        print(f"distill: going on after {done} sentences", file=sys.stderr)
    decode = run_decoders if share.workers > 1 else decode_share
    # The ranks take turns, so the first one's progress stands for all.
    with progress_bar(sum(sizes[number] for number in mine), done, disable=share.rank > 0) as bar:
        decode(job, share, bar.update)


def decode_share(job: Job, share: Share, report: Callable[[int], object]) -> None:
    """Translate and keep those chunks of this share that are not there yet; report as `translate_chunk`.

    Raises:
        UserError: see `open_teacher` and `choose_device`.
    """
    options, kept = job.options, job.workspace.chunks
    sentences = job.data.read()
    chunks = plan_chunks(sentences.source_lengths, options.chunk_size)
    todo = [number for number in share.chunks(len(chunks)) if number not in kept]
    if not todo:
        return
    teacher = open_teacher(options, job.data, choose_device(share, options.cpu, options.precision))
    for number in in_mixed_order(todo):
        # Of use to sampling: a chunk is the same whoever draws it, and whenever.
        torch.manual_seed(options.seed * len(chunks) + number)
        kept.write(number, translate_chunk(teacher, sentences, chunks[number], options, report))


def translate_chunk(
    teacher: Teacher,
    sentences: Sentences,
    indices: np.ndarray,
    options: DistillOptions,
    report: Callable[[int], object],
) -> Chunk:
    """Translate the sentences `indices`, sorted by length, but for empty ones and those that are too long.

    Args:
        report: called with the number of sentences after each batch.
    """
    started = time.monotonic()
    lengths = sentences.source_lengths
    longest = lengths.max() if teacher.max_source_length is None else teacher.max_source_length
    empty = np.array([not sentences.source_words(index) for index in indices.tolist()])
    readable = indices[(lengths[indices] <= longest) & ~empty]
    outputs: dict[int, np.ndarray] = {}
    report(len(indices) - len(readable))
    for batch in equal_length_batches(readable, lengths, options.max_tokens, options.batch_size):
        translations = teacher.translate([sentences.source[int(index)] for index in batch])
        outputs.update(zip(batch.tolist(), translations, strict=True))
        report(len(batch))
    return Chunk(indices, [outputs.get(index) for index in indices.tolist()], time.monotonic() - started)


def run_decoders(job: Job, share: Share, report: Callable[[int], object]) -> None:
    """Let this rank's workers, a process each, decode until each has done its part of the share.

    Raises:
        DataError: a worker met something that the user can put right, or was killed; the others are stopped.
    """
    context = multiprocessing.get_context("spawn")
    processes: dict[Connection, Any] = {}
    try:
        with _environment(worker_environment(threads=1)):
            for worker in range(share.workers):
                ours, theirs = context.Pipe(duplex=False)
                task = (job, share.of_worker(worker), theirs)
                process = context.Process(target=_work, args=task, daemon=True)
                process.start()
                theirs.close()
                processes[ours] = process
        while processes:
            for connection in wait(list(processes)):
                assert isinstance(connection, Connection)
                try:
                    message = connection.recv()
                except EOFError:
                    _check_exit(processes.pop(connection))
                    continue
                if isinstance(message, str):
                    raise DataError(message)
                report(message)
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.join()


def _work(job: Job, share: Share, connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent, which gets it too, stops us
    torch.set_num_threads(1)
    logging.getLogger("fairseq").setLevel(logging.WARNING)
    # Once the parent is gone, however it went, nobody reads and the next report ends this process.
    with contextlib.suppress(BrokenPipeError):
        try:
            decode_share(job, share, connection.send)
        except BrokenPipeError:
            raise
        except Exception as error:
            explained = explain(error)
            if explained is None:
                raise
            connection.send(explained[0])


def _check_exit(process: Any) -> None:
    process.join()
    if process.exitcode:
        how = f"was killed by signal {-process.exitcode}" if process.exitcode < 0 else "failed, see above"
        raise DataError(
            f"a worker {how}; finished chunks are kept: run the same command again, with fewer --workers if "
            "memory was short"
        )


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class _Lines:
    """A stream for a progress bar in a log file: each state is a line, and overwrites none."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        if text.strip():
            self.stream.write(text.strip() + "\n")

    def flush(self) -> None:
        self.stream.flush()


def progress_bar(total: int, done: int, disable: bool = False) -> Any:
    """A bar over sentences with the time that remains; in a log file a line every half minute."""
    lines = {"file": _Lines(sys.stderr), "mininterval": 30, "maxinterval": 60, "ascii": True}
    shown = {"file": sys.stderr} if sys.stderr.isatty() else lines
    return tqdm(total=total, initial=done, desc="distill", unit="sent", disable=disable, **shown)
