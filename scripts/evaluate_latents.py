#!/usr/bin/env python3
"""Reconstruction BLEU, predictor accuracy and perplexity, and use of the codes, of a trained vq_nat_em.

None of them is the BLEU of the system: that comes from fairseq-generate and scripts/score.py.
"""

import argparse
import sys
from pathlib import Path

from vqnat_plugin.analysis.latents import evaluate_latents
from vqnat_plugin.errors import DataError
from vqnat_plugin.files import write_json


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA_BIN", help="binarised data")
    parser.add_argument("--path", type=Path, required=True, metavar="CHECKPOINT", help="the trained model")
    parser.add_argument("--subset", default="test", help="split to look at (default: %(default)s)")
    parser.add_argument(
        "--detokenizer", default="moses", choices=["moses", "space"], help="(default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON file to write")
    options = parser.parse_args()
    try:
        figures = evaluate_latents(
            options.path, options.data, options.subset, detokenizer=options.detokenizer
        )
    except DataError as error:
        sys.exit(f"evaluate_latents: {error}")
    write_json(options.out, figures)
    for name, value in figures.items():
        print(f"{name}: {value:.4g}")


if __name__ == "__main__":
    main()
