"""A system made of fairseq checkpoints, decoded through their own task as `fairseq-generate` does."""

import dataclasses
import functools
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils, utils
from fairseq.data import Dictionary, data_utils, encoders
from fairseq.dataclass.configs import GenerationConfig
from fairseq.tasks import TASK_REGISTRY
from fairseq.tasks.translation import TranslationTask
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ValidationError
from tqdm import tqdm

from ..errors import CheckpointError, DataError, UsageError, UserError
from .systems import Conditions, System

GENERATION_OPTIONS = {field.name for field in dataclasses.fields(GenerationConfig)}
# What fairseq-generate itself does with them, around its generator, is not done here.
UNSUPPORTED = ("constraints", "lm_path", "lm_weight", "prefix_size", "replace_unk", "score_reference")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclasses.dataclass(frozen=True)
class Training:
    """What a checkpoint says of its training.

    Attributes:
        task: fairseq's name of its task.
        options: names of all options of all parts.
        languages: of source and target, where they are known.
        data: the folder of its data.
    """

    task: str
    options: frozenset[str]
    languages: tuple[str | None, str | None]
    data: Path

    @classmethod
    def of(cls, path: Path) -> "Training":
        """Read a checkpoint.

        Raises:
            CheckpointError: it cannot be read, or is no checkpoint of fairseq.
        """
        state = checkpoint_utils.load_checkpoint_to_cpu(str(path))
        config = state.get("cfg") or state.get("args")
        # Older checkpoints have all options side by side.
        task = getattr(config, "task", None)
        options = config if isinstance(task, str) else task
        name = task if isinstance(task, str) else getattr(task, "_name", None)
        if not name:
            raise CheckpointError(f"{path}: does not say which fairseq task it was trained for")
        languages = (getattr(options, "source_lang", None), getattr(options, "target_lang", None))
        data = Path(str(getattr(options, "data", None)).split(":")[0])
        if None in languages and data.is_dir():
            languages = tuple(data_utils.infer_language_pair(str(data)))
        return cls(str(name), frozenset(_option_names(config)), languages, data)


def _option_names(config: DictConfig | Namespace | None) -> Iterator[str]:
    entries = config.items_ex(resolve=False) if isinstance(config, DictConfig) else vars(config).items()
    for name, value in entries:
        yield str(name)
        if isinstance(value, DictConfig | Namespace):
            yield from _option_names(value)


def _training(path: Path) -> Training:
    state = path.stat()
    return _known_training(path, state.st_size, state.st_mtime_ns)


@functools.cache
def _known_training(path: Path, size: int, modified: int) -> Training:
    """What a file says; systems share large ones, and are looked at before decoding and before timing."""
    return Training.of(path)


def check_systems(systems: Sequence[System], conditions: Conditions) -> None:
    """See, without building a model, whether systems can be what they are declared as.

    Raises:
        DataError: a file is missing, an option unknown or of another type, or the data of other languages.
        CheckpointError: a checkpoint cannot be read, is no translation model, or has other dictionaries.
    """
    pairs = {}
    for system in systems:
        system.require_files()
        _generation_options(system)
        for number, path in enumerate(system.paths()):
            option = "" if number < len(system.checkpoints) else "rescore_with: "
            who = f"system {system.name}: {option}{path}"
            pairs[system.name] = _check_training(who, _training(path), conditions)
        trained = _training(Path(system.checkpoints[0])).options
        unknown = set(system.options) - GENERATION_OPTIONS - trained
        # fairseq ignores what it does not know: a misspelt option would be measured as if it were absent.
        if unknown:
            raise DataError(
                f"system {system.name}: neither fairseq's generation nor this checkpoint knows "
                f"'{min(unknown)}'"
            )
    if len(set(pairs.values())) > 1:
        found = ", ".join(f"{name} {'-'.join(pair)}" for name, pair in pairs.items())
        raise DataError(f"--system: all need the same languages, found {found}")


