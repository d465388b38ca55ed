"""What models may ask of any quantiser, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .output import QuantizerOutput

LAYOUTS = ("last", "first")


class Quantizer(nn.Module):
    """The protocol of quantisers, with what does nothing for most kinds.

    A kind defines `quantize`, `lookup` and `codebook`, and in training adds to `histogram` in `quantize`
    when `accumulate` is true. Layout, masks and lengths are dealt with here. `register` gives it a name.

    Attributes:
        codebook_size: number of codes K. dim: size of a vector.
        channels: where z has its vectors: "last" (..., dim), "first" (batch, dim, ...), or None: last, and
            z with four dimensions or more is refused when either place could be meant.
        codebook: (codebook_size, dim), the code vectors.
        starts_from_data: whether codes want `initialize_codebook` before their first use.
        expects_m_steps: whether to warn of many batches without an M step, where a kind has one.
        histogram: how often each code was taken in training since `reset_histogram`, fp64: with EM in all M
            steps and over all ranks, else in all forwards of this process; under DDP, which hands out the
            first rank's buffers, with broadcast_buffers=False. Not saved.
        revived: 0-d int64, how many codes were replaced since `reset_histogram`. Not saved.
    """

    codebook_size: int
    dim: int
    channels: str | None
    starts_from_data: bool = False
    expects_m_steps: bool = True
    codebook: Tensor
    histogram: Tensor
    revived: Tensor

    def __init__(self, codebook_size: int, dim: int, channels: str | None = None) -> None:
        super().__init__()
        require_integer("codebook_size", codebook_size)
        require_integer("dim", dim)
        require(channels in (None, *LAYOUTS), "channels", channels, "'last', 'first' or None")
        self.codebook_size, self.dim, self.channels = int(codebook_size), int(dim), channels
        # Some put together those of their parts.
        if not isinstance(getattr(type(self), "histogram", None), property):
            self.make_histogram()

    def make_histogram(self, *shape: int) -> None:
        """Makes `histogram` and `revived` anew; without a shape, as at first, of one codebook."""
        counts = torch.zeros(shape or (self.codebook_size,), dtype=torch.float64)
        self.register_buffer("histogram", counts, persistent=False)
        self.register_buffer("revived", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(
        self,
        z: Tensor,
        mask: Tensor | None = None,
        accumulate: bool = True,
        *,
        lengths: Tensor | None = None,
    ) -> QuantizerOutput:
        """Quantises z; in training also counts it.

        Padding has code 0, which is a code as well: `codes.masked_fill(~mask, -1)` where it must not count;
        with several codebooks `~mask[..., None]`.

        Args:
            z: (..., dim), or (batch, dim, ...) with channels first; any floating type. What stands at padded
                positions never matters, not even NaN.
            mask: (...) bool, z's shape without the vectors, true where valid; None for all.
            accumulate: False leaves all state untouched: for dummy batches. In `torch.inference_mode` it is
                always untouched, unless compiled: say False there, or `eval()`. Inside of what `torch.func`
                differentiates False is needed: what is kept there could not be used outside of it either.
            lengths: (batch,) integers instead of a mask, for z of three dimensions: so many positions are
                valid, at the start of each sequence.

        Raises:
            ValueError: z, mask or lengths has a wrong shape or type.
        """
        z, mask = self.positions(z, mask, lengths)
        if not torch.compiler.is_compiling() and torch.is_inference_mode_enabled():
            # Nothing that is seen there could be used outside of it.
            accumulate = False
        out = self.quantize(z, mask, accumulate)
        if not out._codebook_size:
            out._codebook_size, out._mask = self.codebook_size, mask
        if self.channels == "first":
            out.quantized = out.quantized.movedim(-1, 1)
        return out

    def encode(self, z: Tensor, mask: Tensor | None = None, *, lengths: Tensor | None = None) -> Tensor:
        """The codes of z alone, as in evaluation: arguments and shapes of `forward`; no state is touched."""
        training = self.training
        try:
            # Not `train`, which would reach the layers that come before and behind codes.
            self.training = False
            with torch.no_grad():
                return self.forward(z, mask, accumulate=False, lengths=lengths).codes
        finally:
            self.training = training

    def quantize(self, z: Tensor, mask: Tensor | None, accumulate: bool) -> QuantizerOutput:
        """`forward` for z (..., dim) and mask (...), both checked."""
        raise NotImplementedError

    def lookup(self, codes: Tensor) -> Tensor:
        """Code vectors: codes (...) to (..., dim), channels last whatever the layout of z."""
        raise NotImplementedError

    @property
    def initialized(self) -> bool:
        """Whether codes have had their start; only some kinds want one."""
        return True

    def initialize_codebook(
        self,
        z: Tensor,
        mask: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
        batches: int = 1,
        lloyd_steps: int = 10,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        """Starts the codes from z, where a kind wants that; see `EMCodebook`."""

    def update_codebook(self, group: dist.ProcessGroup | None = None) -> bool | Tensor:
        """The M step, where a kind has one, over the ranks of `group`; whether the codebook was updated."""
        return False

    def discard(self) -> None:
        """Drops what was accumulated since the last M step: for a skipped optimizer step."""

    def upgrade_state(self, state: dict[str, Any], prefix: str = "") -> None:
        """Adds what a state of an earlier version lacks; its names begin with `prefix`."""

    def schedule(self, settings: Any, update: int) -> None:
        """Follows the `Settings` that change with the number of updates so far."""

    def reset_histogram(self) -> None:
        """Starts a new epoch of `histogram` and `revived`."""
        self.histogram.zero_()
        self.revived.zero_()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Quantizer:
        """Moves to another device, but statistics keep their type: `.half()` must not round them."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, old in before.items():
            new = self._buffers[name]
            if old is None or new is None:
                continue
            if new.dtype != old.dtype and self.keeps_type(name):
                self._buffers[name] = old.to(new.device)
            elif old.is_meta and not new.is_meta and name in self._non_persistent_buffers_set:
                # `to_empty`: no state that is loaded fills it.
                new.zero_()
        return self

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]
        before = {name: buffer.dtype for name, buffer in self._buffers.items() if buffer is not None}
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        # Its layers are loaded after it.
        coming = [each for name, each in state_dict.items() if name.startswith(prefix)]
        stored = [each for each in (*self.parameters(), *self.buffers(), *coming) if not each.is_meta]
        place = stored[0].device if stored else torch.device("cpu")
        for name, dtype in before.items():
            buffer = self._buffers[name]
            assert buffer is not None
            # With assign=True: of the type of the file, and on no device what is in no file.
            if buffer.dtype != dtype and self.keeps_type(name):
                self._buffers[name] = buffer.to(dtype)
            elif buffer.is_meta and name in self._non_persistent_buffers_set:
                self._buffers[name] = torch.zeros_like(buffer, device=place)

    def keeps_type(self, name: str) -> bool:
        """Whether a buffer has one type whatever that of the model is."""
        return name == "histogram"

    def positions(
        self, z: Tensor, mask: Tensor | None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """z with its vectors last and the mask of its positions, both checked."""
        place, least = (1, 2) if self.channels == "first" else (-1, 1)
        layout = f"(batch, {self.dim}, ...)" if place == 1 else f"(..., {self.dim})"
        found = f"z is {z.dtype} of shape {tuple(z.shape)}"
        if not z.is_floating_point() or z.dim() < least or z.shape[place] != self.dim:
            hint = ""
            if self.channels != "first" and z.dim() >= 3 and z.shape[1] == self.dim:
                hint = "; for images (batch, dim, height, width) say channels='first'"
            raise ValueError(f"{found}, must be floats {layout}{hint}")
        if self.channels is None and z.dim() >= 4 and z.shape[1] == self.dim:
            raise ValueError(
                f"{found}: vectors in dimension 1 or in the last? Say channels='first' or 'last'"
            )
        z = z.movedim(place, -1)
        if lengths is not None:
            if mask is not None:
                raise ValueError("mask and lengths are both given: one of them says what is valid")
            mask = mask_of_lengths(lengths, z)
        if mask is not None and (mask.dtype != torch.bool or mask.shape != z.shape[:-1]):
            raise ValueError(
                f"mask is {mask.dtype} of shape {tuple(mask.shape)}, must be torch.bool of shape"
                f" {tuple(z.shape[:-1])}, true where z is valid"
            )
        return z, mask


def is_recomputed() -> bool:
    """Whether a backward pass runs this forward once more, as activation checkpointing does."""
    if torch.compiler.is_compiling():
        return False
    # torch has no public name for it.
    backward = getattr(torch._C, "_current_graph_task_id", None)
    return backward is not None and backward() != -1


def mask_of_lengths(lengths: Tensor, z: Tensor) -> Tensor:
    """(batch, positions) bool, true in front of each length: z is (batch, positions, dim)."""
    if not isinstance(lengths, Tensor):
        raise ValueError(f"lengths is a {type(lengths).__name__}, must be a tensor of integers")
    if lengths.is_floating_point() or z.dim() != 3 or lengths.shape != z.shape[:1]:
        raise ValueError(
            f"lengths is {lengths.dtype} of shape {tuple(lengths.shape)}, must be integers, one for each"
            f" sequence of z; z has {tuple(z.shape[:-1])} positions (batch, positions)"
        )
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    # Elsewhere than on a CPU asking would wait for the device.
    if lengths.device.type == "cpu" and not recorded and type(lengths) is Tensor:
        odd = lengths[(lengths < 0) | (lengths > z.shape[1])]
        if odd.numel():
            raise ValueError(f"lengths has {int(odd[0])}, must be from 0 to z's {z.shape[1]} positions")
    return torch.arange(z.shape[1], device=z.device) < lengths.to(z.device)[:, None]


def check_columns(name: str, codes: Tensor, least: int, most: int) -> None:
    """Raises a ValueError unless the last dimension of codes is of a size in a range."""
    if codes.dim() == 0 or not least <= codes.shape[-1] <= most:
        size = f"{least}" if least == most else f"{least} to {most}"
        raise ValueError(f"{name} has shape {tuple(codes.shape)}, must be (..., {size})")


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raises a ValueError that names the argument, its value and what it must be."""
    if not condition:
        raise ValueError(f"{name} is {value!r}, must be {expected}")


def require_integer(name: str, value: object, least: int = 1) -> None:
    """Raises a ValueError unless `value` is an integer of at least `least`."""
    good = is_integer(value) and value >= least  # type: ignore[operator]
    require(good, name, value, f"an integer >= {least}")


def is_integer(value: object) -> bool:
    """Whether a value is a whole number of any type, numpy's included, and no truth."""
    return hasattr(value, "__index__") and not isinstance(value, bool)
