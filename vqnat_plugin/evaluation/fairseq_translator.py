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

from ..errors import DataError, UsageError, UserError
from ..fairseq_options import check_generation
from ..machine import available_device
from ..models.checkpoints import TRANSLATION, Checkpoint
from .subset_translator import SubsetTranslator
from .systems import Conditions, System

GENERATION_OPTIONS = {field.name for field in dataclasses.fields(GenerationConfig)}
# What fairseq-generate itself does with them, around its generator, is not done here.
UNSUPPORTED = ("constraints", "lm_path", "lm_weight", "prefix_size", "replace_unk", "score_reference")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def check(
    systems: Sequence[System], data: Path, languages: tuple[str | None, str | None]
) -> tuple[str | None, str | None]:
    """See `kinds`; builds no model."""
    # Systems share large files.
    known: dict[Path, Checkpoint] = {}
    for system in systems:
        _generation_options(system)
        for option, path in system.files():
            who = f"system {system.name}: {option}{': ' * bool(option)}{path}"
            if path not in known:
                known[path] = Checkpoint(path, TRANSLATION, who, weights=False)
            languages = known[path].check_data(data, languages)
        trained = known[Path(system.checkpoints[0])].config
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
        options = OmegaConf.structured(GenerationConfig(**chosen))
    except ValidationError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"system {system.name}: {reason} (generation: {chosen})") from None
    check_generation(f"system {system.name}", {name: options[name] for name in chosen})
    return options


class FairseqTranslator(SubsetTranslator):
    """Checkpoints that are loaded."""

    def __init__(self, system: System, conditions: Conditions, threads: int = 0) -> None:
        """Load the checkpoints and the subset; the threads are torch's.

        Raises:
            DataError: the subset is missing, empty, or of longer sentences than the model reads.
            CheckpointError: a checkpoint cannot be read, or does not fit the data's dictionaries.
        """
        self.seed = conditions.seed
        self.gpu = available_device(conditions.cpu).type == "cuda"
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
            if self.gpu:
                model.cuda()
            model.prepare_for_inference_(config)
            self.models.append(model)
        self.latent = hasattr(self.models[0], "quantizer")
        super().__init__(system, conditions, task, conditions.precision)
        limits = (task.max_positions(), *(model.max_positions() for model in self.models))
        self.require_length(utils.resolve_max_positions(*limits)[0])
        try:
            self.generator = task.build_generator(self.models, options)
        except UserError as error:
            raise type(error)(f"system {self.name}: {error}") from None

    def decode(self, batch_size: int, text: Callable[[Tensor], str]) -> list[str]:
        """See `SubsetTranslator`; what is sampled depends on the seed alone."""
        utils.set_torch_seed(self.seed)
        return super().decode(batch_size, text)

    def translated(self, sentences: Sequence[int]) -> list[list[int]]:
        """See `SubsetTranslator`."""
        batch = self.prepare(sentences)
        try:
            found = self.translate(batch)
        except torch.OutOfMemoryError:
            raise DataError(
                f"system {self.name}: {len(sentences)} sentences do not fit into the GPU's memory; lower "
                "--batch-size"
            ) from None
        except AssertionError as error:
            raise DataError(
                f"system {self.name}: its search ended without a translation (fairseq: {error})"
            ) from None
        by_number = dict(zip(batch["id"].tolist(), found, strict=True))
        return [by_number[number] for number in sentences]

    def prepare(self, sentences: Sequence[int]) -> dict[str, Any]:
        """The batch of these sentences of the subset, on the host; in fairseq's order, see its `id`."""
        batch = self.dataset.collater([self.dataset[number] for number in sentences])
        # The source alone, as for text without a translation.
        source = {name: batch["net_input"][name] for name in ("src_tokens", "src_lengths")}
        return {"id": batch["id"], "nsentences": len(sentences), "target": None, "net_input": source}

    def translate(self, batch: dict[str, Any]) -> list[list[int]]:
        """Token ids of the best hypothesis of each sentence, on the host, in the order of `batch["id"]`."""
        sample = utils.move_to_cuda(batch) if self.gpu else batch
        found = [every[0] for every in self.task.inference_step(self.generator, self.models, sample)]
        self.passes += [best["passes"] for best in found if "passes" in best]
        return [best["tokens"].tolist() for best in found]

    def synchronize(self) -> None:
        """Wait until the device is idle."""
        if self.gpu:
            torch.cuda.synchronize()


load = FairseqTranslator
