"""The text pipeline of the data as fairseq's `--tokenizer vqnat`, for raw text in and text out."""

import argparse
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from fairseq.data.encoders import register_tokenizer
from fairseq.dataclass import FairseqDataclass

from ..errors import UsageError
from ..models.checkpoints import training_data
from ..options import option
from ..text.pipeline import FILE_NAME, TextPipeline

NAME = "vqnat"


@dataclass
class TextTokenizerConfig(FairseqDataclass):
    """Where the pipeline is."""

    text_pipeline: Optional[str] = option(  # noqa: UP045 (fairseq reads this annotation)
        None, f"with --tokenizer {NAME}: the {FILE_NAME} of the data, or its folder"
    )
    source_lang: Optional[str] = option(None, "source language")  # noqa: UP045
    target_lang: Optional[str] = option(None, "target language")  # noqa: UP045


@register_tokenizer(NAME, dataclass=TextTokenizerConfig)
class TextTokenizer:
    """What fairseq calls with each line: `encode` with the source's, `decode` with the target's."""

    def __init__(self, cfg: Any) -> None:
        """Read the pipeline; `UsageError` where none is named, `DataError` for a damaged one."""
        if not cfg.text_pipeline:
            raise UsageError(f"--tokenizer {NAME}: needs --text-pipeline, the folder of the data")
        pipeline = TextPipeline.load(Path(cfg.text_pipeline))
        # Of the model: data of one direction also trains the other.
        self.encode = functools.partial(pipeline.encode, language=cfg.source_lang)
        self.decode = functools.partial(pipeline.decode, language=cfg.target_lang)


def use_text_pipeline(args: argparse.Namespace) -> None:
    """Let fairseq's decoding commands use the pipeline of their data, unless they are told what to use.

    Args:
        args: what fairseq has parsed; changed in place.

    Raises:
        UsageError: `--remove-bpe` takes away what the pipeline needs.
    """
    if getattr(args, "path", None) is None or getattr(args, "bpe", None) is not None:
        return
    folder = training_data(args)
    if getattr(args, "tokenizer", None) is None and (folder / FILE_NAME).is_file():
        args.tokenizer = NAME
    if getattr(args, "tokenizer", None) != NAME:
        return
    args.text_pipeline = getattr(args, "text_pipeline", None) or str(folder)
    # With --remove-bpe fairseq would cut text that is whole into words at its blanks, and score these.
    if getattr(args, "post_process", None) is not None:
        raise UsageError(
            f"--post-process {args.post_process}: leave it out, {folder / FILE_NAME} says how tokens become "
            "text"
        )
