"""From a checkpoint of fairseq's Transformer to a folder of CTranslate2, by CTranslate2's own converter."""

import re
from pathlib import Path

from ctranslate2.converters import FairseqConverter

from ..errors import CheckpointError, UsageError
from ..files import replace_folder
from ..models.checkpoints import AUTOREGRESSIVE, Checkpoint, training_data
from ..models.hub import find_checkpoint

# CTranslate2's names.
QUANTIZATIONS = {"fp32": "float32", "int8": "int8"}
OURS = re.compile(r"model\.bin|config\.json|((shared|source|target)_vocabulary|vmap)\.(json|txt)")


def convert(
    checkpoint: Path,
    out: Path,
    precision: str = "int8",
    data: Path | None = None,
    languages: tuple[str | None, str | None] = (None, None),
) -> None:
    """Write a folder that CTranslate2 loads; it is there whole or not at all.

    Args:
        checkpoint: of a Transformer, or the folder that a training wrote.
        out: the folder to write; a model of CTranslate2 there is replaced.
        precision: of the weights, one of `QUANTIZATIONS`.
        data: folder with the dictionaries, if not that of the training.
        languages: of source and target, each None where checkpoint or data say it.

    Raises:
        UsageError: `out` is in use for something else.
        DataError: the checkpoint, a dictionary or the languages are missing.
        CheckpointError: the checkpoint cannot be read, or is of a model that CTranslate2 does not know.
    """
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / "model.bin").is_file())):
        raise UsageError(f"--out {out}: is in use, and no model of CTranslate2; name a new folder")
    strange = [path.name for path in out.iterdir() if not OURS.fullmatch(path.name)] if out.is_dir() else []
    if strange:
        raise UsageError(
            f"--out {out}: would be replaced, but '{min(strange)}' in it is no part of a model of "
            "CTranslate2; move that elsewhere, or name a new folder"
        )
    found = Checkpoint(find_checkpoint(checkpoint), AUTOREGRESSIVE)
    folder = data or training_data(found.task)
    source, target = found.check_data(folder, languages)
    # Only data is unpickled, as everywhere: fairseq's few classes are on torch's list of safe ones.
    converter = FairseqConverter(str(found.path), str(folder), source_lang=source, target_lang=target)

    def fill(part: Path) -> None:
        try:
            converter.convert(str(part), quantization=QUANTIZATIONS[precision], force=True)
        except OSError as error:
            # Of the folder that it fills: a full disk is no fault of the checkpoint.
            raise OSError(error.errno, error.strerror) from None
        except Exception as error:  # of many kinds
            raise CheckpointError(f"{found.path}: CTranslate2 cannot convert it ({error})") from None

    replace_folder(out, fill)
