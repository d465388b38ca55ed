"""`vqnat serve` as a process: many clients, a graceful end, mistakes in one line."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier

import pytest
from serving import ask, translate

from vqnat_plugin.commands.main import main
from vqnat_plugin.runtime import Translator
from vqnat_plugin.runtime.server import listen

LOAD_TEST = Path(__file__).parents[2] / "scripts" / "load_test.py"
# What it must not need is not there.
PROGRAM = (
    "import sys\n"
    "sys.modules.update(dict.fromkeys(('torch', 'onnx', 'omegaconf')))\n"
    "from vqnat_plugin.commands.main import main\n"
    "main(sys.argv[1:])\n"
    "assert 'fairseq' not in sys.modules\n"
)


@contextmanager
def serving(model: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process and its port."""
    command = [sys.executable, "-c", PROGRAM, "serve", str(model), "--port", "0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process, int(process.stdout.readline().split()[0].rpartition(":")[2])
        finally:
            process.kill()


def test_many_clients_at_once(german_exported: Path, tmp_path: Path) -> None:
    lines = ["Mann schläft!", "Hund", "Café Hund schläft", "Hund Hund halb-wach Mann!"]
    expected = dict(zip(lines, Translator(german_exported).translate(lines), strict=True))
    (tmp_path / "in").write_text("\n".join(lines), encoding="utf-8")
    barrier = Barrier(64)

    with serving(german_exported) as (process, port):
        assert ask(port, "GET", "/health")[1]["status"] == "ok"

        def client(number: int) -> list[tuple[str, int, str]]:
            barrier.wait()
            mine = [lines[(number + i) % len(lines)] for i in range(3)]
            answers = [translate(port, line) for line in mine]
            return [
                (line, status, answer["translations"][0])
                for line, (status, answer) in zip(mine, answers, strict=True)
            ]

        with ThreadPoolExecutor(64) as pool:
            found = [each for answers in pool.map(client, range(64)) for each in answers]
        assert found == [(line, 200, expected[line]) for line, _, _ in found] and len(found) == 192
        words = [
            f"http://127.0.0.1:{port}",
            "--input",
            str(tmp_path / "in"),
            "--clients",
            "8",
            "--requests",
            "40",
        ]
        shown = subprocess.run(
            [sys.executable, LOAD_TEST, *words], capture_output=True, text=True, check=True
        )
        assert "8 clients, 40 requests: " in shown.stdout and shown.stdout.endswith(", 0 lost\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0 and process.stderr and process.stderr.read() == ""
    shown = subprocess.run([sys.executable, LOAD_TEST, *words], capture_output=True, text=True)
    assert shown.returncode == 1 and ", 40 lost" in shown.stdout and "refused" in shown.stderr


def test_what_has_begun_is_finished(german_exported: Path) -> None:
    # Many sentences, each a batch of its own: there is time enough for a signal.
    lines = ["Mann schläft halb-wach Hund Café " * 10] * 40
    options = {"candidates": 16, "min_len": 100}
    flags = ("--batch-size", "1", "--timeout", "300")
    with serving(german_exported, *flags) as (process, port), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(translate, port, lines, **options)
        while not ask(port, "GET", "/health")[1]["waiting"]:
            assert not asked.done()
        process.send_signal(signal.SIGTERM)
        status, answer = asked.result()
        assert status == 200
        assert process.wait(60) == 0 and process.stderr and process.stderr.read() == ""
    assert answer["translations"] == Translator(german_exported).translate(lines[:1], **options) * 40


def test_mistakes_are_one_line(
    german_exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def complaint(*words: str) -> str:
        with pytest.raises(SystemExit, match="2"):
            main(["serve", *words])
        [line] = capsys.readouterr().err.splitlines()
        return line

    model = str(german_exported)
    with listen("127.0.0.1", 0, 60) as taken:
        port = str(taken.getsockname()[1])
        assert f"--host 127.0.0.1 --port {port}: Address already in use" in complaint(model, "--port", port)
    assert "--port 70000: needs a value from 0 to 65535" in complaint(model, "--port", "70000")
    assert "--queue 9: needs as much as --max-sentences" in complaint(model, "--queue", "9")
    assert "--timeout 0.0: needs a value above 0" in complaint(model, "--timeout", "0")
    assert "no such folder" in complaint(str(tmp_path / "nowhere"))
    (tmp_path / "config.json").write_text(json.dumps({}))
    assert "is no exported model" in complaint(str(tmp_path), "--port", "0")
    for package in ("starlette", "uvicorn"):
        with monkeypatch.context() as patch:
            for name in [name for name in sys.modules if name.startswith(package)]:
                patch.delitem(sys.modules, name)
            patch.delitem(sys.modules, "vqnat_plugin.runtime.server", raising=False)
            patch.setattr(sys, "meta_path", [Hidden(package), *sys.meta_path])
            said = f"needs {package}, which is not installed: pip install '.[serve]' where the source is"
            assert said in complaint(model)


class Hidden:
    """A finder that does not find a package."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
