"""The edge of fairseq's own commands, once the plugin is loaded: mistakes are one line, as those of `vqnat`.

Nothing heavy is imported here, so that even an import that fails can be explained.
"""

import argparse
import linecache
import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from .errors import GOES_ON, STOPPED, UsageError, UserError, explain

# A process that `vqnat train` starts.
WORKER = "vqnat_plugin.launch"
# Names, in the environment of workers that run side by side, a pipe that holds one byte for all of them.
VOICE = "VQNAT_VOICE"
# Names the value of `--batch-tokens`, of which each of them gets its part as `--max-tokens`.
BATCH_TOKENS_VARIABLE = "VQNAT_BATCH_TOKENS"
# What gloo, NCCL and torch's store say where another process of a training is gone.
LOST = re.compile(
    r"gloo.*(closed|reset|refused|timed? ?out|Broken pipe)|Connection was likely closed"
    r"|remote process exited|DistNetworkError",
    re.IGNORECASE | re.DOTALL,
)
_complaints = ExitStack()
# What errors mean that fairseq does not raise itself, by the module that they come from.
KNOWN: dict[tuple[type[BaseException], str], str] = {
    (
        KeyError,
        "fairseq_cli.train",
    ): (
        "--best-checkpoint-metric {0}: is not among the figures of the validation; those of BLEU need "
        "--eval-bleu, those of codes are there behind --unquantized-updates"
    ),
    (ZeroDivisionError, "fairseq_cli.generate"): (
        "no sentence was translated; add --required-batch-size-multiple 1, without which incomplete batches "
        "are left out"
    ),
}
# The first version of Python on which fairseq makes no parser: it has `str | None` as the type of an option.
TOO_NEW = (3, 14)


def program() -> str | None:
    """The command of fairseq that this process runs; `vqnat train` for its workers; None otherwise."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    package, _, module = (spec.name if spec else "").rpartition(".")
    if package == "fairseq_cli":
        return f"fairseq-{module.replace('_', '-')}"
    if spec and spec.name == WORKER:
        return "vqnat train"
    script = Path(sys.argv[0]).name.removesuffix(".exe")
    return script if script.startswith("fairseq-") else None


def require_python(version: tuple[int, ...] = sys.version_info[:2]) -> None:
    """Raise `UserError` for a Python on which fairseq does not run."""
    if version >= TOO_NEW:
        raise UserError(f"fairseq does not run on Python {'.'.join(map(str, version))}: use 3.10 to 3.13")


def own_error(error: BaseException) -> BaseException:
    """The `UserError` that an error of fairseq or of torch stands for; any other error as it is.

    Processes that torch starts, for each GPU or to load data, send their traceback as an error's message.
    fairseq says of missing files what is missing, but leaves out what `explain` would say of them; and what
    it has to say to users it says in assertions and in exceptions of any kind, as Hydra does.
    """
    if isinstance(error, OSError) and not error.strerror:
        return UserError(str(error))
    if type(error).__name__ == "MissingMandatoryValue":
        # Of OmegaConf, which need not be there.
        return UserError(f"needs --{str(getattr(error, 'full_key', '')).replace('_', '-')}")
    where, raised = _origin(error)
    if (type(error), where) in KNOWN:
        return UserError(KNOWN[type(error), where].format(*error.args))
    said = raised or isinstance(error, AssertionError)
    if said and where.partition(".")[0] in ("fairseq", "fairseq_cli", "hydra") and str(error):
        return UserError(str(error))
    found = re.search(r"^vqnat_plugin\.errors\.\w+: (.*)\Z", str(error), re.MULTILINE | re.DOTALL)
    if found is None and isinstance(error, RuntimeError) and LOST.search(str(error)):
        return UserError(
            "another process of this training has ended, or cannot be reached: its output says why"
        )
    return UserError(found.group(1)) if found else error


def _origin(error: BaseException) -> tuple[str, bool]:
    """The module that an error comes from, and whether that has raised it in so many words."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "", False
    line = linecache.getline(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
    return trace.tb_frame.f_globals.get("__name__", ""), line.lstrip().startswith(("raise ", "assert "))


@contextmanager
def short_complaints(help: str = "--fairseq-help") -> Iterator[None]:
    """Within, a mistyped option of fairseq is a `UsageError`, without the page of options before it.

    Args:
        help: shows all options.
    """

    def error(parser: argparse.ArgumentParser, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {help})")

    def value(parser: argparse.ArgumentParser, action: argparse.Action, text: str) -> Any:
        try:
            return get_value(parser, action, text)
        except argparse.ArgumentError:
            raise
        except Exception:
            # fairseq evaluates some values as Python, which ends in errors of any kind.
            raise argparse.ArgumentError(action, f"invalid value: {text!r}") from None

    before, get_value = argparse.ArgumentParser.error, argparse.ArgumentParser._get_value
    argparse.ArgumentParser.error = error  # type: ignore[method-assign,assignment]
    argparse.ArgumentParser._get_value = value  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        argparse.ArgumentParser.error = before  # type: ignore[method-assign]
        argparse.ArgumentParser._get_value = get_value  # type: ignore[method-assign]


def _has_the_voice() -> bool:
    """Whether this process says what is wrong: of several workers, the first that gets the byte."""
    try:
        return os.read(int(os.environ[VOICE]), 1) != b""
    except (KeyError, ValueError, OSError):
        return True


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    trains = program() in ("vqnat train", "fairseq-train", "fairseq-hydra-train")
    explained = explain(own_error(error), GOES_ON if trains else STOPPED)
    if explained is None:
        sys.__excepthook__(kind, error, trace)
        return
    line, status = explained
    if line and _has_the_voice():
        # torch.distributed catches what is written to sys.stderr here, to mark it with the rank afterwards.
        print(f"{program()}: error: {line}", file=sys.__stderr__)
    raise SystemExit(status)


def explain_errors() -> None:
    """Let the process end with one line for a mistake, if it runs one of fairseq's commands."""
    if program() is None:
        return
    sys.excepthook = _show
    # Until the process ends.
    _complaints.enter_context(short_complaints("--help"))
    # Hydra prints tracebacks itself unless it is told to let errors pass.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
