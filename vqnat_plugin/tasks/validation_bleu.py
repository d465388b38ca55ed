"""BLEU during validation: text put together as the data was prepared, cut as its language is scored."""

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairseq import utils
from torch import Tensor, nn

from ..errors import UsageError
from ..evaluation.bleu import WITH_CHARACTERS, bleu_metric, corpus_bleu
from ..models.checkpoints import training_data
from ..text.languages import sacrebleu_tokenizer
from ..text.pipeline import TextPipeline

logger = logging.getLogger(__name__)

# fairseq's default of --eval-bleu-detok: nothing is undone.
NO_TOKENIZER = "space"
# Stand for <unk>, which would be cut in three; different, so that they never match.
UNKNOWN, UNKNOWN_IN_REFERENCE = "UNKNOWNTOKENINHYP", "UNKNOWNTOKENINREF"


def detokenizer(task: Any) -> Callable[[str], str]:
    """What makes text of the target's tokens: as `--eval-bleu-detok` says, else the pipeline of the data."""
    options = task.cfg
    if options.eval_tokenized_bleu:
        return str
    if options.eval_bleu_detok == NO_TOKENIZER and options.eval_bleu_remove_bpe is None:
        pipeline = _pipeline(training_data(options))
        if pipeline is not None:
            return functools.partial(pipeline.decode, language=options.target_lang)
    return task.tokenizer.decode if task.tokenizer else str


@functools.cache
def _pipeline(folder: Path) -> TextPipeline | None:
    return TextPipeline.find(folder)


def inference_with_bleu(task: Any, generator: Any, sample: dict[str, Any], model: nn.Module) -> Any:
    """In the place of fairseq's, which knows neither the pipeline nor the language.

    Returns:
        sacreBLEU's score of one batch, with the counts that make it.
    """
    dictionary, options = task.target_dictionary, task.cfg
    put_together = detokenizer(task)

    def text(tokens: Tensor, unknown: str) -> str:
        return put_together(
            dictionary.string(tokens.int().cpu(), options.eval_bleu_remove_bpe, unk_string=unknown)
        )

    found = task.inference_step(generator, [model], sample, prefix_tokens=None)
    hypotheses = [text(each[0]["tokens"], UNKNOWN) for each in found]
    references = [
        text(utils.strip_pad(target, dictionary.pad()), UNKNOWN_IN_REFERENCE) for target in sample["target"]
    ]
    if options.eval_bleu_print_samples:
        logger.info(f"example hypothesis: {hypotheses[0]}")
        logger.info(f"example reference: {references[0]}")
    return corpus_bleu(hypotheses, [references], tokenize=_tokenizer(options))


def _tokenizer(options: Any) -> str:
    """sacreBLEU's name of the tokeniser that `--eval-bleu` scores with."""
    return "none" if options.eval_tokenized_bleu else sacrebleu_tokenizer(options.target_lang)


def check_bleu(options: Any) -> None:
    """Raise `UsageError` where there is no BLEU, which a training would find out at its first validation."""
    if not options.eval_bleu:
        return
    try:
        bleu_metric(_tokenizer(options))
    except UsageError as error:
        cause = str(error).removesuffix(WITH_CHARACTERS)
        raise UsageError(
            f"--eval-bleu with --target-lang {options.target_lang}: {cause}, or take --eval-tokenized-bleu"
        ) from None
