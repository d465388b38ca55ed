"""Convolutions computed as linear layers, against torch's own."""

import torch

from vqnat_plugin.modules.convolution import MaskedConv
from vqnat_plugin.modules.storage import store_by_input


def test_convolution_equals_torch_however_its_weight_is_stored() -> None:
    torch.manual_seed(0)
    layer, x = MaskedConv(6), torch.randn(3, 5, 6)
    mask = torch.arange(5) < torch.tensor([[5], [1], [3]])
    expected = layer.conv((x * mask[..., None]).transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(layer(x, mask), expected)
    weight = layer.conv.weight.clone()
    store_by_input(layer)
    assert torch.equal(layer.conv.weight, weight)
    # All three taps of all inputs, with outputs side by side: seen as a linear layer without a copy.
    as_linear = layer.conv.weight.transpose(1, 2).flatten(1)
    assert as_linear.data_ptr() == layer.conv.weight.data_ptr() and as_linear.stride() == (1, 6)
    torch.testing.assert_close(layer(x, mask), expected)
