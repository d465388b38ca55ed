"""A system made of fairseq checkpoints, decoded through their own task as `fairseq-generate` does."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from fairseq import utils
from fairseq.dataclass.configs import GenerationConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ValidationError
from torch import Tensor
from tqdm import tqdm

from ..errors import DataError, UsageError, UserError
from ..machine import available_device
from ..models.checkpoints import TRANSLATION, Checkpoint
from .systems import Conditions, System

GENERATION_OPTIONS = {field.name for field in dataclasses.fields(GenerationConfig)}
# What fairseq-generate itself does with them, around its generator, is not done here.
UNSUPPORTED = ("constraints", "lm_path", "lm_weight", "prefix_size", "replace_unk", "score_reference")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def check_systems(systems: Sequence[System], conditions: Conditions) -> tuple[str | None, str | None]:
    """See, without building a model, whether systems can be what they are declared as.

    Returns:
        The languages of source and target.

    Raises:
        DataError: a file is missing, an option unknown or of another type, or the data of other languages.
        CheckpointError: a checkpoint cannot be read, is no translation model, or has other dictionaries.
    """
    # Systems share large files.
    known: dict[Path, Checkpoint] = {}
    languages: tuple[str | None, str | None] = (conditions.source_lang, conditions.target_lang)
    for system in systems:
        system.require_files()
        _generation_options(system)
        for number, path in enumerate(system.paths()):
            option = "" if number < len(system.checkpoints) else "rescore_with: "
            who = f"system {system.name}: {option}{path}"
            if path not in known:
                known[path] = Checkpoint(path, TRANSLATION, who, weights=False)
            languages = known[path].check_data(conditions.data, languages)
        trained = known[system.paths()[0]].config
        # fairseq ignores what it does not know: a misspelt option would be measured as if it were absent.
        for name in sorted(set(system.options) - GENERATION_OPTIONS):
            if name not in trained.task and name not in (trained.model or ()):
                raise DataError(
                    f"system {system.name}: neither fairseq's generation nor this checkpoint knows '{name}'"
                )
    return languages


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
    """A system that is loaded.

    Attributes:
        name: of the system.
        lengths: source tokens of each sentence of the subset.
        latent: whether it decodes through discrete latents.
    """

    def __init__(self, system: System, conditions: Conditions) -> None:
        """Load the checkpoints and the subset; see `check_systems` for what is looked at before.

        Raises:
            DataError: the subset is missing, empty, or of longer sentences than the model reads.
            CheckpointError: a checkpoint cannot be read, or does not fit the data's dictionaries.
        """
        self.name, self.seed = system.name, conditions.seed
        self.cuda = available_device(conditions.cpu).type == "cuda"
        options = _generation_options(system)
        languages = {"source_lang": conditions.source_lang, "target_lang": conditions.target_lang}
        overrides = {k: v for k, v in system.options.items() if k not in GENERATION_OPTIONS}
        overrides |= {name: value for name, value in languages.items() if value is not None}
        overrides["data"] = str(conditions.data)
        task: Any = None
        self.models: list[Any] = []
        for path in system.checkpoints:
            checkpoint = Checkpoint(Path(path), who=f"system {system.name}: {path}")
            model, config, task = checkpoint.build(task, **overrides)
            with open_dict(config):
                config.generation = options
            model.to(DTYPES[conditions.precision])
            if self.cuda:
                model.cuda()
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

    def _check_lengths(self, conditions: Conditions) -> None:
        limits = (self.task.max_positions(), *(model.max_positions() for model in self.models))
        longest, _ = utils.resolve_max_positions(*limits)
        if not self.lengths:
            raise DataError(f"{conditions.data}: no sentences in '{conditions.subset}'")
        if longest is not None and max(self.lengths) > longest:
            raise DataError(
                f"system {self.name}: reads sources of {longest} tokens at most, but sentence "
                f"{self.lengths.index(max(self.lengths))} of '{conditions.subset}' has {max(self.lengths)}"
            )

    def decode(self, batch_size: int, text: Callable[[Tensor], str]) -> list[str]:
        """The whole subset, translated and detokenised, in its order.

        Args:
            batch_size: sentences; those of similar length go together.
            text: makes text of token ids, see `Detokenizer`.

        Raises:
            DataError: a sentence cannot be translated.
        """
        utils.set_torch_seed(self.seed)
        # The batches of fairseq-generate.
        targets = self.dataset.tgt_sizes if self.dataset.tgt_sizes is not None else self.lengths
        order = sorted(range(len(self.lengths)), key=lambda i: (self.lengths[i], targets[i]))
        texts = [""] * len(order)
        starts = range(0, len(order), batch_size)
        for start in tqdm(starts, desc=f"decode {self.name}", unit="batch", mininterval=1):
            batch = self.prepare(order[start : start + batch_size])
            for number, tokens in zip(batch["id"].tolist(), self._translated(batch), strict=True):
                texts[number] = text(torch.tensor(tokens))
        return texts

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
