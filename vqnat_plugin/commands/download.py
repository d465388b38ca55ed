"""Download files: with progress, retries, and going on where a cut connection or a killed run ended.

A file that is there already is not downloaded again. A file appears only when it is whole. Gzip is undone
when the URL ends in .gz and the file's name does not:

  vqnat download https://example.org/train.en.gz --out data/train.en
  vqnat download https://example.org/a.tgz https://example.org/b.tgz --out-dir archives
"""

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import GOES_ON, UsageError
from ..options import FILE, FOLDER, MOST_ROUNDS, option

INTERRUPTED = GOES_ON


@dataclass(kw_only=True)
class Options:
    """Options of `vqnat download`."""

    urls: tuple[str, ...] = option(..., "http or https address of a file", positional=True, metavar="URL")
    out: Path | None = option(None, "file to write, of a single URL", metavar="FILE", writes=FILE)
    out_dir: Path | None = option(
        None, "folder; files are named as in their URLs", metavar="DIR", writes=FOLDER
    )
    sha256: tuple[str, ...] = option(
        (), "checksum of what is downloaded, one for each URL (checked before gzip is undone)", metavar="HEX"
    )
    gunzip: bool = option(False, "undo gzip whatever the names are; from FILE.gz comes FILE")
    attempts: int = option(
        5, "give up after so many failures in a row that brought nothing", least=1, most=MOST_ROUNDS
    )

    def check(self) -> None:
        """Raise `UsageError` unless there is one place to write to, and a checksum for every URL or none."""
        if (self.out is None) == (self.out_dir is None):
            raise UsageError("needs either --out FILE or --out-dir DIR")
        if self.out is not None and len(self.urls) > 1:
            raise UsageError(
                f"--out {self.out}: is for one URL, but there are {len(self.urls)}; use --out-dir"
            )
        if self.sha256 and len(self.sha256) != len(self.urls):
            raise UsageError(f"--sha256: {len(self.sha256)} checksums for {len(self.urls)} URLs")
        for digits in self.sha256:
            if not re.fullmatch("[0-9a-fA-F]{64}", digits):
                raise UsageError(f"--sha256 {digits}: needs 64 hexadecimal digits")


def run(options: Options) -> None:
    """Download one after the other."""
    from ..data.download import download, file_name

    files: dict[Path, str] = {}
    for url in options.urls:
        if options.out_dir is None:
            assert options.out is not None
            out = options.out
        else:
            name = file_name(url)
            out = options.out_dir / (name.removesuffix(".gz") if options.gunzip else name)
        if out in files:
            raise UsageError(f"{url}: would be written to {out}, as {files[out]}; name a file with --out")
        files[out] = url
    checksums = options.sha256 or (None,) * len(files)
    for (out, url), sha256 in zip(files.items(), checksums, strict=True):
        new = download(url, out, sha256, options.gunzip or None, options.attempts)
        print(f"{out}: {out.stat().st_size:,} bytes" + ("" if new else ", was there"))