def _check_training(who: str, training: Training, conditions: Conditions) -> tuple[str, str]:
    """Whether a checkpoint can translate the data; returns the languages."""
    kind = TASK_REGISTRY.get(training.task)
    if kind is None or not issubclass(kind, TranslationTask):
        raise CheckpointError(f"{who}: was trained for --task {training.task}; needs a translation model")
    wanted = _languages(training, conditions)
    if None not in training.languages and training.languages != wanted:
        raise DataError(
            f"{who}: translates {'-'.join(map(str, training.languages))}, but is to translate "
            f"{'-'.join(wanted)}; check --source-lang and --target-lang"
        )
    for language in wanted:
        now, before = (folder / f"dict.{language}.txt" for folder in (conditions.data, training.data))
        if not now.is_file():
            raise DataError(f"{conditions.data}: has no {now.name}; is it what fairseq-preprocess wrote?")
        if before.is_file() and before.read_bytes() != now.read_bytes() and _symbols(before) != _symbols(now):
            raise CheckpointError(f"{who}: was trained with {before}, which has other symbols than {now}")
    return wanted


def _languages(training: Training, conditions: Conditions) -> tuple[str, str]:
    """Source and target language of what is to be translated."""
    given = (conditions.source_lang, conditions.target_lang)
    found = (None, None)
    if None in given and None in training.languages:
        found = data_utils.infer_language_pair(str(conditions.data))
    pair = [a or b or c for a, b, c in zip(given, training.languages, found, strict=True)]
    if not pair[0] or not pair[1]:
        raise DataError(
            f"{conditions.data}: its languages are not known; add --source-lang and --target-lang"
        )
    return pair[0], pair[1]


def _symbols(dictionary: Path) -> list[str]:
    return Dictionary.load(str(dictionary)).symbols


def _generation_options(system: System) -> DictConfig:
    chosen = {name: value for name, value in system.options.items() if name in GENERATION_OPTIONS}
    for name in UNSUPPORTED:
        if name in chosen:
            raise UsageError(f"system {system.name}: {name} is not supported in a comparison")
    try:
        return OmegaConf.structured(GenerationConfig(**chosen))
    except ValidationError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"system {system.name}: {reason} (generation: {chosen})") from None


