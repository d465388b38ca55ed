"""The command `vqnat`: finds the subcommand, parses its options, runs it, and shows mistakes in one line."""

import difflib
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from .. import __version__
from ..errors import STOPPED, one_line
from ..files import alone
from ..options import Parser, PluginOptions, build_parser, parse

# Subcommands by what they are for, in the order of a project. 'images evaluate' is in images_evaluate.py.
GROUPS = {
    "data": ("prepare", "distill"),
    "models": ("train", "generate", "average", "export", "translate", "serve"),
    "results": ("score", "compare", "benchmark", "benchmark quantizer"),
    "analysis": ("diagnose", "inspect", "latents"),
    "images": ("images evaluate", "images encode", "images decode"),
    "experiments": ("stage", "ablate"),
}
TERMINATED = 128 + signal.SIGTERM
COMMANDS = tuple(name for names in GROUPS.values() for name in names)


def load(name: str) -> Any:
    """The module of a subcommand.

    Its docstring is the help, `Options` are its options, `run` does it; `INTERRUPTED`, if it is there, is
    shown after Ctrl-C; `writes_to`, if it is there, is the folder that nobody else may write to meanwhile.
    """
    return importlib.import_module(f".{name.replace(' ', '_').replace('-', '_')}", __package__)


def summary(module: Any) -> str:
    """The first line of a subcommand's help."""
    return (module.__doc__ or "").strip().splitlines()[0]


def overview() -> str:
    """The help of `vqnat` itself."""
    lines = [
        "usage: vqnat COMMAND ...",
        "",
        "Translation and images with discrete latents.",
    ]
    width = max(map(len, COMMANDS))
    for title, names in GROUPS.items():
        lines += ["", f"{title}:", *(f"  {name:<{width}}  {summary(load(name))}" for name in names)]
    lines += ["", "'vqnat COMMAND --help' shows the options of a command. --version shows the version."]
    return "\n".join(lines)


def parser_of(name: str) -> Parser:
    """The parser of a subcommand."""
    module = load(name)
    return build_parser(
        module.Options, f"vqnat {name}", module.__doc__.strip(), getattr(module, "EPILOG", "").strip()
    )


def find(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The name of the subcommand, of one word or two, and the arguments behind it.

    Raises:
        SystemExit: there is none of this name, with one line on stderr; or those below it have been shown.
    """
    for words in (2, 1):
        name = " ".join(arguments[:words])
        if len(arguments) >= words and name in COMMANDS:
            return name, list(arguments[words:])
    first = arguments[0]
    deeper = [name.split()[1] for name in COMMANDS if name.split()[0] == first]
    if deeper and arguments[1:2] in (["-h"], ["--help"]):
        for word in deeper:
            print(f"vqnat {first} {word}: {summary(load(f'{first} {word}'))}")
        raise SystemExit(0)
    if deeper:
        message = f"vqnat {first}: needs one of {', '.join(deeper)}"
    else:
        near = difflib.get_close_matches(first, [name.split()[0] for name in COMMANDS], 1)
        hint = f"did you mean '{near[0]}'?" if near else "see vqnat --help"
        message = f"vqnat: error: no command '{first}'; {hint}"
    print(message, file=sys.stderr)
    raise SystemExit(2)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does: nothing half-written is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def prepare_streams() -> None:
    """Make standard streams fit to be written to, also those that whoever started this has closed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free: else the next file had it, and got what is meant for the stream.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stderr is None:
        # `print` would take standard output.
        sys.stderr = os.fdopen(2, "w", errors="backslashreplace")
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.closed and sys.stdout.errors == "strict":
        # A name of a file may be no text.
        sys.stdout.reconfigure(errors="backslashreplace")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit status is 2 after a mistake that one line on stderr explains."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    prepare_streams()
    if not arguments or arguments[0] in ("-h", "--help"):
        with one_line("vqnat"):
            print(overview(), flush=True)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        with one_line("vqnat"):
            print(f"vqnat {__version__}")
        return 0
    with one_line("vqnat"):
        name, rest = find(arguments)
    with one_line(f"vqnat {name}"):
        module = load(name)
        options = parse(module.Options, parser_of(name), rest)
    # What Ctrl-C leaves behind is for the command to say.
    with (
        one_line(f"vqnat {name}", getattr(module, "INTERRUPTED", STOPPED)),
        ended_by_sigterm(),
        alone(module.writes_to(options)) if hasattr(module, "writes_to") else nullcontext(),
    ):
        if isinstance(options, PluginOptions) and options.user_dir is not None:
            from ..models.checkpoints import import_plugin

            import_plugin(options.user_dir)
        return module.run(options) or 0
