"""Where z has its vectors, and what says which of them are valid."""

import pytest
import torch

from vqnat_plugin.bottleneck import EMVectorQuantizer, Quantizer, ResidualEMQuantizer, Settings, build, kinds

DIM = 4


def make(channels: str | None, blocks: int = 1) -> EMVectorQuantizer:
    quantizer = EMVectorQuantizer(16, DIM, decay=0.5, blocks=blocks, channels=channels)
    torch.manual_seed(0)
    quantizer.set_codebook(torch.randn(16, DIM))
    return quantizer


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize(
    "shape", [(3, DIM), (2, DIM, 5), (2, DIM, 5, 7), (2, DIM, DIM, DIM), (2, DIM, 3, 2, 6)]
)
def test_channels_first_is_channels_last_moved(shape: tuple[int, ...], blocks: int) -> None:
    first, last = make("first", blocks), make("last", blocks)
    z = torch.randn(shape, requires_grad=True)
    mask = torch.rand(shape[:1] + shape[2:]) < 0.6
    torch.manual_seed(1)
    one = first(z, mask)
    # Which vectors may replace codes is drawn.
    torch.manual_seed(1)
    other = last(z.movedim(1, -1), mask)
    assert one.quantized.shape == z.shape
    assert torch.equal(one.quantized, other.quantized.movedim(-1, 1))
    assert torch.equal(one.codes, other.codes)
    assert one.codes.shape == (shape[0], *shape[2:], *([blocks] if blocks > 1 else []))
    assert torch.equal(one.commitment_loss, other.commitment_loss)
    upstream = torch.randn(shape)
    (gradient,) = torch.autograd.grad(one.quantized, z, upstream)
    assert torch.equal(gradient, upstream * mask.unsqueeze(1))
    first.update_codebook()
    last.update_codebook()
    assert torch.equal(first.codebook, last.codebook)


def test_the_codebook_starts_from_either_layout() -> None:
    z = torch.randn(2, DIM, 5, 6)
    mask = torch.rand(2, 5, 6) < 0.8
    books = []
    for channels, vectors in (("first", z), ("last", z.movedim(1, -1))):
        quantizer = EMVectorQuantizer(8, DIM, channels=channels)
        torch.manual_seed(1)
        quantizer.initialize_codebook(vectors, mask)
        books.append(quantizer.codebook)
    assert torch.equal(*books)


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_takes_channels_first(kind: str) -> None:
    torch.manual_seed(0)
    quantizer: Quantizer = build(kind, Settings(16, DIM))
    quantizer.initialize_codebook(torch.randn(99, DIM))
    quantizer.eval()
    z = torch.randn(2, 5, 3, DIM)
    last = quantizer(z, None).quantized
    quantizer.channels = "first"
    first = quantizer(z.movedim(-1, 1)).quantized
    assert torch.equal(first.movedim(1, -1), last)


def test_images_in_the_wrong_layout_are_refused() -> None:
    image = torch.zeros(2, DIM, 5, 6)
    for channels in (None, "last"):
        with pytest.raises(
            ValueError, match=r"shape \(2, 4, 5, 6\), must be floats \(\.\.\., 4\).*channels='first'"
        ):
            make(channels)(image)
    with pytest.raises(ValueError, match=r"must be floats \(batch, 4, \.\.\.\)"):
        make("first")(image.movedim(1, -1))
    with pytest.raises(ValueError, match=r"must be floats \(batch, 4, \.\.\.\)"):
        make("first")(torch.zeros(DIM))
    # As wide as a vector is long: nobody can tell.
    square = torch.zeros(2, DIM, 5, DIM)
    with pytest.raises(ValueError, match="dimension 1 or in the last"):
        make(None)(square)
    with pytest.raises(ValueError, match="dimension 1 or in the last"):
        make(None).initialize_codebook(square)
    assert make("last")(square).codes.shape == (2, DIM, 5)
    assert make("first")(square).codes.shape == (2, 5, DIM)
    # A sequence that is as long as a vector by chance is none of that.
    assert make(None)(torch.zeros(2, DIM, DIM)).codes.shape == (2, DIM)


@pytest.mark.parametrize("channels", ["first", "last"])
def test_lengths_are_a_mask(channels: str) -> None:
    quantizer = make(channels)
    z = torch.randn(3, 6, DIM)
    z[1, 2:], z[2] = float("nan"), float("inf")
    z = z.movedim(2, 1) if channels == "first" else z
    lengths = torch.tensor([6, 2, 0])
    mask = torch.tensor([[True] * 6, [True] * 2 + [False] * 4, [False] * 6])
    one, other = quantizer(z, lengths=lengths), quantizer(z, mask)
    assert torch.equal(one.quantized, other.quantized) and torch.equal(one.codes, other.codes)
    assert torch.equal(quantizer.encode(z, lengths=lengths.int()), other.codes)
    assert bool(one.quantized.isfinite().all())
    quantizer.initialize_codebook(z, lengths=lengths)
    assert bool(quantizer.codebook.isfinite().all())


def test_bad_lengths_are_named() -> None:
    quantizer, z = make("last"), torch.zeros(3, 6, DIM)
    for lengths, message in (
        (torch.ones(3), "lengths is torch.float32"),
        (torch.ones(4, dtype=torch.int64), r"lengths is torch.int64 of shape \(4,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            quantizer(z, lengths=lengths)
    with pytest.raises(ValueError, match="one for each sequence"):
        quantizer(torch.zeros(3, 6, 5, DIM), lengths=torch.ones(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="mask and lengths"):
        quantizer(z, torch.ones(3, 6, dtype=torch.bool), lengths=torch.ones(3, dtype=torch.int64))


def test_residual_quantiser_takes_channels_first() -> None:
    torch.manual_seed(0)
    quantizer = ResidualEMQuantizer(3, 8, DIM, channels="first", init="random")
    z = torch.randn(2, DIM, 5, 7)
    out = quantizer(z)
    assert out.quantized.shape == z.shape and out.codes.shape == (2, 5, 7, 3)
    last = ResidualEMQuantizer(3, 8, DIM, channels="last", init="random").eval()
    last.load_state_dict(quantizer.state_dict())
    first, other = quantizer.eval()(z), last(z.movedim(1, -1))
    assert torch.equal(first.codes, other.codes) and len(first.codes.unique()) > 1
    assert torch.equal(first.quantized, other.quantized.movedim(-1, 1))
