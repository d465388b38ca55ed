"""Residual quantisation against the levels taken one by one."""

import doctest

import pytest
import torch

import vqnat_plugin.bottleneck.residual as module
from vqnat_plugin.bottleneck import EMVectorQuantizer, ResidualEMQuantizer
from vqnat_plugin.bottleneck.rotation import rotate

ASSIGNMENTS = ["hard", "monte_carlo", "posterior"]


def make(levels: int = 3, **options: object) -> ResidualEMQuantizer:
    torch.manual_seed(0)
    quantizer = ResidualEMQuantizer(levels, 8, 4, decay=0.5, **options)  # type: ignore[arg-type]
    quantizer.initialize_codebook(torch.randn(200, 4))
    return quantizer


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_it_is_its_levels_one_after_the_other(assignment: str, blocks: int) -> None:
    quantizer = make(assignment=assignment, blocks=blocks, samples=5)
    z, mask = torch.randn(2, 20, 4, requires_grad=True), torch.rand(2, 20) < 0.7
    levels = [EMVectorQuantizer(8, 4, assignment, 5, decay=0.5, blocks=blocks) for _ in range(3)]
    for level, ours in zip(levels, quantizer.quantizers, strict=True):
        level.load_state_dict(ours.state_dict())
    torch.manual_seed(1)
    out = quantizer(z, mask)
    torch.manual_seed(1)
    residual, outs = z, []
    for level in levels:
        outs.append(level(residual, mask))
        residual = residual - outs[-1].quantized.detach()
    torch.testing.assert_close(out.quantized, sum(o.quantized.detach() for o in outs))
    for place, o in enumerate(outs):
        assert torch.equal(out.codes[:, :, place], o.codes)
        assert torch.equal(out.soft_codes[:, :, place], o.soft_codes)
        if o.samples is not None:
            assert out.samples is not None and torch.equal(out.samples[:, :, place], o.samples)
    loss = torch.stack([o.commitment_loss for o in outs]).mean()
    torch.testing.assert_close(out.commitment_loss, loss)
    one = torch.autograd.grad(out.commitment_loss, z, retain_graph=True)
    torch.testing.assert_close(one, torch.autograd.grad(loss, z))
    upstream = torch.randn_like(z)
    (gradient,) = torch.autograd.grad(out.quantized, z, upstream)
    assert torch.equal(gradient, upstream * mask[..., None])
    for name, value in out.metrics.items():
        torch.testing.assert_close(value, torch.stack([o.metrics[name] for o in outs]).mean(), msg=name)
    assert quantizer.update_codebook() is True
    for level in levels:
        level.update_codebook()
    torch.testing.assert_close(quantizer.codebook, torch.stack([level.codebook for level in levels]))
    torch.testing.assert_close(quantizer.histogram, torch.stack([level.histogram for level in levels]))


def test_lookup_sums_the_levels_given() -> None:
    for blocks in (1, 2):
        quantizer = make(blocks=blocks).eval()
        z = torch.randn(5, 6, 4)
        out = quantizer(z)
        codes = quantizer.encode(z)
        assert torch.equal(codes, out.codes)
        torch.testing.assert_close(quantizer.lookup(codes), out.quantized)
        errors = []
        for levels in (1, 2, 3):
            some = codes[:, :, :levels]
            errors.append(float((quantizer.lookup(some) - z).square().mean()))
            left_out = codes.clone()
            left_out[:, :, levels:] = -1
            assert torch.equal(quantizer.lookup(left_out), quantizer.lookup(some))
        assert errors[0] > errors[1] > errors[2]


def test_the_start_is_made_level_by_level() -> None:
    torch.manual_seed(2)
    z, mask = torch.randn(3, 100, 4), torch.rand(3, 100) < 0.8
    z[~mask] = float("nan")
    quantizer = ResidualEMQuantizer(3, 16, 4)
    assert not quantizer.initialized
    quantizer.initialize_codebook(z, mask)
    assert quantizer.initialized
    out = quantizer.eval()(z, mask)
    assert float(out.metrics["usage"]) == 1.0
    # Spread of the residuals, and with it of the codes, falls from level to level.
    spread = quantizer.codebook.square().mean(dim=(1, 2))
    assert spread[0] > spread[1] > spread[2]


