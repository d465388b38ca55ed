"""The Gumbel-softmax baseline: draws, gradients, padding, and that it learns."""

import math

import pytest
import torch
import torch.nn.functional as F

from vqnat_plugin.bottleneck import GumbelQuantizer


def test_draws_follow_the_softmax() -> None:
    torch.manual_seed(1)
    quantizer = GumbelQuantizer(4, 3)
    z = torch.randn(3)
    out = quantizer(z.expand(20_000, 3))
    expected = 20_000 * quantizer.logits(z).softmax(-1)
    found = out.soft_codes.sum(0)
    assert float(((found - expected) / expected.sqrt()).abs().max()) < 4.0
    assert torch.equal(quantizer.histogram.float(), found)
    # A true draw goes to the decoder: one code, not a mixture.
    torch.testing.assert_close(out.quantized, quantizer.lookup(out.samples[..., 0]))


def test_evaluation_takes_the_most_probable_code() -> None:
    torch.manual_seed(2)
    quantizer = GumbelQuantizer(5, 3).eval()
    z = torch.randn(2, 7, 3)
    out = quantizer(z)
    assert torch.equal(out.codes, quantizer.logits(z).argmax(-1)) and torch.equal(
        out.samples[..., 0], out.codes
    )
    assert torch.equal(out.quantized, quantizer.lookup(out.codes))
    assert float(quantizer.histogram.sum()) == 0.0


def test_divergence_and_entropy_are_those_of_the_softmax() -> None:
    torch.manual_seed(3)
    quantizer = GumbelQuantizer(6, 3, kl_weight=0.5)
    z, mask = torch.randn(2, 4, 3), torch.tensor([[True] * 4, [True, False, False, False]])
    out = quantizer(z, mask)
    q = quantizer.logits(z)[mask].softmax(-1)
    kl = F.kl_div(torch.full_like(q, math.log(1 / 6)), q, reduction="none").sum(-1).mean()
    torch.testing.assert_close(out.commitment_loss, 0.5 * kl)
    torch.testing.assert_close(out.metrics["posterior_entropy"], math.log(6) - kl)


def test_gradients_reach_input_posterior_and_codes() -> None:
    torch.manual_seed(4)
    quantizer = GumbelQuantizer(6, 3)
    z = torch.randn(5, 3, requires_grad=True)
    quantizer(z).quantized.square().sum().backward()
    for tensor in (z, quantizer.logits.weight, quantizer.codebook):
        assert tensor.grad is not None and float(tensor.grad.abs().sum()) > 0.0


@pytest.mark.parametrize("filling", [1e30, float("nan")])
def test_padding_never_matters(filling: float) -> None:
    quantizer = GumbelQuantizer(6, 3)
    z, mask = torch.randn(2, 4, 3), torch.tensor([[True] * 4, [True, False, False, False]])
    results = []
    for value in (0.0, filling):
        torch.manual_seed(5)
        quantizer.reset_histogram()
        filled = z.masked_fill(~mask[..., None], value)
        out = quantizer(filled, mask)
        results.append(
            [out.quantized, out.codes, out.samples, out.commitment_loss, quantizer.histogram.clone()]
        )
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
    assert float(results[0][-1].sum()) == 5.0


def test_nothing_is_counted_of_a_dummy_batch_and_an_all_padding_batch_is_finite() -> None:
    quantizer = GumbelQuantizer(6, 3)
    quantizer(torch.randn(4, 3), accumulate=False)
    out = quantizer(torch.randn(4, 3), torch.zeros(4, dtype=torch.bool))
    assert float(quantizer.histogram.sum()) == 0.0
    assert float(out.commitment_loss) == 0.0 and float(out.quantized.abs().sum()) == 0.0


def test_half_precision_inputs_keep_the_posterior_in_fp32() -> None:
    torch.manual_seed(6)
    quantizer = GumbelQuantizer(6, 3).eval()
    z = torch.randn(9, 3).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = quantizer(z)
    assert out.quantized.dtype == torch.bfloat16 and out.commitment_loss.dtype == torch.float32
    assert torch.equal(out.codes, quantizer(z.float()).codes)


def test_an_autoencoder_of_clusters_is_learnt() -> None:
    torch.manual_seed(7)
    centres = 3.0 * torch.randn(4, 8)
    quantizer = GumbelQuantizer(8, 8, kl_weight=0.01)
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.02)
    for _ in range(400):
        z = centres[torch.randint(4, (64,))] + 0.1 * torch.randn(64, 8)
        out = quantizer(z)
        loss = (out.quantized - z).square().mean() + out.commitment_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    quantizer.eval()
    assert float((quantizer(centres).quantized - centres).square().mean()) < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codebook_size": 0}, "codebook_size is 0"),
        ({"dim": 0}, "dim is 0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"kl_weight": -1.0}, "kl_weight is -1.0"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GumbelQuantizer(**{"codebook_size": 4, "dim": 3, **options})  # type: ignore[arg-type]
