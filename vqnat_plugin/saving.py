"""Checkpoints are written whole or not at all, by us and by fairseq's trainer.

fairseq copies a checkpoint into `checkpoint_last.pt` bit by bit: a kill leaves half of it, and the training
cannot go on. A full disk makes it try thrice, and then end with torch's tracebacks.
"""

import functools
import shutil
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

from .files import write_atomically


def install() -> None:
    """Teach the trainer of this process."""
    checkpoint_utils.torch_persistent_save = _persistent_save
    PathManager.copy = staticmethod(_copy)


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


def _persistent_save(state: Any, filename: str, async_write: bool = False) -> None:
    save(state, Path(filename))


def _copy(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
    write_atomically(Path(dst_path), functools.partial(shutil.copyfile, src_path))
    return True
