"""Writing in one step, and alone."""

import errno
import fcntl
import itertools
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from vqnat_plugin.errors import BusyError, DataError, explain
from vqnat_plugin.files import (
    alone,
    is_stream,
    replace_folder,
    write_atomically,
    write_json,
    write_lines,
    write_text,
)
from vqnat_plugin.reading import (
    read_json,
)


def test_a_failed_writer_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file.txt"
    write_text(file, "old")

    def fail(part: Path) -> None:
        part.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_atomically(file, fail)
    assert file.read_text() == "old" and os.listdir(file.parent) == ["file.txt"]


def test_temporary_names_cannot_be_foreseen_and_keep_the_suffix(tmp_path: Path) -> None:
    seen: list[Path] = []
    for _ in range(2):
        write_atomically(tmp_path / "plot.png", lambda part: (seen.append(part), part.write_bytes(b"x")))
    assert seen[0] != seen[1] and all(part.suffix == ".png" and ".part" in part.name for part in seen)
    assert str(os.getpid()) not in {part.name.split(".")[2] for part in seen}


def test_files_are_as_open_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_text(tmp_path / "ours", "x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def interrupted_behind(step: int) -> Callable[[Path, Path], None]:
    """`os.replace`, which is interrupted right behind the call of that number."""
    move, steps = os.replace, itertools.count(1)

    def replace(old: Path, new: Path) -> None:
        move(old, new)
        if next(steps) == step:
            raise KeyboardInterrupt

    return replace


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "new").touch()

    replace_folder(tmp_path / "deep" / "folder", fill)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "folder")
    (tmp_path / "link" / "old").touch()

    def fail(folder: Path) -> None:
        fill(folder)
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(DataError, match=r"deep: cannot be written \(Input/output error\)"):
        replace_folder(tmp_path / "link", fail)
    assert {path.name for path in (tmp_path / "link").iterdir()} == {"new", "old"}
    # The last step fails: what was there comes back.
    with pytest.MonkeyPatch.context() as patch:
        move = os.replace
        patch.setattr(
            os,
            "replace",
            lambda old, new: fail(Path(old)) if old.name == ".folder.new.part" else move(old, new),
        )
        with pytest.raises(DataError):
            replace_folder(tmp_path / "link", fill)
    assert {path.name for path in (tmp_path / "link").iterdir()} == {"new", "old"}
    # An interruption right behind a step, whichever it is, loses neither.
    for step in (1, 2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "replace", interrupted_behind(step))
            with pytest.raises(KeyboardInterrupt):
                replace_folder(tmp_path / "link", lambda folder: (folder / "newer").touch())
        left = {path.name for path in (tmp_path / "link").iterdir()}
        assert left == ({"new", "old"} if step == 1 else {"newer"})
    replace_folder(tmp_path / "link", fill)
    assert [path.name for path in (tmp_path / "link").iterdir()] == ["new"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["folder"]


def test_a_folder_that_cannot_be_replaced_is_refused_before_it_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(folder: Path) -> None:
        raise AssertionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os.path, "ismount", lambda path: path == tmp_path)
        with pytest.raises(DataError, match=r"is a mount point, .*; name a new folder inside it"):
            replace_folder(tmp_path, fill)
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(DataError, match=f"^{tmp_path}: nothing can be written there"):
        replace_folder(tmp_path / "out", fill)


def test_what_a_process_moved_away_before_it_was_killed_comes_back(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, signal, sys\n"
        "from vqnat_plugin.files import replace_folder\n"
        "move = os.replace\n"
        "os.replace = lambda old, new: (move(old, new), os.kill(os.getpid(), signal.SIGKILL))\n"
        "replace_folder(pathlib.Path(sys.argv[1]), lambda folder: None)\n"
    )
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").touch()
    killed = subprocess.run([sys.executable, "-c", program, str(folder)])
    assert killed.returncode == -signal.SIGKILL and not folder.exists()

    def fill(_: Path) -> None:
        assert (folder / "old").exists()

    replace_folder(folder, fill)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"] and not any(folder.iterdir())


