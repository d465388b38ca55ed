"""What `vqnat prepare` writes to its folder: only what was made there is replaced, and all of it at once."""

import os
import re
import shutil
from pathlib import Path

from ..errors import UsageError
from ..text.pipeline import FILE_NAME
from .settings import PrepareOptions

# The folder for `fairseq-train`.
BINARISED = "bin"
FOLDERS = (BINARISED, "bpe", "reference")
# All files in them.
OURS = re.compile(r"(train|valid|test)\d*\..+|dict\..+\.txt|text\.json|preprocess\.log")
# Beside them.
MERGES, MODEL = "bpe.codes", "sentencepiece.model"
# Says that what has these names was made here.
MARK = ".prepared"


def check_out(options: PrepareOptions) -> None:
    """Raise `UsageError` where something would be replaced that is to be read, or was not made here."""
    out = options.out
    # Data of version 0.2.0 and before have no mark.
    before = (out / MARK).is_file() or (out / BINARISED / FILE_NAME).is_file()
    way_out = "move that elsewhere, or choose another --out"
    for data in options.data:
        inside = [name for name in FOLDERS if data.resolve().is_relative_to((out / name).resolve())]
        if inside:
            where = f"in the '{inside[0]}' of --out {out}, which would be replaced"
            raise UsageError(f"--data {data}: lies {where}; {way_out}")
    given = [path.resolve() for path in (options.bpe_codes, options.sentencepiece_model) if path]
    for name in (*FOLDERS, MERGES, MODEL):
        path = out / name
        if not os.path.lexists(path) or path.resolve() in given:
            continue
        names = [each.name for each in path.iterdir()] if path.is_dir() else []
        strange = [each for each in names if name not in FOLDERS or not OURS.fullmatch(each)]
        if strange:
            raise UsageError(
                f"--out {out}: its folder '{name}' would be replaced, but '{min(strange)}' in it was not "
                f"made here; {way_out}"
            )
        if name in FOLDERS and path.is_dir() and not names:
            continue
        if not before or path.is_dir() != (name in FOLDERS):
            raise UsageError(f"--out {out}: its '{name}' would be replaced, but was not made here; {way_out}")


def publish(made: Path, out: Path) -> None:
    """Move everything to its place, the binarised data last: who finds them finds everything."""
    names = sorted(path.name for path in made.iterdir())
    names.remove(BINARISED)
    (out / MARK).touch()
    old = made / "old"
    old.mkdir()
    try:
        for name in filter(lambda name: os.path.lexists(out / name), (BINARISED, *names)):
            os.replace(out / name, old / name)
        for name in (*names, BINARISED):
            os.replace(made / name, out / name)
    except BaseException:
        for name in filter(lambda name: not os.path.lexists(made / name), (*names, BINARISED)):
            remove(out / name)
        put_back(old, out)
        raise


def put_back(old: Path, out: Path) -> None:
    """Move what `publish` has moved away to its place again."""
    for path in sorted(old.iterdir(), reverse=True) if old.is_dir() else ():
        remove(out / path.name)
        os.replace(path, out / path.name)


def remove(path: Path) -> None:
    """Delete a file, a link or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
