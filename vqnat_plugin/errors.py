"""What the user can put right: few kinds of errors, and the one place that turns them into one line."""

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# What brings a package that is not installed.
EXTRAS = {
    "text": ("langcodes", "sacremoses", "sentencepiece", "subword_nmt"),
    "runtime": ("onnxruntime", "sentencex", "tqdm"),
    "serve": ("starlette", "uvicorn"),
    "export": ("onnx",),
    "translation": ("hydra", "omegaconf", "sacrebleu", "sklearn", "yaml"),
    "images": ("torchvision", "PIL", "skimage"),
    "plots": ("matplotlib",),
    "bench": ("ctranslate2",),
}
# fairseq's packages ask for torchaudio, which nothing here needs.
FAIRSEQ = "pip install --no-deps ve-fairseq==0.12.3, and where the source is, pip install '.[translation]'"
NO_MEMORY = re.compile(
    r"DefaultCPUAllocator: .*?(\d+) bytes|Storage size calculation overflowed"
    r"|Failed to allocate memory for requested buffer of size (\d+)|std::bad_alloc|CUDA out of memory"
)
# Exit statuses: a mistake that one line explains; ended by Ctrl-C; the reader of a pipe has gone.
MISTAKE, INTERRUPTED, CLOSED_PIPE = 2, 130, 141
# What a command says after Ctrl-C.
STOPPED = "interrupted"
GOES_ON = "interrupted; the same command goes on from what is done"


class UserError(Exception):
    """Something that the user can put right; the message is one line that says how."""


class UsageError(UserError):
    """An option has a value that cannot be, or options do not go together."""


class DataError(UserError):
    """A file, a folder or a text is missing, damaged, or not what was expected."""


class BusyError(DataError):
    """Another process is writing to a folder."""


class CheckpointError(DataError):
    """A checkpoint cannot be read, is of another kind of model, or holds something other than data."""


def missing_package(error: ModuleNotFoundError) -> str:
    """What to install, in one line, for a package of ours that is not there."""
    name = (error.name or "").partition(".")[0]
    if name.startswith("fairseq"):
        return f"needs fairseq, which is not installed: {FAIRSEQ} (scripts/setup.sh installs everything)"
    extra = next((extra for extra, packages in EXTRAS.items() if name in packages), None)
    way = f"pip install '.[{extra}]' where the source is" if extra else f"pip install {name}"
    return f"needs {name}, which is not installed: {way} (scripts/setup.sh installs everything)"


def _out_of_memory(error: BaseException) -> str:
    """What did not fit into memory; empty where that was not the matter."""
    # torch and ONNX Runtime have no class for it on a CPU, torch none for what no memory could hold.
    found = NO_MEMORY.search(str(error))
    if not isinstance(error, MemoryError) and found is None:
        return ""
    size = found and (found[1] or found[2])
    wanted = f"{int(size):,} bytes do" if size else "what is asked for does"
    return f"{wanted} not fit into memory; lower a size, such as that of the batch or of the model"


def explain(error: BaseException, interrupted: str = STOPPED) -> tuple[str, int] | None:
    """The line to show for an error and the exit status; None for a fault of the program itself.

    Args:
        error: what was raised.
        interrupted: the line after Ctrl-C.
    """
    if isinstance(error, UserError):
        return " ".join(str(error).split()), MISTAKE
    if isinstance(error, BrokenPipeError):
        return "", CLOSED_PIPE
    if isinstance(error, KeyboardInterrupt):
        return interrupted, INTERRUPTED
    if isinstance(error, ModuleNotFoundError):
        return missing_package(error), MISTAKE
    if wanted := _out_of_memory(error):
        return wanted, MISTAKE
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        way_out = (
            "; take fewer --workers or --jobs, or raise 'ulimit -n'" if error.errno == errno.EMFILE else ""
        )
        return " ".join(f"{where}{error.strerror}{way_out}".split()), MISTAKE
    return None


def _flush_output() -> None:
    """Write now what waits for standard output.

    Raises:
        OSError: it cannot be written. It is dropped: Python would try once more at its end, and complain.
    """
    if sys.stdout is None or sys.stdout.closed:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


@contextmanager
def one_line(program: str, interrupted: str = STOPPED) -> Iterator[None]:
    """At the edge of a command: what `explain` knows becomes one line on stderr and an exit status.

    Args:
        program: what the line begins with.
        interrupted: what it says after Ctrl-C; nothing is shown when it is empty.

    Raises:
        SystemExit: with that status. Any other error passes, with its traceback.
    """
    try:
        try:
            yield
        finally:
            _flush_output()
    except BaseException as error:
        explained = explain(error, interrupted)
        if explained is None:
            raise
        line, status = explained
        if line:
            print(f"{program}: error: {line}", file=sys.stderr)
        raise SystemExit(status) from None
