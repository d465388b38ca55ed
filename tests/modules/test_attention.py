"""Attention and Transformer layers against torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqnat_plugin.modules.attention import Attention, KeyValues, TransformerLayer, TransformerStack

DIM, HEADS = 12, 3


def torch_attention(attention: Attention, x: Tensor, memory: Tensor, **options: Tensor | None) -> Tensor:
    """The same by `torch.nn.functional.multi_head_attention_forward`."""
    projections = (attention.query, attention.key, attention.value)
    out, _ = F.multi_head_attention_forward(
        x.transpose(0, 1), memory.transpose(0, 1), memory.transpose(0, 1), DIM, HEADS,
        torch.cat([layer.weight for layer in projections]), torch.cat([layer.bias for layer in projections]),
        None, None, False, 0.0, attention.out.weight, attention.out.bias, training=False, need_weights=False,
        **options,
    )  # fmt: skip
    return out.transpose(0, 1)


def random_attention() -> Attention:
    attention = Attention(DIM, HEADS)
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.5)
    return attention.eval()


def some_mask(batch: int, positions: int) -> Tensor:
    """True for all but the last positions of some rows."""
    lengths = torch.randint(1, positions + 1, (batch, 1))
    return torch.arange(positions) < lengths


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


def test_attention_equals_torch() -> None:
    attention, x, memory, mask = (
        random_attention(),
        torch.randn(4, 5, DIM),
        torch.randn(4, 7, DIM),
        some_mask(4, 7),
    )
    assert not mask.all()
    out = attention(x, attention.project(memory), mask)
    torch.testing.assert_close(out, torch_attention(attention, x, memory, key_padding_mask=~mask))


def test_causal_attention_equals_torch() -> None:
    attention, x = random_attention(), torch.randn(4, 5, DIM)
    hidden = torch.ones(5, 5, dtype=torch.bool).triu(1)
    out = attention(x, attention.project(x), causal=True)
    torch.testing.assert_close(out, torch_attention(attention, x, x, attn_mask=hidden))


def test_rows_that_share_memory_equal_expanded_memory() -> None:
    attention, memory, mask = random_attention(), torch.randn(2, 7, DIM), some_mask(2, 7)
    x = torch.randn(6, 5, DIM)
    shared = attention(x, attention.project(memory), mask)
    expanded = attention(x, attention.project(memory.repeat_interleave(3, 0)), mask.repeat_interleave(3, 0))
    torch.testing.assert_close(shared, expanded)


def test_attention_weights_drop_out_in_training_only() -> None:
    attention = Attention(DIM, HEADS, dropout=0.5)
    x = torch.randn(2, 5, DIM)
    assert not torch.equal(attention(x, attention.project(x)), attention(x, attention.project(x)))
    attention.eval()
    torch.testing.assert_close(attention(x, attention.project(x)), torch_attention(attention, x, x))


def test_heads_have_to_divide_the_width() -> None:
    with pytest.raises(ValueError, match="5 attention heads do not divide dimension 12"):
        Attention(DIM, 5)


def test_keys_and_values_are_appended_and_selected() -> None:
    first, second = (KeyValues(*torch.randn(2, 3, 2, positions, 4)) for positions in (1, 2))
    both = first.append(second)
    assert torch.equal(both.keys, torch.cat([first.keys, second.keys], 2))
    chosen = both.select(torch.tensor([2, 0, 2]))
    assert torch.equal(chosen.values, both.values[[2, 0, 2]])


def copy_layer(ours: TransformerLayer, theirs: nn.Module) -> None:
    """Give torch's pre-norm layer our weights."""
    pairs = {"self_attn": ours.self_attention, "multihead_attn": ours.cross_attention}
    state = {}
    for name, attention in pairs.items():
        if attention is not None:
            for kind in ("weight", "bias"):
                parts = [getattr(layer, kind) for layer in (attention.query, attention.key, attention.value)]
                state[f"{name}.in_proj_{kind}"] = torch.cat(parts)
                state[f"{name}.out_proj.{kind}"] = getattr(attention.out, kind)
    norms = [ours.self_norm, ours.cross_norm, ours.feed_norm]
    for number, norm in enumerate([norm for norm in norms if norm is not None], 1):
        state |= {f"norm{number}.{kind}": getattr(norm, kind) for kind in ("weight", "bias")}
    for name, layer in (("linear1", ours.feed_forward[0]), ("linear2", ours.feed_forward[3])):
        state |= {f"{name}.{kind}": getattr(layer, kind) for kind in ("weight", "bias")}
    theirs.load_state_dict(state)


