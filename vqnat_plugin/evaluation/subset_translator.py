"""What all systems are once they are loaded, and the data that those without a task of their own read."""

import abc
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from fairseq.data import Dictionary
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from torch import Tensor
from tqdm import tqdm

from ..errors import DataError
from ..models.checkpoints import dictionary_path, known_languages
from .systems import Conditions, System


class SubsetTranslator(abc.ABC):
    """A system that is loaded, with the subset that it translates.

    Attributes:
        name: of the system.
        task: fairseq's, with the dictionaries.
        dataset: fairseq's, of the subset.
        lengths: source tokens of each sentence of the subset.
        precision: of its weights: `fp32`, `fp16`, `bf16`, `int8`, ...
        latent: whether it decodes through discrete latents.
        gpu: whether it makes use of one.
        passes: how often a teacher has read each translation to check it, in the order of decoding.
    """

    latent = False
    gpu = False

    def __init__(self, system: System, conditions: Conditions, task: Any, precision: str) -> None:
        """Load the subset.

        Raises:
            DataError: it is missing or empty.
        """
        self.name, self.task, self.precision = system.name, task, precision
        self.passes: list[int] = []
        try:
            task.load_dataset(conditions.subset)
        except FileNotFoundError as error:
            raise DataError(f"--gen-subset {conditions.subset}: not in {conditions.data} ({error})") from None
        self.dataset = task.dataset(conditions.subset)
        self.lengths: list[int] = [int(size) for size in self.dataset.src_sizes]
        if not self.lengths:
            raise DataError(f"{conditions.data}: no sentences in '{conditions.subset}'")

    def require_length(self, longest: int | None) -> None:
        """Raise `DataError` if a source has more tokens than the model reads."""
        if longest is not None and max(self.lengths) > longest:
            most = max(self.lengths)
            raise DataError(
                f"system {self.name}: reads sources of {longest} tokens at most, but sentence "
                f"{self.lengths.index(most)} of the subset has {most}; leave it out of the data"
            )

    def decode(self, batch_size: int, text: Callable[[Tensor], str]) -> list[str]:
        """The whole subset, translated and detokenised, in its order.

        Args:
            batch_size: sentences; those of similar length go together.
            text: makes text of token ids, see `Detokenizer`.

        Raises:
            DataError: a sentence cannot be translated.
        """
        # The batches of fairseq-generate.
        targets = self.dataset.tgt_sizes if self.dataset.tgt_sizes is not None else self.lengths
        order = sorted(range(len(self.lengths)), key=lambda i: (self.lengths[i], targets[i]))
        texts = [""] * len(order)
        starts = range(0, len(order), batch_size)
        for start in tqdm(starts, desc=f"decode {self.name}", unit="batch", mininterval=1):
            batch = order[start : start + batch_size]
            for number, tokens in zip(batch, self.translated(batch), strict=True):
                texts[number] = text(torch.tensor(tokens))
        return texts

    def translated(self, sentences: Sequence[int]) -> list[list[int]]:
        """Token ids of the translations of sentences of the subset, as one batch.

        Raises:
            DataError: it cannot be translated.
        """
        return self.tokens(self.translate(self.prepare(sentences)))

    def source(self, sentence: int) -> list[int]:
        """Token ids of a sentence of the subset, ended by EOS."""
        return [int(token) for token in self.dataset[sentence]["source"]]

    @abc.abstractmethod
    def prepare(self, sentences: Sequence[int]) -> Any:
        """The batch of these sentences of the subset, on the host, in the form that the engine takes."""

    @abc.abstractmethod
    def translate(self, batch: Any) -> Any:
        """The best translation of each sentence, on the host, in the form that the engine gives."""

    def tokens(self, translations: Any) -> list[list[int]]:
        """Token ids of what `translate` gave, each sentence ended by EOS."""
        found: list[list[int]] = translations
        return found

    def synchronize(self) -> None:  # noqa: B027, most have nothing to wait for
        """Wait until the device is idle."""


class Engines:
    """Engines in use: systems that differ in how they decode share one, since weights may be large."""

    def __init__(self) -> None:
        self._used: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The engine of this key; it is made unless there is one."""
        found = self._used.get(key)
        if found is None:
            found = self._used[key] = make()
        return found


def plain_task(data: Path, languages: tuple[str | None, str | None]) -> TranslationTask:
    """fairseq's task of translation for data without a checkpoint.

    Args:
        data: binarised.
        languages: of source and target, None for those of the data.

    Raises:
        DataError: the languages are not known, or a dictionary is missing.
    """
    source, target = known_languages(data, languages)
    for language in (source, target):
        dictionary_path(data, language)
    # The others are references to options that only a command of fairseq has.
    plain = {"dataset_impl": None, "required_seq_len_multiple": 1, "train_subset": "train"}
    config = TranslationConfig(data=str(data), source_lang=source, target_lang=target, **plain)
    return TranslationTask.setup_task(config)


def require_symbols(system: System, side: str, symbols: Sequence[str], dictionary: Dictionary) -> None:
    """Raise `DataError` if a model has other symbols than the dictionary of the data.

    Args:
        system: the model's.
        side: `source` or `target`.
        symbols: of the model, in order.
        dictionary: of the data.
    """
    if list(symbols) != list(dictionary.symbols):
        raise DataError(
            f"system {system.name}: {system.checkpoints[0]} has other {side} symbols than the data; binarise "
            "with the dictionaries of its training (fairseq-preprocess --srcdict, --tgtdict)"
        )
