"""What makes torch faster in training on a CPU, without a change to what is learnt."""

import functools
import math
import platform
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.adamw import adamw

_torch_dropout = F.dropout


def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`torch.nn.functional.dropout` with four decisions out of each 64-bit random number.

    torch draws one number an element on a CPU, which takes a quarter of a training step. 16 bits an
    element fix the probability to 1/65536.

    Raises:
        ValueError: p is not a probability.
    """
    if x.device.type != "cpu" or not training or inplace or p in (0.0, 1.0):
        return _torch_dropout(x, p, training, inplace)
    if not 0.0 < p < 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    count = x.numel()
    bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    # Written as floats: torch is slow in everything that mixes booleans and floats.
    keep = torch.empty(count, dtype=x.dtype)
    torch.ge(bits.view(torch.int16)[:count], round(p * 65536) - 32768, out=keep)
    return x * keep.mul_(1 / (1 - p)).view(x.shape)


def with_fused_step(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step of fairseq's Adam by torch's fused kernel: one pass over the weights instead of ten.

    Its state is fairseq's own, so that a training goes on from any checkpoint, and with either of them.
    """

    @torch.no_grad()
    def fused_step(self: Any, closure: Callable[[], Any] | None = None) -> Any:
        groups = self.param_groups
        plain = all(p.dtype == torch.float32 and p.device.type == "cpu" for g in groups for p in g["params"])
        if closure is not None or not plain or any(group["amsgrad"] for group in groups):
            return step(self, closure)
        for group in groups:
            _fused_step(group, self.state)
        return None

    return fused_step


def _fused_step(group: dict[str, Any], state: dict[Tensor, dict[str, Any]]) -> None:
    by_age: dict[int, list[Tensor]] = defaultdict(list)
    for p in group["params"]:
        if p.grad is not None:
            if not state[p]:
                state[p] = {"step": 0, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            by_age[state[p]["step"]].append(p)
    beta1, beta2 = group["betas"]
    for age, params in by_age.items():
        states = [state[p] for p in params]
        adamw(
            params,
            [p.grad for p in params if p.grad is not None],
            [own["exp_avg"] for own in states],
            [own["exp_avg_sq"] for own in states],
            [],
            [torch.tensor(float(age)) for _ in params],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            # fairseq adds it to a root that is not yet corrected for the start at zero, torch afterwards.
            eps=group["eps"] / math.sqrt(1 - beta2 ** (age + 1)),
            maximize=False,
        )
        for own in states:
            own["step"] = age + 1


@functools.cache
def has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16. Others emulate it, up to a hundred times slower than fp32."""
    if platform.machine() in ("x86_64", "AMD64"):
        if hasattr(torch.cpu, "get_capabilities"):
            capabilities = torch.cpu.get_capabilities()
            return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))
        # An older torch; what it has no name for, it does not use either.
        names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        return any(getattr(torch.cpu, name, bool)() for name in names)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def use_fast_kernels() -> None:
    """Switch this process to the above, and to explicit attention.

    The backward pass of the fused attention kernel is several times slower on a CPU under a mask.
    """
    from fairseq.optim.adam import Adam

    torch.backends.cuda.enable_flash_sdp(False)
    F.dropout = dropout  # type: ignore[assignment]
    Adam.step = with_fused_step(Adam.step)
