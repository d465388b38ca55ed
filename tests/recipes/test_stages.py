"""Stages: run once, resumed after a kill, their seconds, logs and records; and `vqnat stage`."""

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vqnat_plugin.commands.main import main
from vqnat_plugin.errors import DataError, UsageError
from vqnat_plugin.recipes.inputs import changed, is_known, snapshot
from vqnat_plugin.recipes.stages import Stages, differences, executable

KILLED = ("sh", "-c", "echo begun; kill -9 $$")
# Of folders, as a shell, a pattern, a record or a report might misread them.
ODD_NAMES = (
    "a b",
    " ",
    "it's",
    'say "x"',
    "a|b",
    "[ab]*?",
    "$(touch x)",
    "`touch x`",
    "line\nfeed\n",
    "back\\slash\\n",
    "&;<>#~!{1,2}",
    "--out",
    "umläut",
    "%s%d",
)


def edit(path: Path, **changes: object) -> None:
    """Change what a record says."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_finished_stage_is_skipped(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stages = Stages(tmp_path)
    command = ["sh", "-c", 'echo x >> "$0/runs"; echo said', str(tmp_path)]
    assert not stages.is_done("count")
    assert stages.run("count", command) and stages.is_done("count")
    assert capfd.readouterr().out == "== count\nsaid\n"
    assert not Stages(tmp_path).run("count", command)
    assert capfd.readouterr().out == "== count: done before\n"
    assert (tmp_path / "runs").read_text() == "x\n"
    assert stages.log("count").read_text() == "said\n"
    assert list(stages.seconds()) == ["count"] and 0 <= stages.seconds()["count"] < 30


def test_failed_stage_is_no_done_one_and_is_run_again(tmp_path: Path) -> None:
    stages, command = Stages(tmp_path), ["test", "-e", str(tmp_path / "ready")]
    with pytest.raises(DataError, match=r"stage one failed \(exit status 1\); its log is .*logs/one\.log"):
        stages.run("one", command)
    assert not stages.is_done("one") and stages.commands() == [] and stages.seconds() == {}
    (tmp_path / "ready").touch()
    assert stages.run("one", command)
    assert stages.commands() == ["test -e OUT/ready"]


def test_killed_stage_is_run_again(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ended by SIGKILL"):
        Stages(tmp_path).run("victim", KILLED)
    assert Stages(tmp_path).run("victim", ["echo", "here"]), "nothing was done, so that this is no change"
    assert Stages(tmp_path).log("victim").read_text() == "begun\nhere\n"
    assert Stages(tmp_path).commands() == ["echo here"]


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot run 'no-such-command'"):
        Stages(tmp_path).run("one", ["no-such-command"])


def test_seconds_of_killed_attempts_count(tmp_path: Path) -> None:
    stages, record = Stages(tmp_path), tmp_path / "stages" / "victim.json"
    for attempt in 1, 2:
        with pytest.raises(DataError):
            stages.run("victim", KILLED)
        assert 100 * (attempt - 1) <= json.loads(record.read_text())["seconds"] < 100 * attempt
        # As if it had begun 100 seconds before its last line.
        edit(record, started=stages.log("victim").stat().st_mtime - 100)
    stages.run("victim", ["true"])
    assert 200 <= stages.seconds()["victim"] < 260

    with pytest.raises(DataError):
        stages.run("other", KILLED)
    edit(tmp_path / "stages" / "other.json", started=0)
    stages.log("other").unlink()
    stages.run("other", ["true"])
    assert stages.seconds()["other"] < 60, "a log that was deleted is no obstacle"


def test_what_ran_on_another_processor_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = Stages(tmp_path)
    for name, processors in (("here", ["A"]), ("both", ["B", "A", "A"]), ("there", ["B"])):
        for number, each in enumerate(processors, 1):
            monkeypatch.setattr("vqnat_plugin.recipes.stages.processor", lambda each=each: each)
            if number < len(processors):
                with pytest.raises(DataError):
                    stages.run(name, KILLED)
            else:
                stages.run(name, ["true"])
    monkeypatch.setattr("vqnat_plugin.recipes.stages.processor", lambda: "A")
    stages.run("old", ["true"])
    # As records were before.
    record = tmp_path / "stages" / "old.json"
    content = json.loads(record.read_text())
    del content["processors"]
    record.write_text(json.dumps(content))
    assert stages.elsewhere(stages.seconds()) == {"both": ["B", "A"], "there": ["B"], "old": []}
    assert stages.elsewhere(["here"]) == {}


def test_a_runner_that_is_killed_leaves_a_stage_to_run_again(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vqnat_plugin", "stage", "slow", "--out", str(tmp_path), "--"]
    process = subprocess.Popen([*command, "sh", "-c", "echo begun; exec sleep 60"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == [b"== slow\n", b"begun\n"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    # The command ended too: nobody holds the pipe any more.
    assert process.stdout.read() == b""
    process.stdout.close()
    assert not Stages(tmp_path).is_done("slow") and Stages(tmp_path).run("slow", ["true"])


def test_a_command_that_outlives_its_runner_is_not_run_twice(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "end")
    runner = (
        "import os, sys; from pathlib import Path; from vqnat_plugin.recipes.stages import Stages\n"
        "command = ['sh', '-c', 'read x < \"$0\"', sys.argv[1] + '/end']\n"
        "end = lambda process: os.kill(os.getpid(), 9)\n"
        "Stages(Path(sys.argv[1])).run('slow', command, quiet=True, started=end)"
    )
    assert subprocess.run([sys.executable, "-c", runner, str(tmp_path)]).returncode == -signal.SIGKILL
    with pytest.raises(DataError, match="stage slow is still running"):
        Stages(tmp_path).run("slow", ["true"])
    with (tmp_path / "end").open("w") as pipe:
        pipe.write("x\n")
    with Stages(tmp_path).log("slow").open() as log:
        fcntl.flock(log, fcntl.LOCK_EX)
    assert Stages(tmp_path).run("slow", ["true"])


def test_commands_and_seconds_in_order_of_first_run(tmp_path: Path) -> None:
    out, data = tmp_path / "out", tmp_path / "data"
    stages = Stages(out, data)
    stages.run("z", ["echo", "a b", f"{data}/x", f"--log={out}/y", f"{data}2", f"/mnt{data}"])
    with pytest.raises(DataError):
        stages.run("m", ["false"])
    stages.run("a", ["true", f"{data}/1:{data}/2", "it's", str(out), str(out / "data")])
    stages.run("z", ["echo", "a b", f"{data}/x", f"--log={out}/y", f"{data}2", f"/mnt{data}"])
    stages.run("m", ["true"])
    assert list(Stages(out).seconds()) == ["z", "m", "a"]
    assert Stages(out).commands() == [
        f"echo 'a b' DATA/x --log=OUT/y {data}2 /mnt{data}",
        "true",
        "true DATA/1:DATA/2 'it'\"'\"'s' OUT OUT/data",
    ]
    assert [shlex.split(line)[0] for line in stages.commands()] == ["echo", "true", "true"]


def test_a_changed_command_is_neither_skipped_nor_recorded(tmp_path: Path) -> None:
    stages = Stages(tmp_path / "an out")
    stages.run("teacher", ["echo", "--lr", "1e-3", "--max-update", "700", "--old"])
    with pytest.raises(DataError) as caught:
        stages.run("teacher", ["echo", "--lr", "2e-3", "--max-update", "700", "--new", "a b"])
    message = str(caught.value)
    assert "\n" not in message and "--lr 1e-3 is now 2e-3, --old is now --new 'a b'" in message
    assert message.endswith(f"run: vqnat stage --redo teacher --out '{tmp_path}/an out'")
    assert stages.commands() == ["echo --lr 1e-3 --max-update 700 --old"] and stages.is_done("teacher")
    assert stages.log("teacher").read_text() == "--lr 1e-3 --max-update 700 --old\n"

    stages.run("next", ["true"])
    with pytest.raises(DataError, match=r"out' \(and redo those behind it that use what it makes: next\)$"):
        stages.run("teacher", ["echo"])
    assert stages.behind("next") == []
    stages.redo("teacher")
    assert not stages.is_done("teacher") and stages.commands() == ["true"]
    assert stages.run("teacher", ["echo", "--lr", "2e-3"])
    assert stages.commands() == ["echo --lr 2e-3", "true"], "it keeps its place"
    (tmp_path / "an out" / "stages" / "teacher.json").unlink()
    assert stages.run("teacher", ["echo"]), "a deleted record is another way"


def test_words_that_changed() -> None:
    assert differences(["a", "b"], ["a", "c"]) == "b is now c"
    assert differences(["a", "--x", "1"], ["a"]) == "--x 1 is gone"
    assert differences(["a"], ["a", "--y", "p q"]) == "--y 'p q' is new"
    assert differences(["a", "--x", "1", "2"], ["a", "--x", "3", "2"]) == "--x 1 is now 3"


def test_moved_folders_are_no_change(tmp_path: Path) -> None:
    def run(out: Path, data: Path) -> bool:
        return Stages(out, data).run("one", ["true", f"{data}/train.en", f"--save-dir={out}/x", str(data)])

    old, new = tmp_path / "old", tmp_path / "new folder"
    assert run(old / "out", old / "data")
    old.rename(new)
    assert not run(new / "out", new / "data")
    assert not run(new / "out", tmp_path / "elsewhere")


def test_another_folder_of_data_is_a_change(tmp_path: Path) -> None:
    for name in ("french", "spanish"):
        (tmp_path / name).mkdir()

    def run(data: str) -> bool:
        # Only what the command names counts: there is no teacher.
        stages = Stages(tmp_path / "out", tmp_path / data, TEACHER=tmp_path / f"{data}.pt")
        command = ["true", f"{tmp_path / data}/train.en"]
        assert (stages.is_done("one") and not stages.is_done("one", command)) == (data == "spanish")
        return stages.run("one", command)

    assert run("french") and not run("french")
    (tmp_path / "link").symlink_to("french")
    assert not run("link")
    with pytest.raises(
        DataError, match=r"DATA is now .*/spanish, not .*/french, which is still there; go back to"
    ):
        run("spanish")


PREPARE = ["vqnat", "prepare"]


def test_data_that_were_corrected_are_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqnat_plugin.recipes.stages.executable", lambda command: ["true"])
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.en").write_text("a mistake\n")
    (data / "train.de").write_text("ein Fehler\n")
    (data / "test.parts").mkdir()

    def run() -> bool:
        stages = Stages(tmp_path / "out", data)
        # What reads no text may write some there.
        return stages.run("unpack", ["gunzip", str(data)]) | stages.run("prepare", [*PREPARE, str(data)])

    assert run() and not run()
    for name in ("train.en", "train.de"):
        # The same once more, as where a corpus is copied: also where the time goes back.
        (data / name).write_text((data / name).read_text())
        os.utime(data / name, (1, 1))
    for name in ("valid.en", ".DS_Store", "notes.txt"):
        (data / name).write_text("new\n")
    (data / "train.de").unlink()
    assert not run()
    for text in ("no mistake\n", "A mistake\n"):
        (data / "train.en").write_text(text)
        with pytest.raises(DataError, match=r"was done with other contents of train\.en in .*data; go back"):
            run()
    (data / "notes.txt").write_text("other\n")
    Stages(tmp_path / "out").redo("prepare")
    assert run() and not run()
    # One that is not there, or cannot be read, is for the command to complain about.
    (data / "train.de").symlink_to("nowhere")
    assert not run()


def test_text_is_known_by_its_contents(tmp_path: Path) -> None:
    corpus, images = tmp_path / "corpus.tsv", tmp_path / "images"
    corpus.write_text("a\tb\n")
    (images / "train").mkdir(parents=True)
    before = {path: snapshot(PREPARE, path) for path in (corpus, images, tmp_path / "nowhere")}
    assert [len(known) for known in before.values()] == [1, 0, 0]
    assert all(is_known(each) for each in before[corpus].values())
    assert snapshot(["vqnat", "train"], corpus) == {}
    corpus.write_text("other")
    assert [changed(path, known) for path, known in before.items()] == [["corpus.tsv"], [], []]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_folder_name_works(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    out, data = tmp_path / name / "out", tmp_path / name
    stages = Stages(out, data)
    command = ["touch", str(out / "made"), f"{data}/too"]
    assert stages.run("one", command) and not stages.run("one", command)
    assert (out / "made").exists() and (data / "too").exists()
    assert stages.commands() == ["touch OUT/made DATA/too"] and list(stages.seconds()) == ["one"]
    with pytest.raises(DataError, match="failed"):
        stages.run("two", ["false", str(out)])
    # Nothing but what the command was asked for.
    assert {path.name for path in tmp_path.iterdir()} == {name}
    assert {path.name for path in data.iterdir()} == {"out", "too"}
    assert {path.name for path in out.iterdir()} == {"made", "stages", "logs"}


@pytest.mark.parametrize("word", ODD_NAMES)
def test_any_word_reaches_the_command_and_the_record(tmp_path: Path, word: str) -> None:
    stages = Stages(tmp_path)
    code = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"
    stages.run("one", ["python", "-c", code, str(tmp_path / "word"), word])
    assert (tmp_path / "word").read_text() == word
    assert shlex.split(stages.commands()[0]) == ["python", "-c", code, "OUT/word", word]


def test_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    out = tmp_path / os.fsdecode(b"\xff\xfe")
    stages = Stages(out)
    assert stages.run("one", ["touch", f"{out}/a", f"{out}/{os.fsdecode(bytes([0xFF]))}"])
    assert stages.commands() == [r"touch OUT/a 'OUT/\xff'"] and (out / "a").exists()


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".", ".hidden", "-x", "a\nb"])
def test_names_of_stages(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="needs a name"):
        Stages(tmp_path / "out").run(name, ["true"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        '{"order": 1, "command": [1]}',
        '{"order": 1, "command": [], "more": 2}',
        '{"order": 1, "command": "true", "done": true}',
        '{"order": true, "command": [], "done": true}',
        '{"order": 1, "command": [], "done": "yes"}',
        '{"order": 1, "command": [], "seconds": NaN}',
        '{"order": 1, "command": [], "seconds": -1}',
        '{"order": 1, "command": [], "started": "today"}',
    ],
)
def test_damaged_records_are_named(tmp_path: Path, content: str) -> None:
    record = tmp_path / "stages" / "one.json"
    record.parent.mkdir()
    record.write_text(content)
    for use in (lambda: Stages(tmp_path).run("one", ["true"]), Stages(tmp_path).commands):
        with pytest.raises(DataError, match=r"one\.json"):
            use()


def test_nothing_is_written_through_a_link_in_place_of_a_log(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "one.log").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError):
        Stages(tmp_path).run("one", ["echo", "a"])
    assert (tmp_path / "victim").read_text() == "mine"


def test_programs_of_this_python() -> None:
    assert executable(["vqnat", "--version"]) == [sys.executable, "-m", "vqnat_plugin", "--version"]
    assert executable(["python", "-c", ""]) == [sys.executable, "-c", ""]
    assert executable(["fairseq-preprocess"]) == [str(Path(sys.executable).parent / "fairseq-preprocess")]
    assert executable(["echo", "vqnat"]) == ["echo", "vqnat"]


def test_noise_goes_to_the_log_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = "2026 | INFO | fairseq_cli.train | {'_name': None}\nnp.x is deprecated\ngood\n"
    Stages(tmp_path).run("one", ["printf", "%s", lines])
    assert capfd.readouterr().out == "== one\ngood\n"
    Stages(tmp_path).run("two", ["sh", "-c", "echo out; echo err >&2"], quiet=True)
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "logs" / "one.log").read_text() == lines
    assert (tmp_path / "logs" / "two.log").read_text() == "out\nerr\n"


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONE", "outer")
    monkeypatch.setenv("TWO", "outer")
    Stages(tmp_path).run("one", ["sh", "-c", 'echo "$ONE $TWO"'], environment={"TWO": "inner"})
    assert Stages(tmp_path).log("one").read_text() == "outer inner\n"


def test_several_side_by_side_can_be_ended(tmp_path: Path) -> None:
    running: list[subprocess.Popen[bytes]] = []
    began = threading.Semaphore(0)
    failures: list[str] = []

    def started(process: subprocess.Popen[bytes]) -> None:
        running.append(process)
        began.release()

    def work(number: int) -> None:
        try:
            Stages(tmp_path / str(number)).run("train", ["sleep", "60"], quiet=True, started=started)
        except DataError as error:
            failures.append(str(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for _ in threads:
        began.acquire()
    for process in running:
        process.terminate()
    for thread in threads:
        thread.join()
    assert len(failures) == 3 and all("ended by SIGTERM" in failure for failure in failures)
    assert time.monotonic() - begin < 30


def test_command_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert main(["stage", "one", "--out", out, "--dry-run", "--", "echo", "a b", "--out", "x", "$y"]) == 0
    assert capfd.readouterr().out == "echo 'a b' --out x '$y'\n" and not (tmp_path / "out").exists()
    # A pattern of files that come later is for the shell that the line is given to.
    assert main(["stage", "one", "--out", out, "--dry-run", "--", "echo", f"{out}/a b/x*", "y*"]) == 0
    assert capfd.readouterr().out == f"echo '{out}/a b/x'* 'y*'\n"
    words = ["stage", "one", "--out", out, "--data", str(tmp_path), "--", "echo", "--redo", f"{tmp_path}/x"]
    assert main(words) == 0 and main(words) == 0
    assert capfd.readouterr().out == f"== one\n--redo {tmp_path}/x\n== one: done before\n"
    assert Stages(tmp_path / "out").commands() == ["echo --redo DATA/x"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "more"])
    assert ended.value.code == 2 and "more is new" in capfd.readouterr().err
    assert main(["stage", "--redo", "one", "--out", out]) == 0 and main([*words, "more"]) == 0
    assert capfd.readouterr().out.endswith("/x more\n")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["one"], "needs the name of a stage and '-- COMMAND ...'"),
        (["--", "true"], "needs the name of a stage and '-- COMMAND ...'"),
        (["one", "true"], "'true': is one argument too many"),
        (["--redo", "one", "--", "true"], "--redo: needs names of stages and --out, nothing else"),
        (["--redo", "nothing"], "has no stage 'nothing' (there: none)"),
        (["a/b", "--", "true"], "stage 'a/b': needs a name"),
        (["one", "--", "false"], "stage one failed (exit status 1); its log is"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["stage", "--out", str(tmp_path / "out"), *words])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("vqnat stage: error: ") and complaint in line
