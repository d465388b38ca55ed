"""Training on the machine at hand: `fairseq-train`, set up for the cores (or GPUs) that are there.

fairseq knows how to use GPUs. On a CPU it runs one process whose threads mostly wait for each other, so here
each core gets a data-parallel worker of one thread, up to `MOST_WORKERS`, and each worker gets the settings
under which torch is fastest on a CPU. None of them changes what is learnt, except for the precision where
`--amp` is given.
"""

import argparse
import contextlib
import ctypes
import importlib
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from .errors import UsageError
from .fairseq_commands import BATCH_TOKENS_VARIABLE, VOICE, WORKER, program, short_complaints

# From this version on glibc takes a threshold for mmap of any size; an earlier one at most 32 MiB, and where
# it is larger, its own start of 128 KiB for ever.
ANY_THRESHOLD = (2, 36)
# Workers talk to each other by sockets that no other machine can reach.
LOCAL = {"GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0"}
# The number of the process that starts workers.
LAUNCHER = "VQNAT_LAUNCHER"

# More would share a batch in parts that are too small for long sentences; further cores are their threads.
MOST_WORKERS = 8
# What torchrun tells each of its processes.
TORCHRUN = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK")
# How much time on all cores a container has, in microseconds: of so many in so many.
QUOTA = Path("/sys/fs/cgroup/cpu.max")

# Linux sends a process this signal of its choice when its parent ends (prctl(2)).
PR_SET_PDEATHSIG = 1


# The value of `--user-dir` that works in any folder.
PLUGIN = str(Path(__file__).resolve().parent)


def with_plugin(arguments: list[str]) -> list[str]:
    """The arguments of a fairseq command, with `--user-dir` unless they have one."""
    return arguments if "--user-dir" in flags(arguments) else [*arguments, "--user-dir", PLUGIN]


def task_options(task: str) -> str:
    """What to add to the running command for a task of ours; fairseq's know it only with `--user-dir`."""
    command = program() or ""
    reads_options = command.startswith("fairseq-") and command != "fairseq-hydra-train"
    unknown = reads_options and "--user-dir" not in flags(sys.argv)
    return f"--user-dir {PLUGIN} --task {task}" if unknown else f"--task {task}"


def flags(arguments: list[str]) -> set[str]:
    """The options among the arguments of a command: `--user-dir` of `--user-dir=vqnat_plugin`."""
    return {word.partition("=")[0] for word in arguments if word.startswith("-")}


