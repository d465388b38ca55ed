"""Workers on a CPU: their commands, their environment, their end."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vqnat_plugin import launch
from vqnat_plugin.commands.main import main
from vqnat_plugin.errors import UsageError


def python(code: str, *arguments: str | Path) -> list[str]:
    """A worker that runs a few lines of Python."""
    return [sys.executable, "-I", "-S", "-c", code, *map(str, arguments)]


# Commands.


def test_one_worker_is_alone_however_many_gpus_there_are() -> None:
    command = [sys.executable, "-m", "vqnat_plugin.launch", "DATA", "--lr", "1"]
    size = ["--distributed-world-size", "1"]
    assert launch.worker_commands(["DATA", "--lr", "1"], 1, Path("f")) == [[*command, *size]]
    given = ["DATA", "--distributed-world-size", "4"]
    assert launch.worker_commands(given, 1, Path("f")) == [[*command[:3], *given]]


def test_workers_differ_in_their_rank_only() -> None:
    commands = launch.worker_commands(["DATA"], 3, Path("/folder"))
    assert len({tuple(command[:-1]) for command in commands}) == 1
    assert [command[-2:] for command in commands] == [["--distributed-rank", str(rank)] for rank in range(3)]
    flags = commands[0]
    assert flags[flags.index("--distributed-world-size") + 1] == "3"
    assert flags[flags.index("--distributed-backend") + 1] == "gloo"
    assert flags[flags.index("--ddp-backend") + 1] == "legacy_ddp"
    assert flags[flags.index("--distributed-init-method") + 1] == "file:///folder/workers"
    assert "--distributed-no-spawn" in flags


# Options.


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A machine of six cores without a GPU; what would have been run."""
    runs: list[dict[str, Any]] = []

    def run_workers(commands: list[list[str]], environment: dict[str, str]) -> int:
        runs.append({"commands": commands, "environment": environment})
        return 7

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(launch, "available_cores", lambda: 6)
    monkeypatch.setattr(launch, "run_workers", run_workers)
    return runs


def value(command: list[str], flag: str) -> str:
    return command[command.index(flag) + 1]


@pytest.mark.parametrize(
    ("workers", "threads", "count", "shared", "tokens"),
    [(None, None, 6, 1, "1000"), (2, None, 2, 3, "3000"), (9, None, 9, 1, "666"), (1, 2, 1, 2, "6000")],
)
def test_cores_and_batch_tokens_are_shared_out(
    on_cpu: list[dict[str, Any]],
    workers: int | None,
    threads: int | None,
    count: int,
    shared: int,
    tokens: str,
) -> None:
    assert launch.train(["DATA"], workers, batch_tokens=6000, threads=threads) == 7
    (run,) = on_cpu
    assert len(run["commands"]) == count and run["environment"]["OMP_NUM_THREADS"] == str(shared)
    assert all(value(command, "--max-tokens") == tokens and "--cpu" in command for command in run["commands"])


def test_a_batch_is_not_cut_into_parts_for_any_number_of_cores(
    on_cpu: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "available_cores", lambda: 64)
    launch.train(["DATA"], batch_tokens=4096)
    assert [value(command, "--max-tokens") for command in on_cpu[0]["commands"]] == ["512"] * 8
    assert on_cpu[0]["environment"]["OMP_NUM_THREADS"] == "8"
    launch.train(["DATA"], workers=64)
    assert len(on_cpu[1]["commands"]) == 64


