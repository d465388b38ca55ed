"""`vqnat translate`: a line for a line, whatever comes."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from vqnat_plugin.commands.main import main
from vqnat_plugin.runtime import Translator

LINES = ["Mann schläft!", "", "Hund", "Café Hund schläft"] * 10


def translated(
    model: Path, text: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    capsys.readouterr()
    main(["translate", str(model)])
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_lines_in_are_lines_out(
    german_exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = "".join(f"{line}\n" for line in Translator(german_exported).translate(LINES))
    for start, end, last in (("", "\n", ""), ("\ufeff", "\r\n", "\r\n")):
        text = (start + end.join(LINES) + last).encode()
        assert translated(german_exported, text, monkeypatch, capsys) == expected
    assert translated(german_exported, b"", monkeypatch, capsys) == ""
    assert translated(german_exported, b"\n\n", monkeypatch, capsys) == "\n\n"


def test_text_is_utf_8_whatever_the_encoding_of_the_terminal(
    german_exported: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text("Café ☃ Mann\n" * 3, encoding="utf-8")
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    main(["translate", str(german_exported), "--input", str(tmp_path / "in"), "--min-len", "9"])
    found = out.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert found.splitlines() == Translator(german_exported).translate(["Café ☃ Mann"] * 3, min_len=9)


def test_what_has_arrived_is_translated(german_exported: Path) -> None:
    command = [sys.executable, "-m", "vqnat_plugin", "translate", str(german_exported)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        for line in ("Hund\n", "Mann schläft!\n"):
            process.stdin.write(line.encode())
            process.stdin.flush()
            found = process.stdout.readline().decode()
            assert found == Translator(german_exported).translate([line])[0] + "\n"
        process.stdin.close()
        assert process.wait() == 0


def test_a_reader_may_go_away(german_exported: Path) -> None:
    command = [sys.executable, "-m", "vqnat_plugin", "translate", str(german_exported)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.write("".join(f"{line}\n" for line in LINES).encode())
        process.stdin.close()
        assert process.stderr.read() == b"" and process.wait() == 141


def test_progress_is_shown_beside_a_file(
    german_exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").write_text("\n".join(LINES))
    words = ["translate", str(german_exported), "--input", str(tmp_path / "in")]
    main([*words, "--candidates", "2"])
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == len(LINES) and err == ""
    main([*words, "--candidates", "2", "--output", str(tmp_path / "out")])
    silent, err = capsys.readouterr()
    assert (tmp_path / "out").read_text() == out
    assert silent == "" and "sentence/s" in err


def test_mistakes_are_one_line(
    german_exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def complaint(*words: str, text: bytes = b"Hund\n") -> str:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        with pytest.raises(SystemExit, match="2"):
            main(["translate", *words])
        [line] = capsys.readouterr().err.splitlines()
        return line

    model = str(german_exported)
    assert "line 2: not UTF-8" in complaint(model, text=b"Hund\nsch\xf6n\n")
    assert "line 2 has" in complaint(model, text=b"Hund\n" + b"Hund " * 5000)
    assert "--input nowhere: no such file" in complaint(model, "--input", "nowhere")
    assert "no such folder" in complaint(str(tmp_path / "nowhere"))
    assert "is no exported model" in complaint(str(tmp_path))
    assert "--threads 0: needs at least 1" in complaint(model, "--threads", "0")
    assert "--candidates 0: needs at least 1" in complaint(model, "--candidates", "0")
