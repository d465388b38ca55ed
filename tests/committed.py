"""What committed reports say in other words than the recipes do by now."""

import re
from collections.abc import Iterable

# How tokens become text: said by each command when the reports were made, by the data since. It is the same.
BY_DATA = {
    "--eval-bleu-detok": "moses",
    "--eval-bleu-detok-args": r'{"target_lang": "\w\w"}',
    "--eval-bleu-remove-bpe": None,
    "--tokenizer": "moses",
}


def without_detokenising(command: Iterable[str]) -> list[str]:
    """A command without the options that the text pipeline of the data stands for now."""
    kept, words = [], iter(command)
    for word in words:
        if word not in BY_DATA:
            kept.append(word)
        elif (value := BY_DATA[word]) is not None:
            assert re.fullmatch(value, next(words))
    return kept
