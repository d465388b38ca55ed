"""What every model with a discrete bottleneck shares: its options, its quantiser, and the codebook's life."""

from dataclasses import dataclass

import torch
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.models import BaseFairseqModel
from torch import Tensor

from ..bottleneck import Quantizer, QuantizerOutput, Settings, build, kinds, perplexity, usage
from ..bottleneck.assignment import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE
from ..errors import UsageError
from ..options import MOST_CODES, MOST_WIDTH, option, require


@dataclass
class BottleneckConfig(FairseqDataclass):
    """Options of the bottleneck, the same for text and images."""

    # Any that is registered, by a plugin of the user's as well, which may be imported later.
    bottleneck: str = option(
        "em",
        "kind of quantiser: " + "; ".join(f"'{name}', {summary}" for name, summary in kinds().items()),
    )
    codebook_size: int = option(4096, "number of codes (K)", least=1, most=MOST_CODES)
    code_dim: int = option(0, "width of a code vector; 0: the width of the model", least=0, most=MOST_WIDTH)
    em_samples: int = option(
        10,
        "codes drawn from the posterior of each latent (m), with --bottleneck em",
        least=1,
        most=MOST_WIDTH,
    )
    em_temperature: float = option(
        1.0,
        "temperature of the posterior; larger is softer. Watch 'posterior_entropy' and 'distinct_codes'",
        least=LOWEST_TEMPERATURE,
        most=HIGHEST_TEMPERATURE,
    )
    em_hard_from: int = option(
        0,
        "update from which training takes nearest codes only, as decoding does, after a soft start; 0: never",
        least=0,
    )
    gumbel_temperature: float = option(
        1.0,
        "temperature of the relaxed draw whose gradient is used, with --bottleneck gumbel",
        least=LOWEST_TEMPERATURE,
        most=HIGHEST_TEMPERATURE,
    )
    em_decay: float = option(
        0.999, "decay of the codes' moving averages, one M step an update (lambda)", least=0, below=1
    )
    em_epsilon: float = option(1e-5, "Laplace smoothing of the codes' counts", above=0)
    commitment_weight: float = option(
        0.25,
        "weight of the commitment loss (beta), or with --bottleneck gumbel of the divergence from a uniform "
        "prior",
        least=0,
    )
    codebook_init: ChoiceEnum(["data", "random"]) = option(  # type: ignore[valid-type]
        "data",
        "start of the codebook: K-means of encoder outputs ('data'), or random vectors with zero counts as "
        "in the paper's reference code ('random')",
    )
    code_revival: float = option(
        0.1,
        "replace a code by an encoder output when its average count falls under this share of the mean "
        "count; 0: never",
        least=0,
        below=1,
    )
    code_revival_until: int = option(0, "last update at which codes are replaced; 0: no end", least=0)
    unquantized_updates: int = option(
        200,
        "updates that train the autoencoder without the bottleneck, at the start; with --codebook-init data "
        "at least one, since the codes start from the last of them",
        least=0,
    )

    def check(self) -> None:
        """Raise `UsageError` for options that do not go together, or a kind that is not registered."""
        require(
            self,
            "bottleneck",
            self.bottleneck in kinds(),
            f"one of {', '.join(kinds())}, or --user-dir for one of your own",
        )


def quantizer_settings(config: BottleneckConfig, code_dim: int, divergence_scale: float = 1.0) -> Settings:
    """The options as a quantiser is built from them.

    Args:
        config: options, checked.
        code_dim: width of a vector.
        divergence_scale: see `Settings`.
    """
    return Settings(
        codebook_size=config.codebook_size,
        dim=code_dim,
        samples=config.em_samples,
        temperature=config.em_temperature,
        decay=config.em_decay,
        epsilon=config.em_epsilon,
        commitment_weight=config.commitment_weight,
        init=str(config.codebook_init),
        revival_threshold=config.code_revival,
        revival_until=config.code_revival_until,
        hard_from=config.em_hard_from,
        relaxation=config.gumbel_temperature,
        divergence_scale=divergence_scale,
    )