@pytest.mark.parametrize(
    ("limit", "cores"), [("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("max 100000", 64)]
)
def test_a_container_has_as_many_cores_as_it_has_time_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(launch, "QUOTA", tmp_path / "cpu.max")
    assert launch.available_cores() == 64
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert launch.available_cores() == cores


def test_on_cpus_there_are_as_many_processes_as_are_asked_for(on_cpu: list[dict[str, Any]]) -> None:
    for count in (1, 4):
        launch.train(["DATA", "--distributed-world-size", str(count)], batch_tokens=8192)
        assert len(on_cpu[-1]["commands"]) == count
        assert value(on_cpu[-1]["commands"][0], "--max-tokens") == str(8192 // count)
    with pytest.raises(UsageError, match="--workers 2: but --distributed-world-size is 4; leave one out"):
        launch.train(["DATA", "--distributed-world-size=4"], workers=2)


@pytest.mark.parametrize("here", [1, 4])
def test_a_process_of_torchrun_is_one_worker(
    on_cpu: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, here: int
) -> None:
    told = {"MASTER_ADDR": "a", "MASTER_PORT": "1", "WORLD_SIZE": "4", "RANK": "2", "LOCAL_WORLD_SIZE": here}
    for name, content in told.items():
        monkeypatch.setenv(name, str(content))
    launch.train(["DATA"], batch_tokens=8192)
    (run,) = on_cpu
    (command,) = run["commands"]
    assert value(command, "--max-tokens") == "2048" and "--cpu" in command
    # They find each other by what torchrun tells them, and may be on several machines.
    assert not any(word.startswith("--distributed") for word in command)
    assert "GLOO_SOCKET_IFNAME" not in run["environment"]
    assert run["environment"]["OMP_NUM_THREADS"] == str(6 // here)
    with pytest.raises(UsageError, match="--workers 2: leave it out, whatever starts the processes"):
        launch.train(["DATA"], workers=2)


def test_tasks_of_slurm_do_not_train_side_by_side_into_one_folder(
    on_cpu: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(
        UsageError, match=r"srun has started 4 of this command; .* say --ntasks 1, .*torchrun"
    ):
        launch.train(["DATA"])
    assert not on_cpu
    # Who says where they meet knows.
    launch.train(["DATA", "--distributed-init-method", "tcp://a:1", "--distributed-world-size", "4"])
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    launch.train(["DATA"])
    assert [len(run["commands"]) for run in on_cpu] == [1, 6]


def test_processes_that_the_user_starts_are_one_worker_each(on_cpu: list[dict[str, Any]]) -> None:
    meeting = ["--distributed-init-method", "tcp://a:1", "--distributed-world-size", "3"]
    launch.train(["DATA", *meeting, "--distributed-rank", "1"], batch_tokens=9000)
    (command,) = on_cpu[0]["commands"]
    assert value(command, "--max-tokens") == "3000" and command.count("--distributed-world-size") == 1


def test_without_batch_tokens_fairseqs_own_flags_count(on_cpu: list[dict[str, Any]]) -> None:
    launch.train(["DATA", "--max-sentences", "8"])
    assert all("--max-tokens" not in command for command in on_cpu[0]["commands"])


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, on_cpu: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same machine with four GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    return on_cpu


def test_gpus_are_left_to_fairseq(gpus: list[dict[str, Any]]) -> None:
    assert launch.train(["DATA"], batch_tokens=8192) == 7
    command = [sys.executable, "-m", "vqnat_plugin.launch", "DATA", "--max-tokens", "2048"]
    assert gpus == [{"commands": [command], "environment": {"VQNAT_BATCH_TOKENS": "8192"}}]
    assert launch.train(["DATA", "--cpu"]) == 7 and len(gpus[1]["commands"]) == 6
    for given in (["--distributed-world-size=8"], ["--distributed-world-size", "8"]):
        launch.train(["DATA", *given], batch_tokens=8192)
        assert gpus[-1]["commands"][0][-2:] == ["--max-tokens", "1024"]


def test_a_batch_is_that_of_all_machines(gpus: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "16")
    assert launch.train(["DATA"], batch_tokens=8192) == 7
    assert gpus[-1]["commands"][0][-2:] == ["--max-tokens", "512"]
    with pytest.raises(UsageError, match="--batch-tokens 8192: says what --max-tokens says"):
        launch.train(["DATA", "--max-tokens=4096"], batch_tokens=8192)


@pytest.mark.parametrize("flag", ["workers", "threads"])
def test_flags_for_cpus_are_refused_on_gpus(gpus: list[dict[str, Any]], flag: str) -> None:
    with pytest.raises(UsageError, match=f"--{flag} 2: is for CPUs, but training runs on 4 GPUs"):
        launch.train(["DATA"], **{flag: 2})
    assert launch.train(["DATA", "--cpu"], **{flag: 2}) == 7


def test_command_passes_fairseqs_flags_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(launch, "train", lambda words, **options: seen.extend([words, options]) or 5)
    words = ["--batch-tokens", "4096", "DATA", "--arch", "tiny", "--workers=2", "--batch", "7"]
    assert main(["train", *words]) == 5
    passed = ["DATA", "--arch", "tiny", "--batch", "7", "--user-dir", launch.PLUGIN]
    options = {"workers": 2, "batch_tokens": 4096, "threads": None, "mixed_precision": False}
    assert seen == [passed, options]


@pytest.mark.parametrize("given", [["--user-dir", "mine"], ["--user-dir=mine"]])
def test_anothers_user_dir_stays(given: list[str]) -> None:
    assert launch.with_plugin(["DATA", *given]) == ["DATA", *given]
    assert launch.with_plugin(["DATA"]) == ["DATA", "--user-dir", launch.PLUGIN]
    assert (Path(launch.PLUGIN) / "__init__.py").is_file()


def test_mixed_precision_is_what_the_machine_has(
    gpus: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    launch.train(["DATA"], mixed_precision=True)
    assert "--fp16" in gpus[0]["commands"][0] and "--amp" not in gpus[0]["commands"][0]
    launch.train(["DATA", "--cpu"], mixed_precision=True)
    assert all("--amp" in command and "--fp16" not in command for command in gpus[1]["commands"])


def test_fairseqs_help_is_asked_of_one_worker(on_cpu: list[dict[str, Any]]) -> None:
    assert main(["train", "--arch", "vq_nat_em", "--fairseq-help"]) == 7
    (command,) = on_cpu[0]["commands"]
    assert command[-5:] == ["--arch", "vq_nat_em", "--user-dir", launch.PLUGIN, "--help"]


def test_command_needs_a_model(capsys: pytest.CaptureFixture[str], on_cpu: list[dict[str, Any]]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "DATA"])
    assert ended.value.code == 2 and not on_cpu
    assert capsys.readouterr().err.startswith("vqnat train: error: needs --arch, ")
    for model in (["-a", "vq_nat_em"], ["--arch=vq_nat_em"]):
        assert main(["train", *model, "--max-tokens", "9", "DATA"]) == 7


def test_command_needs_a_batch_size(capsys: pytest.CaptureFixture[str], on_cpu: list[dict[str, Any]]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "DATA", "--arch", "vq_nat_em"])
    assert ended.value.code == 2 and not on_cpu
    assert "needs a batch size: --batch-tokens, " in capsys.readouterr().err
    for size in (
        ["--batch-tokens", "99"],
        ["--max-tokens=9"],
        ["--batch-size", "4"],
        ["--max-sentences", "4"],
    ):
        assert main(["train", "DATA", "--arch", "vq_nat_em", *size]) == 7


@pytest.mark.parametrize("flag", ["--workers", "--batch-tokens", "--threads"])
def test_command_refuses_numbers_below_one(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", flag, "0"])
    assert ended.value.code == 2
    assert f"{flag} 0: needs at least 1" in capsys.readouterr().err


def test_command_refuses_fewer_tokens_than_workers(on_cpu: list[dict[str, Any]]) -> None:
    with pytest.raises(UsageError, match="--batch-tokens 5: needs at least one for each of 6 workers"):
        launch.train(["DATA"], batch_tokens=5)
    assert not on_cpu


# Processes.


def test_workers_run_in_an_environment_for_one_thread(tmp_path: Path) -> None:
    code = "import os, sys; open(sys.argv[1], 'w').write(' '.join(os.environ[n] for n in sys.argv[2:]))"
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "MALLOC_MMAP_THRESHOLD_", "PATH")
    commands = [python(code, tmp_path / str(rank), *names) for rank in range(2)]
    assert launch.run_workers(commands, launch.worker_environment(3)) == 0
    for rank in range(2):
        threshold = launch.worker_environment(3)["MALLOC_MMAP_THRESHOLD_"]
        assert (tmp_path / str(rank)).read_text() == f"3 3 {threshold} {os.environ['PATH']}"


@pytest.mark.parametrize(
    ("version", "threshold"), [("2.31", 32 << 20), ("2.36", 4 << 30), ("2.41", 4 << 30), ("", 32 << 20)]
)
def test_older_versions_of_glibc_get_what_they_take(
    version: str, threshold: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", version))
    assert launch.worker_environment(1)["MALLOC_MMAP_THRESHOLD_"] == str(threshold)


MEETS = """
import json, os, re, sys, torch
def value(name):
    return sys.argv[sys.argv.index(f"--distributed-{name}") + 1]
meeting, rank = value("init-method"), int(value("rank"))
torch.distributed.init_process_group(
    value("backend"), init_method=meeting, world_size=int(value("world-size")), rank=rank
)
total = torch.ones(1)
torch.distributed.all_reduce(total)
own = set()
for fd in os.listdir("/proc/self/fd"):
    try:
        own.add(os.readlink(f"/proc/self/fd/{fd}").removeprefix("socket:[")[:-1])
    except FileNotFoundError:
        pass
rows = [line.split() for name in ("tcp", "tcp6") for line in list(open(f"/proc/self/net/{name}"))[1:]]
listening = [row[1].split(":")[0] for row in rows if row[3] == "0A" and row[9] in own]
folder = os.path.dirname(meeting.removeprefix("file://"))
content = {"total": total.item(), "listening": listening, "folder": folder}
content["mode"] = os.stat(folder).st_mode & 0o777
torch.distributed.barrier()
json.dump(content, open(f"{sys.argv[1]}{rank}", "w"))
"""
# 127.0.0.1, ::1 and ::ffff:127.0.0.1, as the kernel writes them.
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_cannot_be_reached_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    worker = [sys.executable, "-c", MEETS, str(tmp_path / "rank")]
    monkeypatch.setattr(launch, "worker_process", lambda arguments: worker)
    assert launch.train([], workers=2) == 0
    found = [json.loads((tmp_path / f"rank{rank}").read_text()) for rank in range(2)]
    for each in found:
        assert each["total"] == 2 and each["listening"] and set(each["listening"]) <= LOOPBACK
        assert each["mode"] == 0o700 and not Path(each["folder"]).exists()


def test_one_of_the_workers_has_the_voice(tmp_path: Path) -> None:
    code = "import os, sys; open(sys.argv[1], 'wb').write(os.read(int(os.environ['VQNAT_VOICE']), 1))"
    assert launch.run_workers([python(code, tmp_path / str(rank)) for rank in range(3)], {}) == 0
    assert sorted((tmp_path / str(rank)).read_bytes() for rank in range(3)) == [b"", b"", b"1"]


WAITS_FOR_SIGTERM = """
import os, signal, sys
def end(*_):
    open(sys.argv[1], 'w').write('stopped')
    sys.exit(9)
signal.signal(signal.SIGTERM, end)
open(sys.argv[2], 'w').write('ready')
while True:
    signal.pause()
"""


def test_failing_worker_stops_the_others_and_gives_the_status(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ready")
    # Opening a pipe waits for the other side: the worker fails once the other one is ready.
    fails = python("import sys; open(sys.argv[1]).read(); sys.exit(3)", tmp_path / "ready")
    waits = python(WAITS_FOR_SIGTERM, tmp_path / "stopped", tmp_path / "ready")
    assert launch.run_workers([waits, fails], {}) == 3
    assert (tmp_path / "stopped").read_text() == "stopped"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_workers(tmp_path: Path, number: signal.Signals) -> None:
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    os.mkfifo(tmp_path / "ready")
    waits = python(
        WAITS_FOR_SIGTERM.replace("SIGTERM", number.name), tmp_path / "stopped", tmp_path / "ready"
    )
    kills = python(
        "import os, sys; open(sys.argv[1]).read(); os.kill(os.getppid(), int(sys.argv[2]))",
        tmp_path / "ready",
        str(int(number)),
    )
    assert launch.run_workers([waits, kills], {}) != 0
    assert (tmp_path / "stopped").read_text() == "stopped"
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == handlers


@pytest.mark.parametrize(("number", "said"), [(9, ["a worker was killed from outside"]), (15, [])])
def test_worker_killed_by_a_signal_is_a_failure(
    number: int, said: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    killed = python(f"import os; os.kill(os.getpid(), {number})")
    assert launch.run_workers([killed], {}) == 128 + number
    lines = capfd.readouterr().err.splitlines()
    assert [line.removeprefix("vqnat train: error: ").partition(";")[0] for line in lines] == said


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_workers_end_when_their_launcher_is_killed(tmp_path: Path) -> None:
    # The launcher starts a worker that sleeps where fairseq would train, says so, and is killed.
    launcher = """
import os, subprocess, sys
worker = "import sys, types; sys.modules['fairseq_cli.train'] = m = types.ModuleType('t'); "
worker += "sys.modules['vqnat_plugin.compat'] = sys.modules['vqnat_plugin.batch_limits'] = m; "
worker += "m.install = lambda: None; "
worker += "m.cli_main = lambda: (print('ready', flush=True), __import__('signal').pause()); "
worker += "from vqnat_plugin import launch; launch._worker()"
environment = {**os.environ, 'VQNAT_LAUNCHER': str(os.getpid())}
subprocess.Popen([sys.executable, '-c', worker, '--cpu'], env=environment)
sys.stdin.read()
"""
    reading, writing = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", launcher], stdin=subprocess.PIPE, stdout=writing, stderr=subprocess.DEVNULL
    ) as process:
        os.close(writing)
        with open(reading) as output:
            assert output.readline() == "ready\n"
            process.kill()
            # The end of the output: nobody is left who could write.
            assert output.read() == ""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_process_whose_parent_ended_before_it_could_ask_ends_as_well() -> None:
    program = (
        "import os; from vqnat_plugin.launch import end_with_parent; end_with_parent(os.getppid()); "
        "print('goes on', flush=True); end_with_parent({}); print('never')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program.format(os.getppid())],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (-signal.SIGTERM, "goes on\n")


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_workers_know_who_has_started_them(tmp_path: Path) -> None:
    code = "import os, sys; open(sys.argv[1], 'w').write(os.environ['VQNAT_LAUNCHER'])"
    assert launch.run_workers([[*python(code), str(tmp_path / "found")]], {}) == 0
    assert (tmp_path / "found").read_text() == str(os.getpid())
