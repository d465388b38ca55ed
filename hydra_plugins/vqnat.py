"""fairseq's commands know vqnat_plugin without `--user-dir` wherever it is installed.

Hydra imports every module of the namespace package `hydra_plugins` when it starts. In fairseq's commands that
is after their options are read, and before a user's modules are loaded. Other programs are left alone.
"""

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any


def with_ours(import_user_module: Callable[[Any], None]) -> Callable[[Any], None]:
    """fairseq's import of `--user-dir`, then ours unless that was another copy of it."""

    @functools.wraps(import_user_module)
    def import_modules(args: Any) -> None:
        import_user_module(args)
        importlib.import_module("vqnat_plugin")

    return import_modules


if "fairseq.utils" in sys.modules and "vqnat_plugin" not in sys.modules:
    utils = sys.modules["fairseq.utils"]
    utils.import_user_module = with_ours(utils.import_user_module)  # type: ignore[attr-defined]
