"""The translation task of the latent model: M steps in training, latent decoding, two BLEU scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Optional

import torch
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from torch import nn

from ..errors import UsageError
from ..generation.latent_generator import LatentGenerator, Reconstruction
from ..generation.rescoring import load_rescorer
from ..models.vq_nat import VQNAT
from ..models.warm_start import start_from_teacher
from ..options import option
from .bleu_metrics import bleu_statistics, log_bleu
from .em_task import EMTask


@dataclass
class TranslationVQConfig(TranslationConfig):
    """fairseq's translation options and those of latent decoding."""

    rescore_with: Optional[str] = option(  # noqa: UP045 (fairseq reads this annotation)
        None,
        "decoding: rank the candidates by this autoregressive Transformer (for example the distillation "
        "teacher) instead of the model's own score; checkpoints joined by ':' are an ensemble",
    )
    verify_with: Optional[str] = option(  # noqa: UP045 (fairseq reads this annotation)
        None,
        "decoding: let this autoregressive Transformer check the best translation and put its own "
        "sub-words where they differ: the result is its greedy translation",
    )
    verify_tolerance: float = option(
        0.0,
        "decoding: with --verify-with, let a sub-word pass when its log-probability is at most so far below "
        "that of the best one, nats",
        least=0,
    )


@register_task("translation_vq", dataclass=TranslationVQConfig)
class TranslationVQTask(EMTask, TranslationTask):
    """Translation with `--arch vq_nat_em` and `--criterion vq_nat_loss`."""

    drives_vq_nat = True
    names = ("translation_vq", "vq_nat_loss")
    cfg: TranslationVQConfig

    @classmethod
    def setup_task(cls, cfg: TranslationVQConfig, **kwargs: Any) -> "TranslationVQTask":
        """Load the dictionaries.

        Raises:
            UsageError: an option that this task cannot serve.
        """
        if cfg.left_pad_target:
            raise UsageError("--left-pad-target: needs False, latents are counted from the first word")
        return super().setup_task(cfg, **kwargs)

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> nn.Module:
        """Build the model; in training it may start from the teacher.

        Raises:
            UsageError: the task cannot drive the architecture.
            UserError: see `start_from_teacher`.
        """
        name = cfg._name
        if not issubclass(ARCH_MODEL_REGISTRY.get(name, object), VQNAT):
            raise UsageError(
                f"--task translation_vq cannot drive --arch {name}: use --task translation, or add "
                "--arch vq_nat_em"
            )
        model = super().build_model(cfg, from_checkpoint)
        if model.config.init_from_teacher and not from_checkpoint:
            start_from_teacher(model, model.config.init_from_teacher, self.cfg)
        return model

    def valid_step(self, sample: dict[str, Any], model: nn.Module, criterion: nn.Module) -> Any:
        """Losses and, with `--eval-bleu`, statistics of end-to-end and of reconstruction BLEU."""
        loss, sample_size, log = super().valid_step(sample, model, criterion)
        if self.cfg.eval_bleu:
            bleu = self._inference_with_bleu(Reconstruction(self.sequence_generator), sample, model)
            log.update(bleu_statistics("reconstruction_bleu", bleu))
        return loss, sample_size, log

    def reduce_metrics(self, logging_outputs: list[dict[str, Any]], criterion: nn.Module) -> None:
        """Aggregate the logs of all workers."""
        super().reduce_metrics(logging_outputs, criterion)
        if self.cfg.eval_bleu:
            log_bleu("reconstruction_bleu", logging_outputs)

    def build_generator(
        self,
        models: Sequence[nn.Module],
        args: Any,
        seq_gen_cls: Any = None,
        extra_gen_cls_kwargs: Any = None,
        **_: Any,
    ) -> LatentGenerator:
        """What `fairseq-generate`, `fairseq-interactive` and `--eval-bleu` decode with."""
        paths = (self.cfg.rescore_with or "").split(":")
        rescorers = [self._teacher(path, models[0], "--rescore-with") for path in paths if path]
        path = self.cfg.verify_with
        verifier = self._teacher(path, models[0], "--verify-with") if path else None
        return LatentGenerator.from_options(
            models, args, self.target_dictionary, rescorers, verifier, self.cfg.verify_tolerance
        )

    def _teacher(self, path: str, model: nn.Module, flag: str) -> nn.Module:
        """A model that ranks or checks; read once, since some callers build a generator for each batch."""
        first = next(model.parameters())
        key = path, first.device, first.dtype
        if key not in self._teachers:
            self._teachers[key] = load_rescorer(Path(path), model, self, flag)
        return self._teachers[key]

    @cached_property
    def _teachers(self) -> dict[Any, nn.Module]:
        return {}

    def inference_step(
        self,
        generator: LatentGenerator,
        models: Sequence[nn.Module],
        sample: dict[str, Any],
        prefix_tokens: Any = None,
        constraints: Any = None,
    ) -> list[list[dict[str, torch.Tensor]]]:
        """Translate one batch; hypotheses of a sentence, best first, with the same words once.

        Raises:
            UsageError: there are constraints.
        """
        if constraints is not None:
            raise UsageError("--constraints: not supported, all words are written at once")
        found = generator.generate(models, sample, prefix_tokens=prefix_tokens)
        return [_distinct(hypotheses) for hypotheses in found]


def _distinct(hypotheses: Sequence[dict[str, torch.Tensor]]) -> list[dict[str, torch.Tensor]]:
    """The first of all that say the same: other codes may say the same words."""
    found: dict[tuple[int, ...], dict[str, torch.Tensor]] = {}
    for each in hypotheses:
        found.setdefault(tuple(each["tokens"].tolist()), each)
    return [*found.values()]
