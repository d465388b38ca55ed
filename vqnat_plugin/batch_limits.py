"""No sentence of a training gets lost: what a batch cannot hold is a mistake, or is counted.

fairseq leaves out training sentences longer than `--max-tokens`, ends with a traceback at the first
validation that meets one, and drops the last batch unless `--required-batch-size-multiple` divides its size.
"""

import functools
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from fairseq.data import data_utils
from fairseq.distributed.utils import get_global_rank
from fairseq.tasks.fairseq_task import FairseqTask
from fairseq.trainer import Trainer
from fairseq.utils import resolve_max_positions, split_paths

from .errors import UsageError
from .fairseq_commands import BATCH_TOKENS_VARIABLE

# With it, fairseq leaves out what is too long in every subset.
SKIP = "--skip-invalid-size-inputs-valid-test"

logger = logging.getLogger(__name__)


def install() -> None:
    """Teach the trainer of this process."""
    Trainer.get_train_iterator = _checked(Trainer.get_train_iterator)
    FairseqTask.get_batch_iterator = _within_a_batch(FairseqTask.get_batch_iterator)
    data_utils.batch_by_size = _with_the_last(data_utils.batch_by_size)


def _with_the_last(batch_by_size: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """Keep the last batch, whatever its size."""

    @functools.wraps(batch_by_size)
    def whole(indices: np.ndarray, *args: Any, **kwargs: Any) -> list[Any]:
        if not len(indices):
            return []
        batches = list(batch_by_size(indices, *args, **kwargs))
        dropped = len(indices) - sum(map(len, batches))
        return [*batches, indices[-dropped:]] if dropped else batches

    return whole


def _within_a_batch(get_batch_iterator: Callable[..., Any]) -> Callable[..., Any]:
    """What a batch cannot hold is too long, in validation as in training."""

    @functools.wraps(get_batch_iterator)
    def within_a_batch(
        self: FairseqTask,
        dataset: Any,
        max_tokens: int | None = None,
        max_sentences: int | None = None,
        max_positions: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        positions = resolve_max_positions(max_positions, max_tokens)
        return get_batch_iterator(self, dataset, max_tokens, max_sentences, positions, *args, **kwargs)

    return within_a_batch


def _checked(get_train_iterator: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(get_train_iterator)
    def checked_train_iterator(
        self: Trainer,
        epoch: int,
        combine: bool = True,
        load_dataset: bool = True,
        data_selector: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        if load_dataset and not hasattr(self, "first_epoch"):
            self.first_epoch = epoch
            task, subset = self.task, self.cfg.dataset.train_subset
            datasets = [(name, dataset) for name, dataset in task.datasets.items() if name != subset]
            # Folders joined by ':' take turns; the one of this epoch comes last, and stays.
            shards = len(split_paths(self.cfg.task.data)) if task.has_sharded_data(subset) else 1
            for later in reversed(range(shards)):
                task.load_dataset(
                    subset, epoch=epoch + later, combine=combine, data_selector=data_selector, tpu=self.tpu
                )
                datasets.append((subset, task.dataset(subset)))
            check_lengths(self, datasets)
            load_dataset = False
        return get_train_iterator(self, epoch, combine, load_dataset, data_selector, *args, **kwargs)

    return checked_train_iterator


def check_lengths(trainer: Trainer, datasets: Sequence[tuple[str, Any]]) -> None:
    """Look at every sentence pair for training and validation, before the first update.

    Args:
        trainer: with its options, task and model.
        datasets: the data, with the name of the subset.

    Raises:
        UsageError: a pair is too long for a batch or, in validation, for the model, and nothing says that it
            may be left out; or none is left.
    """
    options = trainer.cfg.dataset
    positions = resolve_max_positions(trainer.task.max_positions(), trainer.model.max_positions())
    # The longest sentence that the model reads, with its subset, for each limit.
    longest: dict[int, tuple[int, str]] = {}
    usable: list[tuple[str, int, int, Any]] = []
    for subset, dataset in datasets:
        kept, unread = np.arange(len(dataset)), []
        try:
            lengths = np.asarray(dataset.num_tokens_vec(kept))
        except NotImplementedError:
            continue
        training = subset == options.train_subset
        limit = options.max_tokens if training else options.max_tokens_valid
        if positions is not None:
            kept, unread = dataset.filter_indices_by_size(kept, positions)
        if len(unread) and not training and not options.skip_invalid_size_inputs_valid_test:
            raise UsageError(
                f"{subset}: {len(unread)} of {len(dataset)} sentence pairs have more than "
                f"{_tokens(positions)}, which the model cannot read: {SKIP} leaves them out"
            )
        if limit is not None:
            most = int(lengths[kept].max(initial=0))
            longest[limit] = max(longest.get(limit, (0, "")), (most, subset))
            kept = kept[lengths[kept] <= limit]
        usable.append((subset, len(kept), len(dataset), resolve_max_positions(positions, limit)))
    for limit, (most, subset) in longest.items():
        if most > limit and not options.skip_invalid_size_inputs_valid_test:
            raise UsageError(_too_small(trainer, limit, most, subset))
    for subset, count, total, positions in usable:
        _say_what_is_left_out(subset, count, total, positions)


def _say_what_is_left_out(subset: str, count: int, total: int, positions: Any) -> None:
    if not count:
        reason = f", all have more than {_tokens(positions)}" if total else ""
        raise UsageError(f"{subset}: none of {total} sentence pairs can be used{reason}")
    if count < total and get_global_rank() == 0:
        logger.warning(
            f"{subset}: {total - count:,} of {total:,} sentence pairs ({1 - count / total:.1%}) are left "
            f"out, because they have more than {_tokens(positions)}"
        )


def _tokens(positions: Any) -> str:
    source, target = positions if isinstance(positions, tuple) else (positions, positions)
    return f"{source} tokens" if source == target else f"{source} tokens of source or {target} of target"


def _too_small(trainer: Trainer, limit: int, longest: int, subset: str) -> str:
    """What to say of a limit on batches, in tokens, that the longest sentence does not keep."""
    found = f"the longest sentence of {subset} has {longest} tokens"
    way_out = f"or {SKIP}, which leaves longer ones out"
    if limit != trainer.cfg.dataset.max_tokens:
        return f"--max-tokens-valid {limit}: {found}; needs at least {longest}, {way_out}"
    workers, total = trainer.data_parallel_world_size, int(os.environ.get(BATCH_TOKENS_VARIABLE, 0))
    if total // workers != limit:
        return f"--max-tokens {limit}: {found}; needs at least {longest}, {way_out}"
    fewer = "" if trainer.cuda or total < longest else f" or --workers {total // longest},"
    return (
        f"--batch-tokens {total}: leaves {limit} for each of {workers} workers, but {found}; needs at least "
        f"{longest * workers},{fewer} {way_out}"
    )