def random_layer(cross: bool) -> TransformerLayer:
    layer = TransformerLayer(DIM, 20, HEADS, 0.1, 0.1, cross)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer.eval()


def test_layer_equals_torch_encoder_layer() -> None:
    layer, x, mask = random_layer(cross=False), torch.randn(4, 5, DIM), some_mask(4, 5)
    theirs = nn.TransformerEncoderLayer(DIM, HEADS, 20, batch_first=True, norm_first=True).train()
    theirs.dropout.p = theirs.dropout1.p = theirs.dropout2.p = theirs.self_attn.dropout = 0.0
    copy_layer(layer, theirs)
    torch.testing.assert_close(layer(x, mask)[0], theirs(x, src_key_padding_mask=~mask), atol=1e-5, rtol=1e-4)


def test_layer_with_memory_equals_torch_decoder_layer() -> None:
    layer, x, memory, mask = (
        random_layer(cross=True),
        torch.randn(4, 5, DIM),
        torch.randn(4, 7, DIM),
        some_mask(4, 7),
    )
    theirs = nn.TransformerDecoderLayer(DIM, HEADS, 20, dropout=0.0, batch_first=True, norm_first=True)
    copy_layer(layer, theirs)
    assert layer.cross_attention is not None
    ours, _ = layer(x, causal=True, memory=layer.cross_attention.project(memory), memory_mask=mask)
    hidden = torch.ones(5, 5, dtype=torch.bool).triu(1)
    expected = theirs(x, memory, tgt_mask=hidden, memory_key_padding_mask=~mask)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


def test_stack_step_by_step_equals_all_at_once() -> None:
    stack = TransformerStack(2, DIM, 20, HEADS, dropout=0.0, cross=True).eval()
    x, memory, mask = torch.randn(6, 5, DIM), torch.randn(2, 7, DIM), some_mask(2, 7)
    projected = stack.project(memory)
    whole, _ = stack(x, causal=True, memory=projected, memory_mask=mask)
    past = None
    for position in range(5):
        step, past = stack(x[:, position : position + 1], memory=projected, memory_mask=mask, past=past)
        torch.testing.assert_close(step[:, 0], whole[:, position])


@pytest.mark.parametrize("causal", [True, False])
def test_only_a_causal_stack_is_blind_to_what_follows(causal: bool) -> None:
    stack = TransformerStack(2, DIM, 20, HEADS, dropout=0.0).eval()
    x = torch.randn(2, 6, DIM)
    changed = x.clone()
    changed[:, 3] = torch.randn(2, DIM)
    moved = (stack(x, causal=causal)[0] - stack(changed, causal=causal)[0]).abs().amax((0, 2)) > 1e-6
    assert moved.tolist() == ([False] * 3 + [True] * 3 if causal else [True] * 6)


@pytest.mark.parametrize("cross", [True, False])
def test_layers_and_memory_have_to_go_together(cross: bool) -> None:
    stack, x = TransformerStack(1, DIM, 16, HEADS, 0.0, cross=cross), torch.randn(2, 5, DIM)
    other = TransformerStack(1, DIM, 16, HEADS, 0.0, cross=True)
    with pytest.raises(ValueError, match="needs memory" if cross else "takes no memory"):
        stack(x, memory=None if cross else other.project(x))