def test_what_is_left_of_another_folder_is_not_taken_for_its_own(tmp_path: Path) -> None:
    (tmp_path / ".a.b.old.part").mkdir()
    (tmp_path / ".a.b.old.part" / "theirs").touch()
    replace_folder(tmp_path / "a", lambda folder: (folder / "new").touch())
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["new"]

    def fill(folder: Path) -> None:
        assert (tmp_path / "a.b" / "theirs").exists()

    replace_folder(tmp_path / "a.b", fill)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.b"]


def test_what_a_killed_process_left_is_deleted_but_not_what_another_still_writes(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, signal, sys\n"
        "from vqnat_plugin.files import replace_folder\n"
        "def fill(folder):\n"
        "    (folder / 'half').touch()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "replace_folder(pathlib.Path(sys.argv[1]), fill)\n"
    )
    folder = tmp_path / "folder"
    killed = subprocess.run([sys.executable, "-c", program, str(folder)])
    assert killed.returncode == -signal.SIGKILL and not folder.exists()
    left = tmp_path / ".folder.new.part" / "half"
    assert left.exists()

    def fill(outer: Path) -> None:
        assert not left.exists()
        with pytest.raises(BusyError, match="folder: another process is writing there; wait for its end"):
            replace_folder(folder, lambda inner: (inner / "second").touch())
        (outer / "first").touch()

    replace_folder(folder, fill)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert [path.name for path in folder.iterdir()] == ["first"]


# One at a time.


def test_one_process_writes_to_a_folder_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with alone(folder), alone(tmp_path / "other"):
        with pytest.raises(BusyError, match=f"{folder}: another process is writing there"), alone(folder):
            pass
        (folder / "file").touch()
    # What a killed process left is no lock.
    (folder / ".lock").touch()
    with alone(folder):
        pass
    assert os.listdir(folder) == ["file"]
    with alone(folder / "file", beside=True):
        assert sorted(os.listdir(folder)) == [".file.lock", "file"]


def test_long_names_that_begin_alike_have_locks_of_their_own(tmp_path: Path) -> None:
    names = [f"exported_student_wmt14_en_de_small_6_1_3_{kind}" for kind in ("fp32", "int8", "int8" * 50)]
    with alone(tmp_path / names[0], beside=True), alone(tmp_path / names[1], beside=True):
        with alone(tmp_path / names[2], beside=True):
            assert len(os.listdir(tmp_path)) == 3
        with pytest.raises(BusyError), alone(tmp_path / names[1], beside=True):
            pass


def test_who_waits_comes_after(tmp_path: Path) -> None:
    done: list[str] = []

    def wait() -> None:
        with alone(tmp_path, wait=True):
            done.append("second")

    with alone(tmp_path):
        other = threading.Thread(target=wait)
        other.start()
        other.join(timeout=0.05)
        done.append("first")
    other.join(timeout=60)
    assert done == ["first", "second"] and not os.listdir(tmp_path)


