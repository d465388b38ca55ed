"""Distillation from beginning to end."""

import sys

from ..errors import DataError
from .chunks import plan_chunks
from .corpus import open_data
from .decode import decode_share
from .merge import merge, options
from .settings import Settings
from .workers import progress_bar, run_workers
from .workspace import Workspace, identity


def distill(settings: Settings) -> bool:
    """Replace the training targets in `settings.data` by a teacher's translations.

    This is sequence-level distillation (Kim and Rush, 2016), which non-autoregressive models learn from (Gu
    et al., 2018; Roy et al., 2018). `settings.out` becomes a folder for fairseq-train: the same dictionaries,
    valid and test sets, and a training set whose targets are what the teacher's beam search finds. Finished
    chunks outlive whatever ends the process: the same call goes on from there, with any number of ranks and
    workers.

    Returns:
        Whether the data set is complete. If not, other ranks are still at work.

    Raises:
        DataError: something that the user can put right.
        CheckpointError: a teacher's file is no checkpoint, or holds more than data.
    """
    _check(settings)
    share = settings.share
    data = open_data(settings.data, settings.source_lang, settings.target_lang)
    workspace = Workspace(settings.out, identity(settings, data))
    if not settings.restart and workspace.is_finished(options(settings, data)):
        print(f"distill: {settings.out} is finished already; --restart makes it anew")
        return True
    workspace.open(settings.restart)

    sentences = data.read()
    chunks = plan_chunks(sentences.source_lengths(), settings.chunk_size)
    mine = share.chunks(len(chunks))
    finished = [number for number in mine if number in workspace.chunks]
    if len(finished) < len(mine):
        done = sum(len(chunks[number]) for number in finished)
        if done:
            print(f"distill: going on after {done} sentences", file=sys.stderr)
        # The ranks take turns, so the first one's progress stands for all.
        with progress_bar(sum(len(chunks[number]) for number in mine), done, disable=share.rank > 0) as bar:
            if share.workers > 1:
                run_workers(settings, data, workspace, bar.update)
            else:
                decode_share(settings, data, workspace, share, bar.update)

    missing = sum(number not in workspace.chunks for number in range(len(chunks)))
    if missing:
        print(
            f"distill: rank {share.rank} of {share.world_size} is done; {missing} of {len(chunks)} chunks "
            "are still to come from other ranks, and the last one writes the data set"
        )
        return False
    merge(settings, data, sentences, workspace, len(chunks))
    print(f"distill: {settings.out} is complete; what is in it stands in {workspace.manifest.name}")
    return True


def _check(settings: Settings) -> None:
    if not settings.teachers:
        raise DataError("--teacher: needs a checkpoint")
    for path in settings.teachers:
        if not path.is_file():
            raise DataError(f"--teacher {path}: no such file")
    if settings.out.resolve() == settings.data.resolve():
        raise DataError(f"--out {settings.out}: is the --data folder itself; choose another")
    if settings.restart and settings.share.world_size > 1:
        raise DataError(
            f"--restart with several ranks: one would delete another's work; delete {settings.out} yourself"
        )
