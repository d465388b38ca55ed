#!/usr/bin/env python3
"""Average checkpoints of one training run: often a little better than any one of them.

The result is for decoding, and for use as a teacher; it has no optimizer state. Codes of a codebook are
averaged with their counts as weights. Examples:

    scripts/average_checkpoints.py --last 5 --save-dir runs/student --output runs/student/average.pt
    scripts/average_checkpoints.py --inputs a.pt b.pt c.pt --output average.pt
"""

import argparse
import sys
from pathlib import Path

from vqnat_plugin.averaging import average_checkpoints, last_checkpoints, save_checkpoint
from vqnat_plugin.errors import CheckpointError, DataError


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--inputs", type=Path, nargs="+", metavar="FILE", help="checkpoints to average")
    which.add_argument("--last", type=int, metavar="N", help="the last N of --save-dir instead")
    parser.add_argument(
        "--save-dir",
        type=Path,
        metavar="DIR",
        help="folder that fairseq-train wrote, with checkpoint_EPOCH_UPDATES.pt or checkpointEPOCH.pt",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="checkpoint to write")
    options = parser.parse_args()
    if (options.last is None) != (options.save_dir is None):
        parser.error("--last and --save-dir belong together")
    if options.last is not None and options.last < 1:
        parser.error(f"--last {options.last}: needs at least 1")
    try:
        paths = options.inputs or last_checkpoints(options.save_dir, options.last)
        save_checkpoint(average_checkpoints(paths), options.output)
    except (DataError, CheckpointError, OSError) as error:
        sys.exit(f"average_checkpoints: {error}")
    print(f"{options.output}: the average of {', '.join(map(str, paths))}")


if __name__ == "__main__":
    main()