class FairseqTranslator:
    """A `Translator` of fairseq checkpoints."""

    def __init__(self, system: System, conditions: Conditions) -> None:
        """Load the checkpoints and the subset; see `check_systems` for what is looked at before.

        Raises:
            DataError: a checkpoint or the subset is missing, or the data are of another kind.
            CheckpointError: a checkpoint cannot be read, or does not fit the data's dictionaries.
        """
        self.name, self.seed = system.name, conditions.seed
        self.cuda = conditions.uses_gpu
        options = _generation_options(system)
        system.require_files()
        task: Any = None
        self.models: list[Any] = []
        for path in system.checkpoints:
            model, config, task = self._load(path, system, conditions, task)
            with open_dict(config):
                config.generation = options
            model.to(DTYPES[conditions.precision])
            if self.cuda:
                model.cuda()
            model.eval()
            model.prepare_for_inference_(config)
            self.models.append(model)
        self.task, self.latent = task, hasattr(self.models[0], "quantizer")
        try:
            self.task.load_dataset(conditions.subset, task_cfg=config.task)
        except FileNotFoundError as error:
            raise DataError(f"--gen-subset {conditions.subset}: not in {conditions.data} ({error})") from None
        self.dataset = self.task.dataset(conditions.subset)
        self.lengths: list[int] = [int(size) for size in self.dataset.src_sizes]
        self._check_lengths(conditions)
        try:
            self.generator = self.task.build_generator(self.models, options)
        except UserError as error:
            raise type(error)(f"system {self.name}: {error}") from None

    def _load(
        self, path: str, system: System, conditions: Conditions, task: Any
    ) -> tuple[Any, DictConfig, Any]:
        """A model, its configuration and the task, which the first one makes."""
        training = {name: value for name, value in system.options.items() if name not in GENERATION_OPTIONS}
        # BLEU during validation would build one more generator, and a teacher may be gone.
        overrides = {"data": str(conditions.data), "eval_bleu": False, "init_from_teacher": None, **training}
        languages = {"source_lang": conditions.source_lang, "target_lang": conditions.target_lang}
        overrides |= {name: value for name, value in languages.items() if value is not None}
        state = checkpoint_utils.load_checkpoint_to_cpu(path, overrides)
        try:
            [model], config, task = checkpoint_utils.load_model_ensemble_and_task(
                [path], task=task, state=state
            )
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise CheckpointError(
                f"system {self.name}: {path}: does not fit the dictionaries in {conditions.data} ({reason})"
            ) from None
        except (AssertionError, KeyError) as error:
            raise CheckpointError(f"system {self.name}: {path}: cannot be rebuilt ({error})") from None
        return model, config, task

    def _check_lengths(self, conditions: Conditions) -> None:
        limits = utils.resolve_max_positions(
            self.task.max_positions(), *(model.max_positions() for model in self.models)
        )
        longest = limits[0] if isinstance(limits, tuple) else limits
        if not self.lengths:
            raise DataError(f"{conditions.data}: no sentences in '{conditions.subset}'")
        if longest is not None and max(self.lengths) > longest:
            raise DataError(
                f"system {self.name}: reads sources of {longest} tokens at most, but sentence "
                f"{self.lengths.index(max(self.lengths))} of '{conditions.subset}' has {max(self.lengths)}"
            )

    def decode(self, batch_size: int, tokenizer: str) -> list[str]:
        """The whole subset, translated and detokenised, in its order.

        Args:
            batch_size: sentences; those of similar length go together.
            tokenizer: fairseq's name of one, `moses` or `space`.

        Raises:
            DataError: a sentence cannot be translated.
        """
        languages = {name: getattr(self.task.cfg, name) for name in ("source_lang", "target_lang")}
        decoder = encoders.build_tokenizer(Namespace(tokenizer=tokenizer, **languages))
        utils.set_torch_seed(self.seed)
        # The batches of fairseq-generate.
        targets = self.dataset.tgt_sizes if self.dataset.tgt_sizes is not None else self.lengths
        order = sorted(range(len(self.lengths)), key=lambda i: (self.lengths[i], targets[i]))
        texts: list[str | None] = [None] * len(order)
        starts = range(0, len(order), batch_size)
        for start in tqdm(starts, desc=f"decode {self.name}", unit="batch", mininterval=1):
            batch = self.prepare(order[start : start + batch_size])
            for number, tokens in zip(batch["id"].tolist(), self._translated(batch), strict=True):
                text = self._text(tokens)
                texts[number] = text if decoder is None else decoder.decode(text)
        missing = [number for number, text in enumerate(texts) if text is None]
        if missing:
            raise DataError(f"system {self.name}: no translation of sentence {missing[0]}")
        return [text or "" for text in texts]

    def _translated(self, batch: dict[str, Any]) -> list[list[int]]:
        try:
            return self.translate(batch)
        except torch.OutOfMemoryError:
            raise DataError(
                f"system {self.name}: {batch['nsentences']} sentences do not fit into the GPU's memory; "
                "lower --batch-size"
            ) from None
        except AssertionError as error:
            raise DataError(
                f"system {self.name}: its search ended without a translation (fairseq: {error})"
            ) from None

    def _text(self, tokens: Sequence[int]) -> str:
        dictionary = self.task.target_dictionary
        special = {dictionary.eos(), dictionary.pad()}
        kept = torch.tensor([token for token in tokens if token not in special], dtype=torch.int64)
        return dictionary.string(kept, "@@ ")

    def prepare(self, sentences: Sequence[int]) -> dict[str, Any]:
        """The batch of these sentences of the subset, on the host."""
        batch = self.dataset.collater([self.dataset[number] for number in sentences])
        # The source alone, as for text without a translation.
        source = {name: batch["net_input"][name] for name in ("src_tokens", "src_lengths")}
        return {"id": batch["id"], "nsentences": len(sentences), "target": None, "net_input": source}

    def translate(self, batch: dict[str, Any]) -> list[list[int]]:
        """Token ids of the best hypothesis of each sentence, on the host, in the order of `batch["id"]`."""
        sample = utils.move_to_cuda(batch) if self.cuda else batch
        hypotheses = self.task.inference_step(self.generator, self.models, sample)
        return [candidates[0]["tokens"].tolist() for candidates in hypotheses]

    def synchronize(self) -> None:
        """Wait until the device is idle."""
        if self.cuda:
            torch.cuda.synchronize()
