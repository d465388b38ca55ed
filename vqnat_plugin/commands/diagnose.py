"""Where does a trained vq_nat_em lose BLEU: autoencoder, latent predictor, length, or choice of candidates?

Decodes a test set under different latents (codes of the teacher's output, predicted codes, of the true
length, shuffled, random, ...) and prints a table; writes diagnosis.json, diagnosis.md and diagnosis.png.
"""

import argparse
import sys
from pathlib import Path

import torch

from ..errors import CheckpointError, DataError
from ..files import write_json, write_text
from ..machine import describe_machine, describe_versions
from .decoding import Diagnosis, decode
from .plot import plot_diagnosis
from .scoring import evaluate, table


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="the trained model")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="binarised data (default: what the model was trained on)"
    )
    parser.add_argument(
        "--teacher",
        type=Path,
        metavar="CHECKPOINT",
        help="its autoregressive teacher (default: that of --init-from-teacher in training). Without one the "
        "reference stands for the teacher's output",
    )
    parser.add_argument("--subset", default="test", help="split to decode (default: %(default)s)")
    parser.add_argument(
        "--references",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="raw text of the references (default: the detokenised target side of the data)",
    )
    parser.add_argument(
        "--candidates", type=int, default=4, metavar="N", help="latent candidates (default: %(default)s)"
    )
    parser.add_argument("--batch-size", type=int, default=50, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the random codes (default: %(default)s)")
    parser.add_argument(
        "--detokenizer", default="moses", choices=["moses", "space"], help="(default: %(default)s)"
    )
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to write to (default: diagnosis beside CHECKPOINT)"
    )
    options = parser.parse_args()
    for name in ("candidates", "batch_size"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(options, name)}: needs at least 1")
    return options


def main() -> None:
    options = parse()
    out = options.out or options.checkpoint.parent / "diagnosis"
    try:
        diagnosis = Diagnosis(
            options.checkpoint,
            options.data,
            options.teacher,
            subset=options.subset,
            candidates=options.candidates,
            detokenizer=options.detokenizer,
            cuda=torch.cuda.is_available() and not options.cpu,
        )
        if not diagnosis.teachers:
            print("diagnose: no teacher (--teacher): the reference stands for its output", file=sys.stderr)
        written = decode(diagnosis, options.batch_size, options.seed)
        result = evaluate(written, options.references)
    except (DataError, CheckpointError) as error:
        sys.exit(f"diagnose: {error}")
    result |= {
        "checkpoint": str(options.checkpoint),
        "teacher": None if diagnosis.teacher is None else str(diagnosis.teacher),
        "data": str(diagnosis.data),
        "subset": options.subset,
        "seed": options.seed,
        "machine": describe_machine(),
        "versions": describe_versions(),
    }
    shown = table(result)
    write_json(out / "diagnosis.json", result)
    write_text(out / "diagnosis.md", f"# Diagnosis of {options.subset}\n\n{shown}\n\n![](diagnosis.png)\n")
    plot_diagnosis(result, out / "diagnosis.png", f"{options.checkpoint.name}, {options.subset}")
    print(shown)
    print(f"\n{out}: diagnosis.json, diagnosis.md, diagnosis.png written")


if __name__ == "__main__":
    main()
