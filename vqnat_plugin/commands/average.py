"""Average checkpoints of one training run: often a little better than any one of them.

The result is for decoding, and for use as a teacher; it has no optimizer state. Codes of a codebook are
averaged with their counts as weights.

  vqnat average --inputs runs/student --num-update-checkpoints 5 --output runs/student/average.pt
  vqnat average --inputs a.pt b.pt c.pt --output average.pt
"""

from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..options import FILE, PATH, option


@dataclass(kw_only=True)
class Options:
    """Options of `vqnat average`, named as those of fairseq's script."""

    inputs: tuple[Path, ...] = option(
        ..., "checkpoints to average, or the folder that a training wrote", exists=PATH
    )
    output: Path = option(..., "checkpoint to write", metavar="FILE", writes=FILE)
    num_epoch_checkpoints: int | None = option(
        None, "average the last N checkpoints of epochs (checkpoint3.pt) in the folder", least=1
    )
    num_update_checkpoints: int | None = option(
        None, "average the last N checkpoints of updates (checkpoint_2_500.pt) in the folder", least=1
    )

    def check(self) -> None:
        """Raise `UsageError` unless either files or a folder and a number are given."""
        numbers = [self.num_epoch_checkpoints, self.num_update_checkpoints]
        given = [number for number in numbers if number is not None]
        folder = any(path.is_dir() for path in self.inputs)
        if folder and (len(self.inputs) > 1 or len(given) != 1):
            raise UsageError(
                f"--inputs {self.inputs[0]}: a folder stands alone, with --num-epoch-checkpoints or "
                "--num-update-checkpoints"
            )
        if given and not folder:
            raise UsageError(f"--inputs {self.inputs[0]}: needs a folder for the last {given[0]}")


def run(options: Options) -> None:
    """Average and save."""
    from ..averaging import average_checkpoints, last_checkpoints
    from ..files import remove_parts
    from ..saving import save

    paths = list(options.inputs)
    if options.num_update_checkpoints is not None:
        paths = last_checkpoints(paths[0], options.num_update_checkpoints, "updates")
    elif options.num_epoch_checkpoints is not None:
        paths = last_checkpoints(paths[0], options.num_epoch_checkpoints, "epochs")
    remove_parts(options.output.parent)
    save(average_checkpoints(paths), options.output)
    print(f"{options.output}: the average of {', '.join(map(str, paths))}")
