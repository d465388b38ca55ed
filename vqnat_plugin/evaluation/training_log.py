"""Curves out of fairseq's log of a training (`--log-format json --log-file FILE`)."""

import json
import math
from collections import defaultdict
from pathlib import Path

from ..errors import DataError
from ..reading import read_lines

# How metrics end that are counted from the start of an epoch.
OF_AN_EPOCH = "_epoch"
UPDATES = "num_updates"
Curve = list[tuple[int, float]]


class TrainingLog:
    """The metrics of one training over its updates.

    fairseq writes one JSON object a line: every `--log-interval` updates without a prefix, at the end of an
    epoch with the prefix `train_`, and after a validation with the name of the subset. It writes the lines
    of epoch n n times; and a resumed training repeats updates. The last line of an update counts, and where
    a training goes on from an earlier update, or begins again, what came behind that does not.
    """

    def __init__(self, path: Path) -> None:
        """Read the log file.

        Raises:
            DataError: the file cannot be read, or holds no line of this kind.
        """
        self._values: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
        self._last = 0
        for line in read_lines(path):
            self._add(line)
        if not self._values:
            raise DataError(f"{path}: no metrics; was it written with --log-format json --log-file?")

    def _add(self, line: str) -> None:
        start = line.find("{")
        try:
            entry = json.loads(line[start:]) if start >= 0 else None
        except json.JSONDecodeError:
            return  # fairseq's other messages, and a last line that was cut off
        if not isinstance(entry, dict):
            return
        key = next((key for key in entry if key.endswith(UPDATES)), None)
        updates = _number(entry[key]) if key else None
        if key is None or updates is None:
            return
        if updates < self._last:
            self._forget_behind(int(updates))
        self._last = int(updates)
        prefix = key.removesuffix(UPDATES)
        curves = self._values[prefix.removesuffix("_")]
        for name, value in entry.items():
            number = _number(value)
            if number is not None and name.startswith(prefix):
                curves[name.removeprefix(prefix)][int(updates)] = number

    def _forget_behind(self, updates: int) -> None:
        for curves in self._values.values():
            for values in curves.values():
                for later in [each for each in values if each > updates]:
                    del values[later]

    def curve(self, metric: str, subset: str = "train") -> Curve:
        """The values of a metric by update, in order; empty if the log has none.

        Args:
            metric: for example `loss`, `bleu` or `codebook_usage`.
            subset: `train`, or the name of a validation subset.
        """
        values = self._values.get(subset, {}).get(metric, {})
        if subset == "train" and not (metric.endswith(OF_AN_EPOCH) and len(values) > 1):
            # The lines within an epoch are finer than those at its end; but what is counted over an epoch is
            # not whole there, and would seem to fall at each start of one.
            values = self._values.get("", {}).get(metric, {}) or values
        return sorted(values.items())


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
