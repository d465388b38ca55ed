"""README.md: every command in it works, and its generated parts are up to date."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from vqnat_plugin.commands.main import find, parser_of

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
QUICKSTART = ROOT / "runs" / "quickstart"
# Commands that work on what the quickstart left, in the order of the README.
AFTER_QUICKSTART = (
    "vqnat distill",
    "fairseq-train",
    "vqnat generate",
    "fairseq-interactive",
    "fairseq-generate",
    "vqnat export",
    "vqnat translate",
    "vqnat diagnose",
    "vqnat inspect",
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The shell commands of the README, one entry each, however many lines they have."""
    text = "\n".join(blocks("sh")).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip()]


def program(command: str) -> str:
    """What a command calls: a script, a command of fairseq, or a subcommand of vqnat."""
    first, *others = words(command)
    return f"{first} {others[0]}" if first == "vqnat" else first


def words(command: str) -> list[str]:
    """A command's words, without the remarks in backticks that explain it."""
    return shlex.split(re.sub(r"`#[^`]*`", "", command), comments=True)


def test_commands_are_known_to_these_tests() -> None:
    assert [program(command) for command in commands()] == [
        "scripts/test.sh",
        "examples/quickstart/run.sh",
        # See tests/examples/test_committed_model.py.
        "echo",
        *AFTER_QUICKSTART,
    ]


def test_quantizer_block_runs() -> None:
    (block,) = [block for block in blocks("python") if "EMVectorQuantizer" in block]
    namespace: dict[str, object] = {}
    exec(block, namespace)
    assert namespace["z"].grad is not None  # type: ignore[attr-defined]


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 200


def test_flags_exist() -> None:
    from fairseq import options

    import vqnat_plugin  # noqa: F401

    train = next(words(command) for command in commands() if command.startswith("fairseq-train"))
    arguments = options.parse_args_and_arch(options.get_training_parser(), train[1:])
    assert arguments.em_samples == 10 and arguments.task == "translation_vq"
    generate = next(words(command) for command in commands() if command.startswith("fairseq-generate"))
    arguments = options.parse_args_and_arch(options.get_generation_parser(), generate[1:])
    assert arguments.beam == 4
    *images, evaluation = blocks("bash")[0].replace("\\\n", " ").splitlines()
    for line, arch in zip(images, ("vq_vae_em", "vq_image_prior"), strict=True):
        assert program(line) == "vqnat train"
        # What `vqnat train` shares out among its workers.
        flags = ["--batch-size" if word == "--batch-tokens" else word for word in words(line)[2:]]
        arguments = options.parse_args_and_arch(options.get_training_parser(), flags)
        assert (arguments.task, arguments.arch) == ("image_vq", arch)
    assert program(evaluation) == "vqnat images"
    for line in [*commands(), evaluation]:
        if line.startswith("vqnat"):
            parser = parser_of(find(words(line)[1:])[0])
            known = {name for action in parser._actions for name in action.option_strings}
            if program(line) == "vqnat generate":
                known |= {"--path", "--beam"}
            assert {word for word in words(line) if word.startswith("--")} <= known


def test_option_names_in_prose_exist() -> None:
    """Flags named anywhere in the README are options of a program in the project or of fairseq."""
    from fairseq import options

    programs = [*ROOT.glob("scripts/*.*"), *ROOT.glob("examples/*.sh"), *ROOT.glob("examples/*/run.sh")]
    known = set(re.findall(r"--[a-z][a-z0-9-]+", "".join(path.read_text() for path in programs)))
    reference = (ROOT / "examples" / "OPTIONS.md").read_text(encoding="utf-8")
    known |= set(re.findall(r"^\| `(?:-\w, )?(--[a-z0-9-]+)`", reference, flags=re.MULTILINE))
    for parser in (options.get_training_parser(), options.get_generation_parser()):
        known |= {name for action in parser._actions for name in action.option_strings}
    # Of pip.
    known |= {"--no-deps"}
    unknown = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", README)) - known
    assert not unknown


@pytest.mark.slow
@pytest.mark.skipif(not (QUICKSTART / "report.json").exists(), reason="needs the quickstart's run first")
@pytest.mark.parametrize("start", AFTER_QUICKSTART)
def test_command_runs(start: str) -> None:
    """As it stands in the README, on what the quickstart left; training is cut short."""
    command = words(next(line for line in commands() if line.startswith(start)))
    if start == "fairseq-train":
        command += ["--max-update", "5", "--max-valid-steps", "2", "--no-save"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.skipif(not (QUICKSTART / "report.json").exists(), reason="needs the quickstart's run first")
def test_translation_in_python_runs() -> None:
    (block,) = [block for block in blocks("python") if "from_pretrained" in block]
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()[-1].split()) >= 4
