"""How weights lie in memory, which changes no number of a model."""

import torch
from torch import nn


@torch.no_grad()
def store_by_input(model: nn.Module) -> None:
    """Store the weights of linear layers and convolutions with all outputs of an input side by side.

    A CPU multiplies a few positions, as in decoding one sentence, by such weights faster.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d):
            weight = module.weight.data
            reverse = tuple(reversed(range(weight.dim())))
            module.weight.data = weight.permute(reverse).contiguous().permute(reverse)
