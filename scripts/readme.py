#!/usr/bin/env python3
"""Write what is generated (results in README.md, examples/OPTIONS.md), or check that it is up to date."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from gains import gains
from options_reference import reference
from quantisers import quantisers
from results import summary

from vqnat_plugin.files import write_text

ROOT = Path(__file__).resolve().parent.parent


def fill(text: str, examples: Path) -> str:
    """`text` with fresh content between the markers of each generated part.

    Raises:
        ValueError: a marker is missing.
    """
    generators: dict[str, Callable[[Path], str]] = {
        "gains": gains,
        "quantisers": quantisers,
        "results": summary,
    }
    for name, generate in generators.items():
        start, end = f"<!-- {name}: written by scripts/readme.py -->", f"<!-- end of {name} -->"
        if start not in text or end not in text:
            raise ValueError(f"needs the lines {start} and {end}")
        before, rest = text.split(start, 1)
        text = f"{before}{start}\n{generate(examples)}\n{end}{rest.split(end, 1)[1]}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail when a file is out of date"
    )
    options = parser.parse_args()
    readme, all_options = ROOT / "README.md", ROOT / "examples" / "OPTIONS.md"
    try:
        fresh = {
            readme: fill(readme.read_text(encoding="utf-8"), ROOT / "examples"),
            all_options: reference(),
        }
    except ValueError as error:
        sys.exit(f"readme: README.md {error}")
    for path, text in fresh.items():
        if options.check and (not path.is_file() or path.read_text(encoding="utf-8") != text):
            sys.exit(f"readme: {path.relative_to(ROOT)} is out of date; run scripts/readme.py")
        if not options.check:
            write_text(path, text)


if __name__ == "__main__":
    main()
