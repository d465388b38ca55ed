"""What an export looks at in the data of the training."""

from typing import Any

import numpy as np
from fairseq.data.data_utils import load_indexed_dataset

from ..errors import DataError

# Sentences of the validation set that are translated twice.
MOST = 1000
# Share of the training set's sources whose length is usual.
USUAL = 0.999


def validation_pairs(hub: Any) -> list[tuple[Any, Any]]:
    """At most `MOST` pairs, spread over the validation set, that the model can read; none without such a set.

    Args:
        hub: the checkpoint's, see `VQNAT.from_pretrained`.

    Raises:
        DataError: its files are damaged, or not parallel.
    """
    found = _sides(hub, "valid")
    if found is None:
        return []
    sources, targets = found
    readable = [row for row, size in enumerate(sources.sizes) if size <= hub.max_positions[0]]
    count = min(MOST, len(readable))
    # Corpora are often sorted: the first ones may be the shortest.
    rows = [readable[number * len(readable) // count] for number in range(count)]
    return [(sources[row].long(), targets[row].long()) for row in rows]


def usual_length(hub: Any) -> int | None:
    """Tokens, EOS included, that one in a thousand sources of the training set exceeds at the most.

    What is longer the model has hardly learnt to translate. None without a training set, or with an empty
    one.

    Raises:
        DataError: see `validation_pairs`.
    """
    found = _sides(hub, "train")
    if found is None or not len(found[0]):
        return None
    return int(np.quantile(found[0].sizes, USUAL, method="inverted_cdf"))


def _sides(hub: Any, split: str) -> tuple[Any, Any] | None:
    """Sources and targets of a part of the data; None where it is not there."""
    cfg = hub.task.cfg
    languages = cfg.source_lang, cfg.target_lang
    dictionaries = (hub.task.source_dictionary, hub.task.target_dictionary)
    # As fairseq looks for it: data may have been binarised for the other direction.
    for direction in ("-".join(languages), "-".join(reversed(languages))):
        prefix = f"{cfg.data}/{split}.{direction}."
        source, target = (
            load_indexed_dataset(prefix + language, dictionary)
            for language, dictionary in zip(languages, dictionaries, strict=True)
        )
        if source is not None and target is not None:
            break
    else:
        return None
    if len(source) != len(target):
        found = f"{len(source)} in {languages[0]} and {len(target)} in {languages[1]}"
        raise DataError(f"{prefix}*: sentences are {found}, needs as many")
    return source, target
