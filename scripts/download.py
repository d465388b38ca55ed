#!/usr/bin/env python3
"""Download files: with progress, retries, and going on where a cut connection or a killed run ended.

A file that is there already is not downloaded again. A file appears only when it is whole. Gzip is undone
when the URL ends in .gz and the file's name does not:

    scripts/download.py https://example.org/train.en.gz --out data/train.en
    scripts/download.py https://example.org/a.tgz https://example.org/b.tgz --out-dir archives
"""

import argparse
import sys
from pathlib import Path

from vqnat_plugin.data.download import download, file_name
from vqnat_plugin.errors import DataError


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("urls", nargs="+", metavar="URL", help="http or https address of a file")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, metavar="FILE", help="file to write, of a single URL")
    where.add_argument("--out-dir", type=Path, metavar="DIR", help="folder; files are named as in their URLs")
    parser.add_argument(
        "--sha256", nargs="+", metavar="HEX", help="checksum of what is downloaded, one for each URL"
    )
    parser.add_argument(
        "--gunzip", action="store_true", help="undo gzip whatever the names are; from FILE.gz comes FILE"
    )
    parser.add_argument(
        "--attempts",
        type=int,
        default=5,
        metavar="N",
        help="give up after so many failures in a row that brought nothing (default: %(default)s)",
    )
    options = parser.parse_args()
    if options.out and len(options.urls) > 1:
        parser.error(f"--out {options.out}: is for one URL, but there are {len(options.urls)}; use --out-dir")
    if options.sha256 and len(options.sha256) != len(options.urls):
        parser.error(f"--sha256: {len(options.sha256)} checksums for {len(options.urls)} URLs")
    if options.attempts < 1:
        parser.error(f"--attempts {options.attempts}: needs at least 1")
    try:
        for url, sha256 in zip(options.urls, options.sha256 or [None] * len(options.urls), strict=True):
            out = options.out or options.out_dir / file_name(url)
            if options.out_dir and options.gunzip:
                out = out.with_name(out.name.removesuffix(".gz"))
            new = download(url, out, sha256, options.gunzip or None, options.attempts)
            print(f"{out}: {out.stat().st_size:,} bytes" + ("" if new else ", was there"))
    except (DataError, OSError) as error:
        sys.exit(f"download: {error}")


if __name__ == "__main__":
    main()
