"""Translating raw text, a line for a line, with fairseq's options of decoding."""

import argparse
import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairseq import tasks, utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.hub_utils import GeneratorHubInterface
from omegaconf import open_dict

from ..errors import DataError, UsageError, UserError
from ..fairseq_checks import require_known
from ..line_filter import Answer
from ..models.checkpoints import TRANSLATION, Checkpoint
from ..models.hub import MAX_TOKENS


class RawTextTranslator:
    """A model with its text pipeline, for lines of text."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Load the models.

        Args:
            args: the options of `fairseq-interactive`, parsed.

        Raises:
            UsageError: an option does not go with one translation a line.
            CheckpointError: a checkpoint cannot be read.
        """
        config = convert_namespace_to_omegaconf(args)
        if config.generation.nbest > 1:
            raise UsageError(
                f"--nbest {config.generation.nbest}: one translation a line is written; fairseq-interactive "
                "shows several"
            )
        with open_dict(config):
            if config.dataset.max_tokens is None and config.dataset.batch_size is None:
                config.dataset.max_tokens = MAX_TOKENS
        if config.common.seed is not None and not config.generation.no_seed_provided:
            np.random.seed(config.common.seed)
            utils.set_torch_seed(config.common.seed)
        task = tasks.setup_task(config.task)
        overrides = ast.literal_eval(config.common_eval.model_overrides)
        models = []
        for path in utils.split_paths(config.common_eval.path):
            checkpoint = Checkpoint(Path(path), TRANSLATION)
            require_known(path, checkpoint.config, overrides)
            checkpoint.check_data(Path(task.cfg.data), (task.cfg.source_lang, task.cfg.target_lang))
            model, _, _ = checkpoint.build(task, **overrides)
            models.append(model)
            if config.common.fp16:
                model.half()
            elif config.common.bf16:
                model.to(torch.bfloat16)
        self._options: dict[str, Any] = {"beam": config.generation.beam}
        self._hub = GeneratorHubInterface(config, task, models)
        if torch.cuda.is_available() and not config.common.cpu:
            self._hub.cuda()

    def answer(self, lines: Sequence[str], before: int) -> Answer:
        """One translation for each line, up to the first that is too long; an empty one for an empty line.

        Args:
            lines: raw text.
            before: how many lines came before these.
        """
        tokens: list[torch.Tensor | None] = []
        error = None
        for number, line in enumerate(lines, before + 1):
            try:
                tokens.append(self._encode(line, number))
            except UserError as problem:
                error = problem
                break
        found = self._generate([each for each in tokens if each is not None])
        texts = ["" if each is None else self._text(next(found)[0]["tokens"]) for each in tokens]
        return Answer(texts, len(texts), error=error)

    def _generate(self, tokens: Sequence[torch.Tensor]) -> Iterator[Any]:
        """Hypotheses of each source, so many of which are read and sorted by length at a time."""
        size = self._hub.cfg.interactive.buffer_size or len(tokens)
        for start in range(0, len(tokens), size or 1):
            yield from self._hub.generate(list(tokens[start : start + size]), **self._options)

    def _text(self, tokens: torch.Tensor) -> str:
        """A translation as text, as fairseq-interactive makes it, `--remove-bpe` included."""
        joined = self._hub.tgt_dict.string(tokens, self._hub.cfg.common_eval.post_process)
        text: str = self._hub.detokenize(self._hub.remove_bpe(joined))
        return text

    def _encode(self, line: str, number: int) -> torch.Tensor | None:
        """Tokens of a line; None where it holds no text."""
        if not line.strip():
            return None
        tokens: torch.Tensor = self._hub.encode(line)
        if len(tokens) == 1:
            return None
        batch = self._hub.cfg.dataset.max_tokens
        if batch is not None and len(tokens) > batch:
            raise UsageError(f"--max-tokens {batch}: line {number} has {len(tokens)} tokens")
        longest = self._hub.max_positions[0]
        if longest is not None and len(tokens) > longest:
            raise DataError(
                f"line {number} has {len(tokens)} tokens, the model reads {longest} at most: split it into "
                "sentences"
            )
        return tokens
