#!/usr/bin/env python3
"""fairseq-train on the machine at hand: all GPUs, or one data-parallel worker a core where there is none.

Everything after the options below goes to fairseq-train as it is, for example:

    scripts/train.py --batch-tokens 4096 DATA --user-dir vqnat_plugin --task translation_vq \
        --arch vq_nat_em --criterion vq_nat_loss ...
"""

import argparse
import sys

from vqnat_plugin.launch import train


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes on a CPU (default: one a core)")
    parser.add_argument(
        "--batch-tokens",
        type=int,
        metavar="N",
        help="target tokens a batch over all processes (fairseq's --max-tokens counts one process)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="threads of each process on a CPU (default: the cores, shared out evenly); say 1 with "
        "--workers 1 when several trainings run side by side",
    )
    options, arguments = parser.parse_known_args()
    for name, value in vars(options).items():
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} {value}: needs at least 1")
    return train(arguments, **vars(options))


if __name__ == "__main__":
    sys.exit(main())
