"""Graphs of an exported model in ONNX Runtime."""

from pathlib import Path
from typing import Any

import onnxruntime as ort

from ..errors import DataError

# What ONNX Runtime would replace by something slower.
SLOWER = {"SkipLayerNormFusion"}


def open_session(path: Path, threads: int) -> Any:
    """Load a graph; several threads may run it at once.

    Args:
        path: its file.
        threads: how many a computation may use.

    Raises:
        DataError: ONNX Runtime cannot read it.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Each graph has threads of its own: those of one would spin while another computes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # It would log what it raises.
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOWER
        )
    except Exception as error:  # ONNX Runtime's own, which have no common class
        raise DataError(f"{path}: ONNX Runtime {ort.__version__} cannot read it ({error})") from None
