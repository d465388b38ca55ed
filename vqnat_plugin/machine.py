"""The machine and the versions that numbers were made with."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from .launch import available_cores

PACKAGES = (
    "numpy",
    "sacrebleu",
    "onnxruntime",
    "ctranslate2",
    "vector-quantize-pytorch",
    "vqnat-plugin",
)
# One of these provides fairseq, see scripts/setup.sh.
FAIRSEQ_PACKAGES = ("fairseq", "ve-fairseq", "fairseq-fixed")


def available_device(cpu: bool = False) -> torch.device:
    """The GPU where there is one, unless `cpu` asks for the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() and not cpu else "cpu")


def describe_machine() -> dict[str, Any]:
    """System, processor, cores this process may use, memory in GiB, and GPU (or None)."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _processor(),
        "cores": available_cores(),
        "memory_gib": _memory(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def describe_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    # torch itself knows its build, such as +cpu; its package's metadata may not.
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    for name in (*PACKAGES, *FAIRSEQ_PACKAGES):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
