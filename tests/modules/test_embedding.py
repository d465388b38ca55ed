"""Positions as in fairseq, whatever the padding."""

import torch
from fairseq.modules import SinusoidalPositionalEmbedding
from tiny import PAD, VOCABULARY, padded, sentences
from torch import nn

from vqnat_plugin.modules.embedding import Positions, TokenEmbedding, sinusoidal_positions


def test_positions_equal_those_of_fairseq() -> None:
    for dim in (4, 7, 16):
        theirs = SinusoidalPositionalEmbedding.get_embedding(40, dim, padding_idx=PAD)
        torch.testing.assert_close(sinusoidal_positions(38, dim, start=2), theirs[2:])


def test_positions_grow_and_keep_their_type() -> None:
    positions = Positions(8, count=4).bfloat16()
    short = positions(4)
    long = positions(300)
    assert long.shape == (300, 8) and long.dtype == torch.bfloat16
    assert torch.equal(long[:4], short)
    torch.testing.assert_close(Positions(8, count=4)(300), Positions(8, count=300)(300))
    assert not positions.state_dict()


def test_padding_on_either_side_gives_the_same_words() -> None:
    torch.manual_seed(0)
    embedding = TokenEmbedding(nn.Embedding(VOCABULARY, 8, padding_idx=PAD))
    rows = sentences(5)
    right, left = padded(rows, extra=2), padded(rows, left=True)
    embedded = embedding(right, right.ne(PAD)), embedding(left, left.ne(PAD))
    torch.testing.assert_close(embedded[0][right.ne(PAD)], embedded[1][left.ne(PAD)])
    assert not embedded[0][right.eq(PAD)].any() and not embedded[1][left.eq(PAD)].any()
    first = embedded[0][0, 0] - embedding.tokens.weight[right[0, 0]] * 8**0.5
    torch.testing.assert_close(first, sinusoidal_positions(1, 8, start=2)[0])