def option_value(arguments: list[str], flag: str) -> str | None:
    """The last value of an option among the arguments of a command; None where there is none."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(flag, dest="value", nargs="?")
    found: str | None = parser.parse_known_args(arguments)[0].value
    return found


def worker_process(arguments: list[str]) -> list[str]:
    """The command line of one training process, set up as fast as it can be; it ends with its parent."""
    return [sys.executable, "-m", WORKER, *arguments]


def worker_environment(threads: int) -> dict[str, str]:
    """What one CPU process with `threads` threads needs in its environment."""
    return {
        # Else glibc gives large tensors back to the system and asks for them again all the time; the page
        # faults then cost more than the arithmetic. 4 GiB: never by mmap, never trimmed.
        "MALLOC_MMAP_THRESHOLD_": str(4 << 30 if _glibc() >= ANY_THRESHOLD else 32 << 20),
        "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
    }


def _glibc() -> tuple[int, ...]:
    """Its version; the lowest where it is not known."""
    return tuple(map(int, re.findall(r"\d+", platform.libc_ver()[1])))


def available_cores() -> int:
    """Number of cores that this process may use, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # No such file outside of containers, "max" where there is no limit.
    with contextlib.suppress(OSError, ValueError):
        quota, period = map(int, QUOTA.read_text().split())
        cores = min(cores, max(1, quota // period))
    return cores


def by_torchrun() -> bool:
    """Whether torchrun, or what does the same, has started this process."""
    return all(name in os.environ for name in TORCHRUN)


def worker_commands(arguments: list[str], workers: int, folder: Path) -> list[list[str]]:
    """The command line of each data-parallel worker on the CPU.

    Args:
        arguments: what all of them get.
        workers: how many they are.
        folder: where they find each other: empty, and nobody else may write there. A port, as torch opens
            it, could be reached from other machines.
    """
    command = worker_process(arguments)
    if workers == 1:
        # fairseq's default is as many as there are GPUs.
        given = option_value(arguments, "--distributed-world-size") is not None
        return [command if given else [*command, "--distributed-world-size", "1"]]
    # One reduction behind the backward pass: a worker of one thread has nothing to do beside it.
    shared = [
        "--distributed-init-method",
        f"file://{folder / 'workers'}",
        "--distributed-world-size",
        str(workers),
        "--distributed-no-spawn",
        "--distributed-backend",
        "gloo",
        "--ddp-backend",
        "legacy_ddp",
    ]
    return [[*command, *shared, "--distributed-rank", str(rank)] for rank in range(workers)]


def run_workers(commands: list[list[str]], environment: dict[str, str]) -> int:
    """Run the workers side by side; when one ends with an error, stop the others.

    Args:
        commands: their command lines.
        environment: what is added to the environment of this process.

    Returns:
        The exit status: 0, or that of the first worker that failed, 128 + N if signal N ended it.
    """
    processes: list[subprocess.Popen[bytes]] = []
    voice, byte = os.pipe()
    os.write(byte, b"1")
    os.close(byte)
    environment = {**os.environ, **environment, VOICE: str(voice), LAUNCHER: str(os.getpid())}

    def stop(signum: int, _frame: object) -> None:
        for process in processes:
            process.send_signal(signum)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for command in commands:
            processes.append(subprocess.Popen(command, env=environment, pass_fds=(voice,)))
        running = list(processes)
        status = 0
        while running:
            for process in list(running):
                try:
                    code = process.wait(timeout=0.5)
                except subprocess.TimeoutExpired:
                    continue
                running.remove(process)
                if code == -signal.SIGKILL:
                    print(
                        "vqnat train: error: a worker was killed from outside; if memory was short, take "
                        "fewer --workers or fewer tokens a batch",
                        file=sys.stderr,
                    )
                if code and not status:
                    status = code if code > 0 else 128 - code
                    for other in running:
                        other.terminate()
        return status
    finally:
        os.close(voice)
        for process in processes:
            if process.poll() is None:
                process.kill()
        for number, handler in previous.items():
            signal.signal(number, handler)


def train(
    arguments: list[str],
    workers: int | None = None,
    batch_tokens: int | None = None,
    threads: int | None = None,
    mixed_precision: bool = False,
) -> int:
    """Train with fairseq on all GPUs, or with one worker a core where there is none.

    Args:
        arguments: what `fairseq-train` takes.
        workers: number of data-parallel processes on the CPU; one a core by default, `MOST_WORKERS` at most.
        batch_tokens: tokens (of a pair, those of the longer side) or images of one batch, over all
            processes; becomes fairseq's `--max-tokens`, which counts a single process.
        threads: threads of each process on the CPU; the cores shared out evenly by default.
        mixed_precision: compute in half precision on GPUs, in bfloat16 on a CPU that is faster with it.

    Returns:
        The exit status.

    Raises:
        UsageError: the options do not go together.
    """
    import torch

    on_gpu = torch.cuda.is_available() and "--cpu" not in arguments
    cores = available_cores()
    given = _count(option_value(arguments, "--distributed-world-size"))
    # torchrun says how many there are on all machines.
    everywhere = given or _count(os.environ.get("WORLD_SIZE"))
    joins = not on_gpu and _joins(arguments)
    _check_processes(torch.cuda.device_count() if on_gpu else 0, joins, workers, threads, given)
    if on_gpu:
        workers = everywhere or torch.cuda.device_count()
    elif joins:
        workers = everywhere or 1
    else:
        workers = workers or given or min(cores, MOST_WORKERS)
    environment = {} if batch_tokens is None else {BATCH_TOKENS_VARIABLE: str(batch_tokens)}
    if batch_tokens is not None:
        if option_value(arguments, "--max-tokens") is not None:
            raise UsageError(f"--batch-tokens {batch_tokens}: says what --max-tokens says; leave one out")
        if batch_tokens < workers:
            raise UsageError(
                f"--batch-tokens {batch_tokens}: needs at least one for each of {workers} workers"
            )
        arguments = [*arguments, "--max-tokens", str(batch_tokens // workers)]
    if mixed_precision:
        arguments = [*arguments, "--fp16" if on_gpu else "--amp"]
    if on_gpu:
        return run_workers([worker_process(arguments)], environment)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if joins else workers
    environment |= worker_environment(threads or max(1, cores // here))
    if joins:
        return run_workers([worker_process([*arguments, "--cpu"])], environment)
    environment |= LOCAL
    with tempfile.TemporaryDirectory(prefix="vqnat-") as folder:
        return run_workers(worker_commands([*arguments, "--cpu"], workers, Path(folder)), environment)


def _check_processes(
    gpus: int, joins: bool, workers: int | None, threads: int | None, given: int | None
) -> None:
    """Raise `UsageError` where it is contradictory, or harmful, how many processes there are to be."""
    for flag, value in (("--workers", workers), ("--threads", threads)):
        if gpus and value is not None:
            raise UsageError(
                f"{flag} {value}: is for CPUs, but training runs on {gpus} GPUs; leave "
                "it out (CUDA_VISIBLE_DEVICES selects GPUs), or add --cpu"
            )
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    if not gpus and not joins and tasks > 1:
        raise UsageError(
            f"srun has started {tasks} of this command; on CPUs each would train by itself, into the same "
            "folder: say --ntasks 1, with --cpus-per-task, or start torchrun as the one task of each machine"
        )
    if joins and (workers or 1) > 1:
        raise UsageError(f"--workers {workers}: leave it out, whatever starts the processes says how many")
    if not gpus and not joins and None not in (workers, given) and workers != given:
        raise UsageError(f"--workers {workers}: but --distributed-world-size is {given}; leave one out")


def _count(number: str | None) -> int | None:
    """A number of processes as options and torchrun say it; None for none."""
    return int(number) if number and number.isdecimal() and int(number) else None


def _joins(arguments: list[str]) -> bool:
    """Whether this is one of several processes that something else starts, perhaps on several machines."""
    started = by_torchrun() and os.environ["WORLD_SIZE"] != "1"
    return started or option_value(arguments, "--distributed-init-method") is not None


def _teach_fairseq() -> None:
    # Before fairseq, whose import is silent this way.
    importlib.import_module(".compat", __package__)
    importlib.import_module(".batch_limits", __package__).install()


def end_with_parent(parent: int) -> None:
    """Let this process end by itself once its parent is killed so hard that it cannot stop it.

    Args:
        parent: the number of the parent, which may have ended while this process was starting.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


def _worker() -> None:
    end_with_parent(int(os.environ[LAUNCHER]))
    _teach_fairseq()
    from fairseq_cli.train import cli_main

    from .cpu import use_fast_kernels

    if "--cpu" in sys.argv:
        use_fast_kernels()
    sys.argv[0] = "vqnat train"
    with short_complaints():
        cli_main()


if __name__ == "__main__":
    _worker()
elif __name__ == "__mp_main__":
    # A process that fairseq starts for one of several GPUs.
    _teach_fairseq()