class QuantizedModel(BaseFairseqModel):
    """A model whose latents pass through a codebook, after a start without it.

    An `EMTask` drives it: `update_codebook` once an optimizer step, `discard_statistics` for a step that was
    left out.

    Attributes:
        config: its options.
        quantizer: the bottleneck.
        num_updates: updates so far.
        started: 0-d int64, whether the updates without the bottleneck are over: 0 or 1.
    """

    config: BottleneckConfig
    quantizer: Quantizer
    started: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.num_updates = 0
        # An integer: averages leave it alone.
        self.register_buffer("started", torch.zeros((), dtype=torch.int64))
        # Latent vectors that the codebook is about to start from.
        self._first_latents: list[Tensor] = []

    def build_quantizer(self, code_dim: int, divergence_scale: float = 1.0) -> Quantizer:
        """The bottleneck that the options ask for; see `quantizer_settings`.

        Raises:
            UsageError: its kind cannot be had with these options.
        """
        self._settings = quantizer_settings(self.config, code_dim, divergence_scale)
        self.started.fill_(self.config.unquantized_updates == 0)
        try:
            quantizer = build(str(self.config.bottleneck), self._settings)
        except ValueError as error:
            flag = str(error).replace("codebook_size is", "--codebook-size is")
            raise UsageError(f"--bottleneck {self.config.bottleneck}: {flag}") from None
        # An update may have any number of batches, and an `EMTask` forgets no M step.
        quantizer.expects_m_steps = False
        return quantizer

    def set_num_updates(self, num_updates: int) -> None:
        """Tell the model the number of updates so far: schedules depend on it."""
        super().set_num_updates(num_updates)
        self.num_updates = num_updates
        self.quantizer.schedule(self._settings, num_updates)

    def upgrade_state_dict_named(self, state_dict: dict[str, Tensor], name: str) -> None:
        """Called by fairseq before a state is loaded: one of an earlier version is taken to use its codes."""
        super().upgrade_state_dict_named(state_dict, name)
        prefix = f"{name}." if name else ""
        state_dict.setdefault(f"{prefix}started", torch.ones((), dtype=torch.int64))
        self.quantizer.upgrade_state(state_dict, f"{prefix}quantizer.")

    @property
    def quantized(self) -> bool:
        """Whether latents pass through the codebook: not before the updates without it are over.

        Codes that start from data do so at the end of these updates. Where a model is trained further,
        fairseq counts its updates anew, but its codes are there.
        """
        if self.quantizer.starts_from_data:
            return self.quantizer.initialized
        return self.num_updates >= self.config.unquantized_updates or bool(self.started)

    def comparable(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of a batch; in evaluation infinite ones where codes are not in use yet.

        What an autoencoder without a bottleneck reaches would be the best of a training for ever.
        """
        if self.training or self.quantized:
            return losses
        return {name: torch.full_like(value, torch.inf) for name, value in losses.items()}

    @property
    def _codebook_starts(self) -> bool:
        """Whether the codebook has its start at the end of this update."""
        return not self.quantizer.initialized and self.num_updates + 1 >= self.config.unquantized_updates

    def bottleneck(self, z: Tensor, mask: Tensor | None, accumulate: bool) -> QuantizerOutput | None:
        """Quantise latent vectors; None while the autoencoder still trains without the codebook.

        Those of the last such update are kept, whatever the number of its batches: the codebook starts from
        them when `update_codebook` is called.
        """
        if self.training and accumulate and self._codebook_starts:
            self._first_latents.append(z.detach().flatten(0, -2) if mask is None else z.detach()[mask])
        return self.quantizer(z, mask, accumulate=accumulate) if self.quantized else None

    def latents(self, z: Tensor, out: QuantizerOutput | None) -> Tensor:
        """What goes on to the decoder: `out.quantized`, or z itself where there is no bottleneck yet.

        Codes that are trained by gradients then have gradients of 0, as several processes and half precision
        would give them: with none at all an optimizer would count their steps anew from their first use.
        """
        if out is not None:
            return out.quantized
        idle = [each.float().sum() for each in self.quantizer.parameters()] if self.training else []
        return z + (0.0 * torch.stack(idle).sum()).to(z.dtype) if idle else z

    def codebook_metrics(self, out: QuantizerOutput) -> dict[str, Tensor]:
        """What the quantiser says of a batch and, in training, of the epoch so far."""
        metrics = dict(out.metrics)
        if self.quantizer.training:
            metrics["epoch_usage"] = usage(self.quantizer.histogram)
            metrics["epoch_perplexity"] = perplexity(self.quantizer.histogram)
            metrics["revived"] = self.quantizer.revived
        return metrics

    def update_codebook(self) -> None:
        """The codebook's start or its M step, once per optimizer step (collective over ranks)."""
        if self._codebook_starts:
            none = self.quantizer.codebook[:0]
            self.quantizer.initialize_codebook(torch.cat([none, *self._first_latents]))
            self._first_latents.clear()
        self.quantizer.update_codebook()
        if self.num_updates + 1 >= self.config.unquantized_updates:
            self.started.fill_(1)

    def discard_statistics(self) -> None:
        """Drop what `update_codebook` would use: for an update that was skipped or failed."""
        self._first_latents.clear()
        self.quantizer.discard()
