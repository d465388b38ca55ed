#!/usr/bin/env python3
"""BLEU of one system: fairseq-generate's output against plain-text references, with sacreBLEU's signature.

Sentences are matched by number, and every one must be there. Detokenised, cased, 13a.
"""

import argparse
import shlex
import sys
from pathlib import Path

from vqnat_plugin.errors import DataError
from vqnat_plugin.evaluation.bleu import score_file
from vqnat_plugin.files import write_json


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--system", required=True, metavar="NAME", help="name of the system in the report")
    parser.add_argument(
        "--generated",
        type=Path,
        required=True,
        metavar="FILE",
        help="output of fairseq-generate (its D- lines)",
    )
    parser.add_argument(
        "--references",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="plain text, one sentence a line",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON file to write")
    options = parser.parse_args()
    try:
        score = score_file(options.generated, options.references)
        content = {
            "system": options.system,
            **score.as_dict(),
            "generated": str(options.generated),
            "references": [str(path) for path in options.references],
            "command": shlex.join(sys.argv),
        }
        write_json(options.out, content)
    except (DataError, OSError) as error:
        sys.exit(f"score: {error}")
    print(f"{options.system}: BLEU {score.bleu:.2f} ({score.signature}), {score.sentences} sentences")


if __name__ == "__main__":
    main()
