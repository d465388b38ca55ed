"""The output folder while it is being made: what it belongs to, what is done, and what must not be mixed."""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ..errors import DataError
from .chunks import ChunkStore
from .corpus import ParallelData, sha256
from .settings import Settings

FORMAT = 2
NAMES = {
    "format": "the version of this program's files",
    "teacher": "the teacher (--teacher)",
    "data": "the data (--data)",
    "source_lang": "--source-lang",
    "target_lang": "--target-lang",
    "precision": "the precision (--fp16, --bf16)",
}


def identity(settings: Settings, data: ParallelData) -> dict[str, Any]:
    """Everything that decides the translations: only chunks made under one identity may be put together."""
    return {
        "format": FORMAT,
        "source_lang": data.source_lang,
        "target_lang": data.target_lang,
        "teacher": [sha256(path) for path in settings.teachers],
        "data": sha256(*data.files("train"), *data.dictionary_files()),
        "chunk_size": settings.chunk_size,
        **dataclasses.asdict(settings.search),
    }


def _lock(file: IO[str]) -> bool:
    """Wait for the lock on a file; False where the system or a network file system knows none.

    Then ranks may merge side by side, to the same result.
    """
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
    except (ImportError, OSError):
        return False
    return True


def _read_json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    changes = []
    for key in new:
        if old.get(key) != new[key]:
            name = NAMES.get(key, "--" + key.replace("_", "-"))
            short = key not in ("teacher", "data")
            changes.append(f"{name} was {old.get(key)}, is now {new[key]}" if short else f"{name} changed")
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
        if self.out.exists() and not self.out.is_dir():
            raise DataError(f"--out {self.out}: is a file; name a folder")
        finished = _read_json(self.manifest) or {}
        old = _read_json(self.work_file) or finished.get("work")
        if old is None:
            if self.out.is_dir() and any(path != self.folder for path in self.out.iterdir()):
                raise DataError(
                    f"--out {self.out}: holds files that were not made here; choose an empty or a new folder"
                )
        elif restart:
            for name in ["manifest.json", *finished.get("files", [])]:
                (self.out / name).unlink(missing_ok=True)
            shutil.rmtree(self.folder, ignore_errors=True)
        elif old != self.work and (finished or any(self.folder.glob("chunks-*/*.npz"))):
            raise DataError(
                f"--out {self.out}: holds work with other settings: {_difference(old, self.work)}. Go on "
                "with the old settings, begin anew with --restart, or choose another --out"
            )
        self.chunks.folder.mkdir(parents=True, exist_ok=True)
        self._write_json(self.work_file, self.work)

    def is_finished(self, options: dict[str, Any]) -> bool:
        """Whether `out` holds the finished data of this work, put together under `options`."""
        manifest = _read_json(self.manifest)
        return (
            manifest is not None
            and manifest["work"] == self.work
            and manifest["options"] == options
            and all((self.out / name).is_file() for name in manifest["files"])
        )

    @contextlib.contextmanager
    def merging(self) -> Iterator[Path]:
        """A new, empty folder to put the data together in, while other ranks that came to merge must wait."""
        with (self.folder / "lock").open("w") as lock:
            if _lock(lock):
                for leftover in self.folder.glob("merge-*"):
                    shutil.rmtree(leftover)
            with tempfile.TemporaryDirectory(dir=self.folder, prefix="merge-") as stage:
                yield Path(stage)

    def publish(self, stage: Path, manifest: dict[str, Any]) -> None:
        """Move the files from `stage` to `out`, the manifest last.

        In between no index of a training set is there: fairseq-train refuses what is not whole.
        """
        names = sorted((path.name for path in stage.iterdir()), key=lambda name: name.endswith(".idx"))
        self.manifest.unlink(missing_ok=True)
        for name in names:
            if name.endswith(".idx"):
                (self.out / name).unlink(missing_ok=True)
        for name in names:
            os.replace(stage / name, self.out / name)
        self._write_json(self.manifest, {**manifest, "work": self.work, "files": sorted(names)})
        self.chunks.remove_unfinished()

    def _write_json(self, path: Path, content: Any) -> None:
        part = self.folder / f"{path.name}.{socket.gethostname()}.{os.getpid()}.part"
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(part, path)
