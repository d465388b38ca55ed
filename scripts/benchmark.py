#!/usr/bin/env python3
"""Latency of several systems, side by side in one process; each batch is translated by all of them in turn.

A system is NAME=CHECKPOINT[:CHECKPOINT...][;OPTION=VALUE...]. Options are those of fairseq's generation
(beam, lenpen, max_len_a, ...; beam is 1 unless given) or of the checkpoint's own task (rescore_with, ...).
Example:

    scripts/benchmark.py DATA_BIN --baseline greedy --out latency.json \\
        --system "greedy=teacher.pt" --system "beam4=teacher.pt;beam=4" --system "student=student.pt" \\
        --system "rescored=student.pt;beam=4;rescore_with=teacher.pt"

Timed from source tokens on the host to the translation on the host. Nothing else should run on the machine.
"""

import argparse
import shlex
import sys
from pathlib import Path

from vqnat_plugin.errors import DataError
from vqnat_plugin.evaluation.benchmark import benchmark
from vqnat_plugin.evaluation.latency import parse_system
from vqnat_plugin.evaluation.report import build_report, results
from vqnat_plugin.files import write_json


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: needs at least 1")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA_BIN", help="binarised data")
    parser.add_argument(
        "--system", action="append", required=True, metavar="SPEC", help="a system, see above; once for each"
    )
    parser.add_argument(
        "--baseline", metavar="NAME", help="the greedy teacher, for the speed-ups (default: the first system)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON file to write")
    parser.add_argument("--subset", default="test", help="split to translate (default: %(default)s)")
    parser.add_argument(
        "--batch-sizes", type=positive, nargs="+", default=[1, 32], metavar="N", help="(default: 1 32)"
    )
    parser.add_argument(
        "--sentences",
        type=positive,
        default=100,
        metavar="N",
        help="at least, a batch size (default: %(default)s)",
    )
    parser.add_argument(
        "--warmup", type=int, default=3, metavar="N", help="untimed batches before (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=positive, default=1, metavar="N", help="of torch on the CPU (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="of the choice of sentences (default: %(default)s)"
    )
    parser.add_argument("--cpu", action="store_true", help="leave the GPU alone")
    parser.add_argument("--fp16", action="store_true", help="half precision")
    options = parser.parse_args()
    try:
        content = benchmark(
            [parse_system(text) for text in options.system],
            options.data,
            baseline=options.baseline,
            subset=options.subset,
            batch_sizes=options.batch_sizes,
            sentences=options.sentences,
            warmup=options.warmup,
            threads=options.threads,
            seed=options.seed,
            cpu=options.cpu,
            half=options.fp16,
        )
        content["command"] = shlex.join(sys.argv)
        write_json(options.out, content)
    except (DataError, OSError) as error:
        sys.exit(f"benchmark: {error}")
    print(results(build_report("", latency=content)))


if __name__ == "__main__":
    main()
