"""Compressor and upsampler: lengths, and padding that never matters."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqnat_plugin.modules.attention import TransformerStack
from vqnat_plugin.modules.compressor import Compressor, latent_count, latent_mask, pad_to_blocks
from vqnat_plugin.modules.upsampler import Upsampler

DIM, CODE_DIM = 8, 6


def compressor(steps: int, attention: bool = False) -> Compressor:
    torch.manual_seed(0)
    stack = TransformerStack(1, DIM, 16, 2, 0.0, cross=True) if attention else None
    return Compressor(DIM, CODE_DIM, steps, 0.0, stack).eval()


@given(length=st.integers(1, 70), steps=st.integers(0, 6))
def test_one_latent_stands_for_two_to_the_steps_positions(length: int, steps: int) -> None:
    expected = math.ceil(length / 2**steps)
    assert latent_count(length, steps) == expected
    mask = torch.ones(1, length, dtype=torch.bool)
    assert latent_mask(mask, steps).shape == (1, expected)
    assert pad_to_blocks(torch.zeros(1, length, 2), mask, steps)[0].shape == (1, expected * 2**steps, 2)


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    extra=st.integers(0, 9),
    steps=st.integers(0, 3),
    attention=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_latents_do_not_depend_on_padding(
    lengths: list[int], extra: int, steps: int, attention: bool, seed: int
) -> None:
    model = compressor(steps, attention)
    torch.manual_seed(seed)
    width = max(lengths) + extra
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    x = torch.randn(len(lengths), width, DIM)
    memory, memory_mask = (
        torch.randn(len(lengths), 5, DIM),
        torch.arange(5) < torch.tensor([3] * len(lengths))[:, None],
    )
    z, latents = model(x, mask, memory, memory_mask)
    assert latents.sum(1).tolist() == [math.ceil(length / 2**steps) for length in lengths]
    assert z.shape == (len(lengths), math.ceil(width / 2**steps), CODE_DIM)
    # Other garbage in the padding.
    x, memory = x + 9 * ~mask[..., None], memory + 9 * ~memory_mask[..., None]
    torch.testing.assert_close(model(x, mask, memory, memory_mask)[0][latents], z[latents])
    for row, length in enumerate(lengths):
        alone, own = model(
            x[row : row + 1, :length], mask[row : row + 1, :length], memory[row, None], memory_mask[row, None]
        )
        assert own.all()
        torch.testing.assert_close(alone[0], z[row, : alone.size(1)], atol=1e-5, rtol=1e-4)


def test_latent_vectors_have_the_same_length() -> None:
    x = torch.randn(3, 8, DIM)
    z, _ = compressor(2)(x, torch.ones(3, 8, dtype=torch.bool))
    torch.testing.assert_close(z.square().sum(-1), torch.full((3, 2), float(CODE_DIM)), rtol=1e-3, atol=0.0)
    torch.testing.assert_close(z.mean(-1), torch.zeros(3, 2))


def test_every_position_reaches_its_latent() -> None:
    model, mask = compressor(2), torch.ones(1, 8, dtype=torch.bool)
    x = torch.randn(1, 8, DIM, requires_grad=True)
    z, _ = model(x, mask)
    for latent in range(2):
        (gradient,) = torch.autograd.grad(z[0, latent].square().cumsum(0).sum(), x, retain_graph=True)
        assert (gradient[0, 4 * latent : 4 * latent + 4].abs().sum(-1) > 0).all()


def test_compressor_with_attention_sees_the_source() -> None:
    model = compressor(1, attention=True)
    x, mask = torch.randn(2, 4, DIM), torch.ones(2, 4, dtype=torch.bool)
    one, other = (model(x, mask, torch.randn(2, 4, DIM), mask)[0] for _ in range(2))
    assert not torch.allclose(one, other, atol=1e-3)


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    extra=st.integers(0, 3),
    steps=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_upsampled_positions_do_not_depend_on_padding(
    lengths: list[int], extra: int, steps: int, seed: int
) -> None:
    torch.manual_seed(seed)
    model = Upsampler(CODE_DIM, DIM, steps, 0.0).eval()
    width = max(lengths) + extra
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    latents = torch.randn(len(lengths), width, CODE_DIM)
    x, positions = model(latents, mask)
    assert x.shape == (len(lengths), width * 2**steps, DIM)
    assert torch.equal(positions, mask.repeat_interleave(2**steps, 1))
    changed, _ = model(latents + 9 * ~mask[..., None], mask)
    torch.testing.assert_close(changed[positions], x[positions])
    for row, length in enumerate(lengths):
        alone, _ = model(latents[row : row + 1, :length], mask[row : row + 1, :length])
        torch.testing.assert_close(alone[0], x[row, : length * 2**steps], atol=1e-5, rtol=1e-4)


def test_equal_codes_at_different_places_differ() -> None:
    torch.manual_seed(0)
    model = Upsampler(CODE_DIM, DIM, 2, 0.0).eval()
    x, _ = model(torch.ones(1, 5, CODE_DIM), torch.ones(1, 5, dtype=torch.bool))
    distances = (x[0, :, None] - x[0, None]).norm(dim=-1) + torch.eye(20) * 9
    assert distances.min() > 1e-2


def test_compressor_with_attention_needs_a_source() -> None:
    with pytest.raises(ValueError, match="with attention needs memory"):
        compressor(1, attention=True)(torch.randn(2, 4, DIM), torch.ones(2, 4, dtype=torch.bool))