def test_a_lock_ends_with_its_process_whatever_that_has_forked(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    program = (
        "import os, pathlib, signal, sys\n"
        "from vqnat_plugin.files import alone\n"
        "with alone(pathlib.Path(sys.argv[1])):\n"
        "    if os.fork():\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    os.write(1, b'forked')\n"
        "    signal.pause()\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=writing, process_group=0)
    os.close(writing)
    try:
        assert killed.wait(60) == -signal.SIGKILL
        assert os.read(reading, 6) == b"forked"
        with alone(tmp_path):
            pass
    finally:
        os.killpg(killed.pid, signal.SIGKILL)
        os.close(reading)


def test_where_no_file_can_be_made_nothing_waits_for_ever() -> None:
    with pytest.raises(FileNotFoundError), alone(Path("/proc/self")):
        pass


def test_a_folder_that_is_deleted_meanwhile_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with (
        pytest.raises(DataError, match="folder: was deleted meanwhile; run the same"),
        alone(folder) as check,
    ):
        check()
        shutil.rmtree(folder)
        write_text(folder / "file", "made anew")
    assert os.listdir(folder) == ["file"]


def test_a_folder_to_which_nothing_was_written_is_not_left_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), alone(tmp_path / "new" / "folder"):
        raise RuntimeError
    assert not os.listdir(tmp_path)


def test_without_locks_work_goes_on_and_nothing_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    part = tmp_path / f".file.{'0' * 16}.part"
    part.touch()
    monkeypatch.setattr(fcntl, "flock", refuse)
    with alone(tmp_path), alone(tmp_path):
        write_text(tmp_path / "file", "x")
    assert sorted(os.listdir(tmp_path)) == [part.name, ".lock", "file"]


def test_what_killed_writers_left_is_deleted_and_what_is_being_written_stays(tmp_path: Path) -> None:
    names = [f".text.{'0' * 16}.part.txt", f".x.{'a' * 16}.part"]
    (tmp_path / "below").mkdir()
    for folder in (tmp_path, tmp_path / "below"):
        for name in (*names, ".x.part", "x.part", f"x.{'a' * 16}.part"):
            (folder / name).touch()
    (tmp_path / f".link.{'0' * 16}.part").symlink_to(tmp_path / "x.part")

    def write(part: Path) -> None:
        with alone(tmp_path):
            assert part.exists()
        part.write_text("x")

    write_atomically(tmp_path / "below" / "file", write)
    kept = {".x.part", "x.part", f"x.{'a' * 16}.part"}
    assert set(os.listdir(tmp_path / "below")) == {"file", *kept}
    assert set(os.listdir(tmp_path)) == {"below", f".link.{'0' * 16}.part", *kept}


def test_what_a_process_lacks_is_no_fault_of_the_file(tmp_path: Path) -> None:
    def fail(part: Path) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with pytest.raises(OSError, match="Too many open files") as raised:
        write_atomically(tmp_path / "file", fail)
    assert explain(raised.value) == (
        "Too many open files; take fewer --workers or --jobs, or raise 'ulimit -n'",
        2,
    )


def test_a_name_that_is_no_text_can_be_recorded(tmp_path: Path) -> None:
    name = os.fsdecode(b"mod\xe9le.pt")
    write_json(tmp_path / "file.json", {"path": name})
    assert read_json(tmp_path / "file.json") == {"path": name}


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "No space left on device\\); make room and run the same",
        ),
        (OSError("100 requested and 10 written"), r"100 requested and 10 written\)$"),
    ],
)
def test_a_full_disk_is_one_line_that_names_the_file(tmp_path: Path, error: OSError, line: str) -> None:
    def fail(part: Path) -> None:
        part.write_text("half")
        raise error

    with pytest.raises(DataError, match=rf"file: cannot be written \({line}"):
        write_atomically(tmp_path / "file", fail)
    with pytest.raises(FileNotFoundError, match="source"):
        write_atomically(tmp_path / "file", lambda part: shutil.copyfile(tmp_path / "source", part))
    assert not os.listdir(tmp_path)


def test_devices_and_pipes_are_written_to_and_stay_what_they_are(tmp_path: Path) -> None:
    pipe, lines = tmp_path / "pipe", ["one", "two"]
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_lines(pipe, lines)
    reader.join()
    assert read == ["one\ntwo\n"] and stat.S_ISFIFO(pipe.stat().st_mode)
    assert {path.name for path in tmp_path.iterdir()} == {"pipe"}
    code = "import sys; from pathlib import Path; from vqnat_plugin.files import write_lines\n"
    code += "write_lines(Path('/dev/stdout'), ['a']); write_lines(Path('/dev/null'), ['b'])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert shown == b"a\n" and Path("/dev/stdout").is_symlink() and not Path("/dev/null").is_file()
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_bytes() == b"a\n" and Path("/dev/stdout").is_symlink()
    # What is there stays, and who else writes goes on behind it.
    more = f"print('first'); {code.partition(chr(10))[2]}; print('last')"
    with (tmp_path / "out").open("ab") as out:
        subprocess.run(
            [sys.executable, "-c", f"{code.partition(chr(10))[0]}\n{more}"], stdout=out, check=True
        )
    assert (tmp_path / "out").read_bytes() == b"a\nfirst\na\nlast\n"
    # A link to a file is none of these.
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as shared:
        link, file = Path(shared) / "link", Path(shared) / "file"
        link.symlink_to(file)
        for content in ("first\n", "second\n"):
            write_text(link, content)
            assert (link.read_text(), link.is_symlink()) == (content, False)
    assert not is_stream(tmp_path / "link") and not is_stream(tmp_path) and not is_stream(tmp_path / "new")
