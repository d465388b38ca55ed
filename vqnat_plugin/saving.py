"""Checkpoints are written whole or not at all, by us and by fairseq's trainer.

fairseq copies a checkpoint into `checkpoint_last.pt` bit by bit: a kill leaves half of it, and the training
cannot go on. A full disk makes it try thrice, and then end with torch's tracebacks.
"""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

from .files import write_atomically


def install() -> None:
    """Teach the trainer of this process."""
    checkpoint_utils.torch_persistent_save = _in_one_step(checkpoint_utils.torch_persistent_save)
    PathManager.copy = staticmethod(_copied_in_one_step(PathManager.copy))


def save(state: Any, path: Path) -> None:
    """Write what `torch.save` does, in one step; makes the folder if needed.

    Raises:
        DataError: it cannot be written.
    """
    write_atomically(path, functools.partial(_save, state))


def _save(state: Any, part: Path) -> None:
    with part.open("wb") as stream:
        try:
            torch.save(state, stream)
        except RuntimeError as error:
            # torch's writer notices that less is there than was written, and hides why.
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, OSError):
                cause = cause.__context__
            raise cause or error from None


def _in_one_step(persistent_save: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(persistent_save)
    def torch_persistent_save(state: Any, filename: str, async_write: bool = False) -> None:
        if async_write or not PathManager.supports_rename(filename):
            persistent_save(state, filename, async_write)
        else:
            save(state, Path(filename))

    return torch_persistent_save


def _copied_in_one_step(copy: Callable[..., bool]) -> Callable[..., bool]:
    @functools.wraps(copy)
    def whole_copy(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
        if PathManager.path_requires_pathmanager(dst_path):
            return copy(src_path, dst_path, overwrite=overwrite)
        write_atomically(Path(dst_path), functools.partial(shutil.copyfile, src_path))
        return True

    return whole_copy
