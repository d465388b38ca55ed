#!/usr/bin/env python3
"""What do the codes of a trained vq_nat_em stand for?

Writes codes.html, a page that opens from disk (use of each code, the words and positions it stands for, its
neighbours, examples, a map of the codebook; searchable), and the same as codes.json.
"""

import argparse
import sys
from pathlib import Path

from vqnat_plugin.analysis.codes import inspect
from vqnat_plugin.analysis.page import render
from vqnat_plugin.errors import CheckpointError, DataError
from vqnat_plugin.files import write_json, write_text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="the trained model")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="binarised data (default: what the model was trained on)"
    )
    parser.add_argument("--subset", default="train", help="split to look at (default: %(default)s)")
    parser.add_argument(
        "--sentences", type=int, default=5000, metavar="N", help="at most so many (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of their draw (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to write to (default: codes beside CHECKPOINT)"
    )
    options = parser.parse_args()
    if options.sentences < 1:
        parser.error(f"--sentences {options.sentences}: needs at least 1")
    out = options.out or options.checkpoint.parent / "codes"
    try:
        found = inspect(
            options.checkpoint, options.data, options.subset, options.sentences, seed=options.seed
        )
    except (DataError, CheckpointError) as error:
        sys.exit(f"inspect_codes: {error}")
    write_json(out / "codes.json", found)
    write_text(out / "codes.html", render(found))
    print(
        f"{found['usage']:.1%} of {found['codebook_size']} codes used, perplexity {found['perplexity']:.1f}, "
        f"in {found['sentences_seen']} sentences of {options.subset}"
    )
    for code in sorted(found["codes"], key=lambda code: -code["count"])[:10]:
        texts = ", ".join(f"'{text}' ({count})" for text, count in code["segments"][:5])
        print(f"code {code['code']:>5}  {code['count']:>6} times  {texts}")
    print(f"{out}: codes.html and codes.json written")


if __name__ == "__main__":
    main()
