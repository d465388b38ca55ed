"""A process that has imported everything once, and runs each command in a fork of itself.

Started by `Warm` of `refusals.py`. Reads a request a line as JSON, and answers each with the status of the
command: that of a process of its own, `null` if it took too long.
"""

import atexit
import importlib
import json
import os
import resource
import signal
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What a command may take of addresses: an absurd size is refused by the system, not granted by the machine.
ADDRESSES = 24 << 30
FAIRSEQ = ("train", "generate", "interactive", "validate", "preprocess", "score", "eval_lm", "hydra_train")


def import_everything() -> None:
    """What the commands import, so that each fork has it."""
    from vqnat_plugin import compat
    from vqnat_plugin.commands import main

    for name in ("analysis.diagnosis", "analysis.codes", "analysis.latents", "averaging", "export.run"):
        importlib.import_module(f"vqnat_plugin.{name}")
    for name in (
        "recipes.comparison",
        "evaluation.plots",
        "imaging.codes",
        "imaging.report",
        "line_filter",
    ):
        importlib.import_module(f"vqnat_plugin.{name}")
    for name in ("data.prepare", "distillation.run", "generation.raw_text", "recipes.grid_report"):
        importlib.import_module(f"vqnat_plugin.{name}")
    for name in FAIRSEQ:
        importlib.import_module(f"fairseq_cli.{name}")
    for name in ("langcodes", "sacremoses", "matplotlib.pyplot", "onnxruntime"):
        importlib.import_module(name)
    assert main and compat


def command(program: str) -> Callable[[], Any]:
    """What a program does with `sys.argv`, after this process has become it."""
    from vqnat_plugin import fairseq_commands, launch
    from vqnat_plugin.commands.main import main

    if program == "vqnat":
        return main
    # As Python does with -m; the edge of fairseq's commands goes by it.
    module = launch.WORKER if program == "worker" else f"fairseq_cli.{program[8:].replace('-', '_')}"
    sys.modules["__main__"].__spec__ = types.SimpleNamespace(name=module)  # type: ignore[assignment]
    fairseq_commands.explain_errors()
    os.environ[launch.LAUNCHER] = str(os.getppid())
    return launch._worker if program == "worker" else importlib.import_module(module).cli_main  # type: ignore[no-any-return]


def become(request: dict[str, Any]) -> int:
    """In a fork: run the command as Python runs a script; its exit status."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir(request["folder"])
    files = [os.open(os.devnull, os.O_RDONLY)]
    files += [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for path in request["streams"]]
    for number, file in enumerate(files):
        os.dup2(file, number)
    program, *words = request["words"]
    sys.argv = [program, *words]
    try:
        try:
            code = command(program)()
        except SystemExit:
            raise
        except BaseException:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            return 1
    except SystemExit as ended:
        code = ended.code
    if isinstance(code, str):
        print(code, file=sys.stderr)
        return 1
    return code or 0


def status_of(child: int, seconds: float) -> int | None:
    """The exit status of a child; None if it takes longer."""
    end, pause = time.monotonic() + seconds, 0.001
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause)
        pause = min(2 * pause, 0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def serve() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    import_everything()
    print("ready", file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = become(request)
                atexit._run_exitfuncs()
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)
        print(json.dumps(status_of(child, request["seconds"])), file=answers)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    serve()
