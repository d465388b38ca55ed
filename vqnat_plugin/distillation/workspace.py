"""The output folder while it is being made: what it belongs to, what is done, and what must not be mixed."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..files import lock, open_no_link, remove_parts, write_json
from ..reading import read_json_if_there, sha256
from ..text.pipeline import FILE_NAME
from .chunks import ChunkStore
from .corpus import ParallelData
from .settings import DistillOptions

FORMAT = 2
# Names of the files of a data set, and of what we write beside them. Nothing else is ever deleted.
DATA_FILES = re.compile(
    r"(train|valid|test)\d*\.[^./]+-[^./]+\.[^./]+(\.(bin|idx))?|dict\.[^./]+\.txt"
    rf"|train\.distilled\.[^./]+|filtered\.tsv|{re.escape(FILE_NAME)}"
)
NAMES = {
    "format": "the version of this program's files",
    "teacher": "the teacher (--teacher)",
    "data": "the data (--data)",
    "source_lang": "--source-lang",
    "target_lang": "--target-lang",
    "precision": "the precision (--fp16, --bf16)",
}


def identity(options: DistillOptions, data: ParallelData) -> dict[str, Any]:
    """Everything that decides the translations: only chunks made under one identity may be put together.

    With sampling, seed and batches are part of it: a batch's sentences share one stream of random numbers.
    Otherwise the seed changes nothing, and batches only roundings.
    """
    batches = {"max_tokens": options.max_tokens, "batch_size": options.batch_size}
    return {
        "format": FORMAT,
        "source_lang": data.source_lang,
        "target_lang": data.target_lang,
        "teacher": [sha256(path) for path in options.teachers],
        "data": sha256(*data.files("train"), *data.dictionary_files()),
        "chunk_size": options.chunk_size,
        **options.search(),
        "precision": options.precision,
        # Nothing else draws random numbers.
        **(batches if options.sampling else {"seed": DistillOptions.seed}),
    }


def _is_sound(manifest: dict[str, Any]) -> bool:
    """Whether a manifest has the form of ours, or says nothing of such work."""
    if "work" not in manifest:
        return True
    files = manifest.get("files")
    return (
        isinstance(manifest["work"], dict)
        and isinstance(files, list)
        and all(isinstance(name, str) for name in files)
    )


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    changes = []
    for key in new:
        if old.get(key) != new[key]:
            name = NAMES.get(key, "--" + key.replace("_", "-"))
            short = key not in ("teacher", "data")
            before = old.get(key, "not recorded")
            changes.append(f"{name} was {before}, is now {new[key]}" if short else f"{name} changed")
    return "; ".join(changes)


class Workspace:
    """The folder `out` and, in `out/.distill`, the identity of the work and its finished chunks.

    Attributes:
        work: the identity, see `identity`.
        chunks: finished chunks of this very work: the name of their folder is a digest of the identity.
        manifest: describes the finished data; it is there when, and only when, all of it is.
    """

    def __init__(self, out: Path, work: dict[str, Any]) -> None:
        self.out = out
        self.work = work
        self.manifest = out / "manifest.json"
        self.folder = out / ".distill"
        self.work_file = self.folder / "work.json"
        digest = hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()
        self.chunks = ChunkStore(self.folder / f"chunks-{digest[:16]}")

    def open(self, restart: bool = False) -> None:
        """Begin the work, or go on with it.

        Raises:
            DataError: the folder holds other work, or files from elsewhere.
        """
        if self.folder.is_symlink():
            raise DataError(
                f"{self.folder}: is a link, through which nothing is written; choose another --out"
            )
        finished = self._read(self.manifest, restart) or {}
        made = self._read(self.work_file, restart)
        old = made or finished.get("work")
        if old is None:
            if self.out.is_dir() and any(
                path != self.folder and path.suffix != ".lock" for path in self.out.iterdir()
            ):
                raise DataError(
                    f"--out {self.out}: holds files that were not made here; choose an empty or a new folder"
                )
        elif restart:
            self._clear(finished.get("files"))
        elif old != self.work and (finished or any(self.folder.glob("chunks-*/[0-9]*.npz"))):
            raise DataError(
                f"--out {self.out}: holds work with other settings: {_difference(old, self.work)}. Go on "
                "with the old settings, begin anew with --restart, or choose another --out"
            )
        self.chunks.folder.mkdir(parents=True, exist_ok=True)
        remove_parts(self.folder)
        if restart or made != self.work:
            write_json(self.work_file, self.work)

    def forget(self) -> None:
        """Delete what `open` has begun, for work of which nothing has come."""
        if not any(self.chunks.folder.glob("[0-9]*.npz")):
            shutil.rmtree(self.folder, ignore_errors=True)

    def is_finished(self, choices: dict[str, Any]) -> bool:
        """Whether `out` holds the finished data of this work, put together under `choices`.

        Raises:
            DataError: the manifest is damaged.
        """
        manifest = self._read(self.manifest)
        return (
            manifest is not None
            and manifest.get("work") == self.work
            and manifest.get("options") == choices
            and all((self.out / name).is_file() for name in manifest["files"])
        )

    def _read(self, path: Path, restart: bool = False) -> dict[str, Any] | None:
        try:
            content = read_json_if_there(path)
            if content is not None and path == self.manifest and not _is_sound(content):
                raise DataError(f"{path}: damaged")
            return content
        except DataError as error:
            made_here = self.folder.is_dir()
            if made_here and restart:
                return {"work": {}}
            way_out = "begin anew with --restart" if made_here else "choose another --out"
            raise DataError(f"{error}; {way_out}") from None

    def _clear(self, files: list[str] | None) -> None:
        """Delete an earlier attempt; where no list of its files is left, the indices of its training set."""
        names = [path.name for path in self.out.glob("train.*-*.*.idx")] if files is None else files
        for name in [self.manifest.name, *filter(DATA_FILES.fullmatch, names)]:
            (self.out / name).unlink(missing_ok=True)
        # It refuses a link in place of the folder, and follows none inside.
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def merging(self) -> Iterator[Path]:
        """A new, empty folder to put the data together in, while other ranks that came to merge must wait."""
        with open(self.folder / "lock", "ab", opener=open_no_link) as file:
            # Without a lock ranks may merge side by side, to the same result.
            if lock(file):
                for leftover in self.folder.glob("merge-*"):
                    shutil.rmtree(leftover, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=self.folder, prefix="merge-") as stage:
                yield Path(stage)

    def publish(self, stage: Path, manifest: dict[str, Any]) -> None:
        """Move the files from `stage` to `out`, the manifest last.

        In between no index of a training set is there: fairseq-train refuses what is not whole.
        """
        names = sorted((path.name for path in stage.iterdir()), key=lambda name: name.endswith(".idx"))
        before = (self._read(self.manifest, restart=True) or {}).get("files", [])
        self.manifest.unlink(missing_ok=True)
        # Such as a test set that the data have no longer.
        for name in set(filter(DATA_FILES.fullmatch, before)) - set(names):
            (self.out / name).unlink(missing_ok=True)
        for name in names:
            if name.endswith(".idx"):
                (self.out / name).unlink(missing_ok=True)
        for name in names:
            os.replace(stage / name, self.out / name)
        write_json(stage / self.manifest.name, {**manifest, "work": self.work, "files": sorted(names)})
        os.replace(stage / self.manifest.name, self.manifest)
