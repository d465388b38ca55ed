"""Text out of what a model writes: as its data was prepared, or as is asked for."""

import functools
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairseq.data import encoders
from fairseq.data.data_utils import post_process
from torch import Tensor

from ..text.pipeline import TextPipeline


class Detokenizer:
    """Makes text of token ids of a task's target language, or of its source."""

    def __init__(self, task: Any, data: Path, tokenizer: str | None = None, source: bool = False) -> None:
        """
        Args:
            task: fairseq's, of translation.
            data: binarised data.
            tokenizer: `moses` or `space` after subword-nmt; as the text pipeline in `data` says by default,
                and moses where there is none.
            source: whether the tokens are those of the source.

        Raises:
            DataError: the text pipeline is damaged.
        """
        self.dictionary = task.source_dictionary if source else task.target_dictionary
        language = task.cfg.source_lang if source else task.cfg.target_lang
        self.decode: Callable[[str], str]
        pipeline = TextPipeline.find(data) if tokenizer is None else None
        if pipeline is not None:
            # Its own target may be the source here.
            self.decode = functools.partial(pipeline.decode, language=language)
            return
        languages = {"source_lang": language, "target_lang": language}
        found = encoders.build_tokenizer(Namespace(tokenizer=tokenizer or "moses", **languages))
        self.decode = lambda tokens: found.decode(post_process(tokens, "@@ "))

    def __call__(self, tokens: Tensor, unknown: str | None = None) -> str:
        """The text of a sentence.

        Args:
            tokens: ids (positions,), with padding or without.
            unknown: stands for what is not in the dictionary, which says <unk> itself.
        """
        pads = [self.dictionary.pad()]
        # Of a GPU, each token would be waited for.
        return self.decode(
            self.dictionary.string(tokens.cpu(), extra_symbols_to_ignore=pads, unk_string=unknown)
        )
