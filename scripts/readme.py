#!/usr/bin/env python3
"""Write the generated parts of README.md (results, all options), or check that they are up to date."""

import argparse
import sys
from pathlib import Path

from vqnat_plugin.reference import fill

from vqnat_plugin.files import write_text

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail when README.md is out of date"
    )
    options = parser.parse_args()
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    try:
        fresh = fill(text, ROOT / "examples")
    except ValueError as error:
        sys.exit(f"readme: README.md {error}")
    if options.check and fresh != text:
        sys.exit("readme: README.md is out of date; run scripts/readme.py")
    if not options.check:
        write_text(readme, fresh)


if __name__ == "__main__":
    main()