def test_dropout_of_levels() -> None:
    quantizer = make(4, level_dropout=0.6)
    quantizer.reset_histogram()
    z, mask = torch.randn(500, 3, 4, requires_grad=True), torch.rand(500, 3) < 0.8
    out = quantizer(z, mask)
    used = (out.codes >= 0).sum(dim=2)
    valid = used.masked_fill(~mask, 4)
    # All positions of a sample have as many levels; a sample drops them with probability 0.6.
    assert bool((valid.amin(dim=1) == valid.masked_fill(~mask, 0).amax(dim=1))[mask.any(dim=1)].all())
    per_sample = valid.amin(dim=1)[mask.any(dim=1)]
    share = torch.bincount(per_sample, minlength=5)[1:] / len(per_sample)
    torch.testing.assert_close(share, torch.tensor([0.15, 0.15, 0.15, 0.55]), atol=0.06, rtol=0)
    # Levels left out add nothing, count nothing and have no gradient.
    means = torch.zeros_like(z)
    for level, ours in enumerate(quantizer.quantizers):
        means += ours.lookup(out.codes[:, :, level].clamp(min=0)) * (out.codes[:, :, level] >= 0)[..., None]
    torch.testing.assert_close(out.quantized, means * mask[..., None])
    soft = out.soft_codes.sum(dim=3)
    assert torch.equal(soft, ((out.codes >= 0) & mask[..., None]).float())
    quantizer.update_codebook()
    expected = ((out.codes >= 0) & mask[..., None]).sum(dim=(0, 1))
    torch.testing.assert_close(quantizer.histogram.sum(dim=1), expected.double())
    assert bool((quantizer.eval()(z, mask).codes >= 0).all())
    assert bool((quantizer.train()(z, mask, accumulate=False).codes >= 0).all())


def test_skipped_steps_and_freezing() -> None:
    quantizer = make()
    before = quantizer.codebook.clone()
    quantizer(torch.randn(30, 4))
    quantizer.discard()
    assert quantizer.update_codebook() is False
    quantizer.freeze()
    quantizer(torch.randn(30, 4))
    quantizer.update_codebook()
    assert torch.equal(quantizer.codebook, before)
    quantizer.unfreeze()
    quantizer(torch.randn(30, 4))
    quantizer.update_codebook()
    assert not torch.equal(quantizer.codebook, before)


def test_16_bits_lose_nothing_between_levels() -> None:
    quantizer = make(4).eval()
    z = torch.randn(50, 4).bfloat16()
    out = quantizer(z)
    assert out.quantized.dtype == torch.bfloat16
    assert torch.equal(out.codes, quantizer(z.float()).codes)
    assert torch.equal(out.quantized, quantizer(z.float()).quantized.bfloat16())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 0}, "levels is 0"),
        ({"level_dropout": 1.5}, "level_dropout is 1.5"),
        ({"distance": "cosine"}, "distance is 'cosine'"),
        ({"update": "never"}, "update is 'never'"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResidualEMQuantizer(**{"levels": 2, "codebook_size": 4, "dim": 4, **options})  # type: ignore[arg-type]


def test_docstring_example_runs() -> None:
    result = doctest.testmod(module)
    assert result.attempted >= 5 and result.failed == 0


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
@pytest.mark.parametrize("blocks", [1, 2])
def test_codes_alone_are_those_of_evaluation(assignment: str, blocks: int) -> None:
    quantizer = make(assignment=assignment, blocks=blocks, level_dropout=0.5, temperature=4.0)
    z, mask = torch.randn(2, 20, 4), torch.rand(2, 20) < 0.7
    found = quantizer.train().encode(z, mask)
    assert torch.equal(found, quantizer.eval().encode(z, mask))
    assert torch.equal(found, quantizer(z, mask).codes)
    first = make(assignment=assignment, channels="first")
    image = torch.randn(2, 4, 3, 5)
    assert torch.equal(first.encode(image), first.eval()(image).codes)


def test_the_rotation_is_that_of_the_chain() -> None:
    quantizer = make(gradient="rotation")
    z = torch.randn(2, 20, 4, requires_grad=True)
    out, upstream = quantizer(z), torch.randn(2, 20, 4)
    (gradient,) = torch.autograd.grad(out.quantized, z, upstream)
    (expected,) = torch.autograd.grad(rotate(z, out.quantized.detach()), z, upstream)
    torch.testing.assert_close(gradient, expected)
    assert not torch.allclose(gradient, upstream)
