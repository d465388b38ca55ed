"""The machine and the versions that numbers were made with."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .launch import available_cores

if TYPE_CHECKING:
    import torch

PACKAGES = (
    "numpy",
    "sacrebleu",
    "onnxruntime",
    "ctranslate2",
    "vector-quantize-pytorch",
    "vqnat-plugin",
)
# What a processor's speed in int8 and bfloat16 hangs on, as Linux names it.
INSTRUCTIONS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
# One of these provides fairseq, see scripts/setup.sh.
FAIRSEQ_PACKAGES = ("fairseq", "ve-fairseq", "fairseq-fixed")


def available_device(cpu: bool = False) -> "torch.device":
    """The GPU where there is one, unless `cpu` asks for the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() and not cpu else "cpu")


def describe_machine() -> dict[str, Any]:
    """System, processor and its instructions for fast arithmetic, cores this process may use, memory, GPU.

    Memory is in GiB. What is not known, or not there, is None.
    """
    import torch

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _processor_name(),
        "instructions": _instructions(),
        "cores": available_cores(),
        "memory_gib": _memory(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def processor() -> str:
    """The name of the processor and its instructions for fast arithmetic; costs next to nothing."""
    instructions = _instructions()
    return _processor_name() + (f" ({instructions})" if instructions else "")


def _processor_name() -> str:
    return _of_processor("model name") or platform.processor() or platform.machine()


def _of_processor(name: str) -> str | None:
    """What Linux says of the first processor under `name`, or None."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(name):
                return line.partition(":")[2].strip()
    return None


def _instructions() -> str | None:
    known = (_of_processor("flags") or "").split()
    return " ".join(name for name in INSTRUCTIONS if name in known) or None


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def describe_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    import torch

    # torch itself knows its build, such as +cpu; its package's metadata may not.
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    for name in (*PACKAGES, *FAIRSEQ_PACKAGES):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
