"""The quantiser that models use: outputs, gradients, masks, precision."""

import doctest
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils.checkpoint import checkpoint

import vqnat_plugin.bottleneck.quantizer as module
from vqnat_plugin.bottleneck import EMVectorQuantizer, QuantizerOutput, ResidualEMQuantizer
from vqnat_plugin.bottleneck import assignment as e_step

ASSIGNMENTS = ["hard", "monte_carlo", "posterior"]


def make(assignment: str = "hard", size: int = 7, dim: int = 4, **options: object) -> EMVectorQuantizer:
    """A quantiser with random codes of norm about 1."""
    quantizer = EMVectorQuantizer(size, dim, assignment, **options)  # type: ignore[arg-type]
    quantizer.set_codebook(torch.randn(size, dim))
    return quantizer


def assert_same_output(one: QuantizerOutput, other: QuantizerOutput) -> None:
    for name in ("quantized", "codes", "samples", "commitment_loss", "soft_codes"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(one.metrics, other.metrics, rtol=0, atol=1e-20)


@settings(max_examples=60)
@given(
    shape=st.lists(st.integers(0, 4), max_size=3),
    size=st.integers(1, 20),
    blocks=st.integers(1, 3),
    assignment=st.sampled_from(ASSIGNMENTS),
    samples=st.integers(1, 4),
    training=st.booleans(),
    masked=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]),
    seed=st.integers(0, 100),
)
def test_shapes_types_and_invariants(
    shape: list[int],
    size: int,
    blocks: int,
    assignment: str,
    samples: int,
    training: bool,
    masked: bool,
    dtype: torch.dtype,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    quantizer = make(assignment, size, 2 * blocks, samples=samples, blocks=blocks).train(training)
    z = torch.randn(*shape, 2 * blocks).to(dtype)
    mask = torch.rand(shape) < 0.6 if masked else None
    out = quantizer(z, mask)
    lead = (*shape, blocks) if blocks > 1 else tuple(shape)
    valid = torch.ones(shape, dtype=torch.bool) if mask is None else mask

    assert out.quantized.shape == z.shape and out.quantized.dtype == dtype
    assert out.codes.shape == lead and out.codes.dtype == torch.int64
    soft = out.soft_codes
    assert soft.shape == (*lead, size) and soft.dtype == torch.float32
    draws = samples if training and assignment == "monte_carlo" else 1
    if training and assignment == "posterior":
        assert out.samples is None
    else:
        assert out.samples is not None
        assert out.samples.shape == (*lead, draws) and out.samples.dtype == torch.int64
        if draws == 1 and not (training and assignment == "monte_carlo"):
            assert torch.equal(out.samples[..., 0], out.codes)

    by_block = soft.view(*shape, blocks, size)
    torch.testing.assert_close(by_block.sum(dim=-1), valid[..., None].expand(*shape, blocks).float())
    # The quantised vector is the mean code vector under the soft assignment.
    codes = quantizer.codebook.view(size, blocks, 2)
    means = torch.einsum("...bk,kbd->...bd", by_block, codes).reshape(z.shape)
    torch.testing.assert_close(
        out.quantized, means.to(dtype), atol=2e-2 if dtype.itemsize == 2 else 1e-5, rtol=1e-2
    )
    # Nearest codes, by brute force.
    parts = z.float().view(*shape, blocks, 1, 2)
    nearest = (parts - codes.transpose(0, 1)).square().sum(dim=-1).argmin(dim=-1).view(lead)
    inside = valid if blocks == 1 else valid[..., None].expand(lead)
    assert torch.equal(out.codes, nearest * inside)

    assert set(out.metrics) == {"usage", "perplexity", "posterior_entropy", "distinct_codes", "commitment"}
    assert all(value.dim() == 0 and not value.requires_grad for value in out.metrics.values())
    assert out.commitment_loss.dim() == 0 and out.commitment_loss.dtype == torch.float32
    if bool(valid.any()):
        error = (z.float() - means)[valid].square().mean()
        torch.testing.assert_close(out.metrics["commitment"], error, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(out.commitment_loss, 0.25 * out.metrics["commitment"])
        assert 1.0 / size - 1e-6 <= float(out.metrics["usage"]) <= 1.0
        assert 1.0 - 1e-4 <= float(out.metrics["perplexity"]) <= size + 1e-3
    else:
        assert all(float(value) == 0.0 for value in (*out.metrics.values(), out.commitment_loss))


def test_metrics_equal_brute_force() -> None:
    torch.manual_seed(0)
    quantizer = make("monte_carlo", samples=6)
    z, mask = torch.randn(3, 50, 4), torch.rand(3, 50) < 0.7
    out = quantizer(z, mask)
    assert out.samples is not None
    samples = out.samples[mask]
    frequencies = torch.bincount(samples.flatten(), minlength=7).double()
    p = (-torch.cdist(z[mask].double(), quantizer.codebook.double()).square()).softmax(dim=1)
    expected = {
        "usage": (frequencies > 0).double().mean(),
        "perplexity": torch.distributions.Categorical(frequencies).entropy().exp(),
        "posterior_entropy": torch.special.entr(p).sum(dim=1).mean(),
        "distinct_codes": torch.tensor([float(len(row.unique())) for row in samples]).mean(),
        "commitment": (z[mask] - quantizer.codebook[samples].mean(dim=1)).square().mean(),
    }
    for name, value in expected.items():
        torch.testing.assert_close(out.metrics[name], value.float(), msg=name)


def test_evaluation_neither_samples_nor_accumulates() -> None:
    torch.manual_seed(1)
    for assignment in ASSIGNMENTS:
        quantizer = make(assignment).eval()
        z = torch.randn(5, 9, 4)
        generator_state = torch.get_rng_state()
        out = quantizer(z)
        assert torch.equal(generator_state, torch.get_rng_state())
        assert torch.equal(out.quantized, quantizer.lookup(out.codes))
        assert quantizer.update_codebook() is False
        # Softness is reported nevertheless, where the E step is soft.
        assert (float(out.metrics["posterior_entropy"]) > 0) == (assignment != "hard")


def test_one_sample_at_low_temperature_is_hard() -> None:
    torch.manual_seed(2)
    soft = make("monte_carlo", samples=1, temperature=1e-6, decay=0.5)
    hard = EMVectorQuantizer(7, 4, decay=0.5)
    hard.load_state_dict(soft.state_dict())
    soft.revival = hard.revival = False
    for _ in range(4):
        z = torch.randn(30, 4)
        one, other = soft(z), hard(z)
        assert_same_output(one, other)
        soft.update_codebook()
        hard.update_codebook()
        assert torch.equal(soft.codebook, hard.codebook)


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_gradients(assignment: str, blocks: int) -> None:
    torch.manual_seed(3)
    quantizer = make(assignment, blocks=blocks, commitment_weight=0.7)
    z = torch.randn(3, 8, 4, requires_grad=True)
    mask = torch.rand(3, 8) < 0.6
    out = quantizer(z, mask)
    upstream = torch.randn(3, 8, 4)
    (gradient,) = torch.autograd.grad(out.quantized, z, upstream, retain_graph=True)
    assert torch.equal(gradient, upstream * mask[..., None])  # identity; nothing at padding
    (gradient,) = torch.autograd.grad(out.commitment_loss, z)
    closed_form = 0.7 * 2 * (z - out.quantized).detach() * mask[..., None] / (mask.sum() * 4)
    torch.testing.assert_close(gradient, closed_form)
    assert not quantizer.codebook.requires_grad and not out.soft_codes.requires_grad


@pytest.mark.parametrize("filling", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_padding_never_matters(assignment: str, filling: float) -> None:
    torch.manual_seed(4)
    quantizer = make(assignment, decay=0.5)
    other = EMVectorQuantizer(7, 4, assignment, decay=0.5)
    other.load_state_dict(quantizer.state_dict())
    z, mask = torch.randn(4, 10, 4), torch.rand(4, 10) < 0.5
    spoilt = torch.where(mask[..., None], z, filling).requires_grad_()
    results = []
    for quantizer_, input_ in ((quantizer, z), (other, spoilt)):
        torch.manual_seed(5)
        results.append(quantizer_(input_, mask))
        quantizer_.update_codebook()
    assert_same_output(results[0], results[1])
    assert bool((results[1].quantized[~mask] == 0).all()) and bool((results[1].codes[~mask] == 0).all())
    for name, buffer in quantizer.named_buffers():
        assert torch.equal(buffer, other.get_buffer(name)), name
    (results[1].quantized.sum() + results[1].commitment_loss).backward()
    assert spoilt.grad is not None and bool(spoilt.grad.isfinite().all())


def test_statistics_of_a_masked_batch_are_those_of_its_valid_vectors() -> None:
    torch.manual_seed(6)
    masked = make("posterior", decay=0.5, revival=False)
    short = EMVectorQuantizer(7, 4, "posterior", decay=0.5, revival=False)
    short.load_state_dict(masked.state_dict())
    z, mask = torch.randn(4, 10, 4), torch.rand(4, 10) < 0.5
    one, other = masked(z, mask), short(z[mask])
    torch.testing.assert_close(one.quantized[mask], other.quantized)
    torch.testing.assert_close(one.commitment_loss, other.commitment_loss)
    torch.testing.assert_close(one.metrics, other.metrics)
    masked.update_codebook()
    short.update_codebook()
    torch.testing.assert_close(masked.codebook, short.codebook)


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_one_code_one_vector_and_an_all_padding_batch(assignment: str) -> None:
    torch.manual_seed(7)
    quantizer = EMVectorQuantizer(1, 4, assignment, decay=0.5)
    quantizer.initialize_codebook(torch.randn(1, 4))
    z = torch.randn(4, requires_grad=True)
    out = quantizer(z)
    torch.testing.assert_close(out.quantized, quantizer.codebook[0])
    assert out.codes.item() == 0
    quantizer.update_codebook()
    torch.testing.assert_close(quantizer.codebook[0], 0.5 * (out.quantized + z).detach())
    before = quantizer.codebook.clone()
    out = quantizer(z, torch.tensor(False))
    assert out.commitment_loss.item() == 0.0
    (out.quantized.sum() + out.commitment_loss).backward()
    assert z.grad is not None and float(z.grad.abs().sum()) == 0.0
    assert quantizer.update_codebook() is False
    assert torch.equal(quantizer.codebook, before)


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_autocast_and_16_bit_inputs_leave_distances_in_fp32(assignment: str) -> None:
    torch.manual_seed(8)
    # Codes so close that bf16 products would mix them up.
    quantizer = make(assignment, size=200, dim=16, samples=3)
    quantizer.set_codebook(1.0 + 0.01 * torch.randn(200, 16))
    z = (1.0 + 0.01 * torch.randn(100, 16)).bfloat16()
    torch.manual_seed(9)
    plain = quantizer(z.float())
    torch.manual_seed(9)
    with torch.autocast("cpu", torch.bfloat16):
        cast = quantizer(z.float())
        soft = cast.soft_codes
    assert_same_output(plain, cast)
    assert torch.equal(soft, plain.soft_codes)
    torch.manual_seed(9)
    low = quantizer.bfloat16()(z)
    assert torch.equal(low.codes, plain.codes)
    assert torch.equal(low.quantized, plain.quantized.bfloat16())
    torch.testing.assert_close(low.commitment_loss, plain.commitment_loss, rtol=0, atol=0)


def test_soft_codes_stay_those_of_the_forward_pass_after_an_m_step() -> None:
    torch.manual_seed(10)
    for assignment in ASSIGNMENTS:
        quantizer = make(assignment, decay=0.0)
        out = quantizer(torch.randn(40, 4))
        before = out.soft_codes
        quantizer.update_codebook()
        assert torch.equal(out.soft_codes, before)


def test_temperature_and_samples_may_change_between_steps() -> None:
    torch.manual_seed(11)
    quantizer = make("monte_carlo")
    z = torch.randn(50, 4)
    cold = quantizer(z).metrics["posterior_entropy"]
    quantizer.temperature, quantizer.samples = 10.0, 3
    out = quantizer(z)
    assert float(out.metrics["posterior_entropy"]) > float(cold)
    assert out.samples is not None and out.samples.shape == (50, 3)
    quantizer.update_codebook()
    assert float(quantizer.histogram.sum()) == pytest.approx(100.0)  # two forwards of 50, whatever m was


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_forward_never_waits_for_the_device_nor_leaves_it(assignment: str, blocks: int, device: str) -> None:
    if device == "cuda" and not torch.backends.cuda.is_built():
        pytest.skip("this torch knows no CUDA")
    # Fake tensors have a device but no values: what needs one on the host (item, nonzero, ...) raises, and
    # so does mixing devices. No GPU is needed.
    with FakeTensorMode(allow_non_fake_inputs=False):
        quantizer = EMVectorQuantizer(70, 4, assignment, blocks=blocks, init="random").to(device)
        z = torch.empty(3, 9, 4, requires_grad=True, device=device)
        mask = torch.empty(3, 9, dtype=torch.bool, device=device)
        for _ in range(2):
            out = quantizer(z, mask)
            results = [out.quantized, out.codes, out.soft_codes, out.commitment_loss, *out.metrics.values()]
            assert {tensor.device.type for tensor in results} == {device}
        quantizer.eval()(z, mask)
        if device == "cuda":
            assert isinstance(quantizer.update_codebook(), Tensor)
        else:
            # Waiting is free on a CPU: the M step asks whether there is anything finite to apply.
            with pytest.raises(DataDependentOutputException):
                quantizer.update_codebook()


def test_e_steps_never_wait_for_the_device_nor_leave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those themselves: as operators they are not looked into by fake tensors."""
    if not torch.backends.cuda.is_built():
        pytest.skip("this torch knows no CUDA")
    # Kernels would be compiled.
    monkeypatch.setattr(e_step, "has_kernels", lambda _: False)
    with FakeTensorMode(allow_non_fake_inputs=False):
        vectors, codes = (torch.empty(count, 4, device="cuda") for count in (30, 70))
        weights, uniforms = torch.empty(30, device="cuda"), torch.empty(30, 3, device="cuda")
        found = [e_step.nearest_codes(vectors, codes)]
        for drawn in (None, uniforms):
            found += filter(None.__ne__, vars(e_step.sample_codes(vectors, codes, 1.0, drawn)).values())
        similarity = e_step.Similarity(codes)
        found += vars(e_step.posterior_codes(vectors, similarity, weights)).values()
        assert len(found) == 11 and {each.device.type for each in found} == {"cuda"}
        # What this would see.
        with pytest.raises(DataDependentOutputException):
            float(vectors.sum())


@pytest.mark.parametrize(
    ("z", "mask", "message"),
    [
        (torch.zeros(3, 5), None, r"shape \(3, 5\), must be floats \(\.\.\., 4\)"),
        (torch.zeros(3, 4, dtype=torch.int64), None, "torch.int64"),
        (torch.zeros(()), None, r"shape \(\)"),
        (torch.zeros(3, 4), torch.ones(4, dtype=torch.bool), r"mask is torch.bool of shape \(4,\)"),
        (torch.zeros(3, 4), torch.ones(3), "mask is torch.float32"),
    ],
)
def test_bad_inputs_are_named(z: Tensor, mask: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()(z, mask)


def test_docstring_example_runs() -> None:
    result = doctest.testmod(module)
    assert result.attempted >= 8 and result.failed == 0


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("update", ["manual", "forward"])
@pytest.mark.parametrize("assignment", ["hard", "monte_carlo", "posterior"])
def test_a_forward_that_is_run_once_more_counts_once(assignment: str, update: str, reentrant: bool) -> None:
    """Activation checkpointing: forward again in the backward pass, with the same gradients."""
    z = torch.randn(50, 4)
    found = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        quantizer = EMVectorQuantizer(8, 4, assignment, update=update, decay=0.5)
        quantizer.initialize_codebook(z)
        layer = torch.nn.Linear(4, 4)

        def block(
            x: torch.Tensor, layer: torch.nn.Module = layer, quantizer: Any = quantizer
        ) -> torch.Tensor:
            out = quantizer(layer(x))
            return out.quantized.sin() + out.commitment_loss

        for _ in range(2):
            x = z.clone().requires_grad_()
            y = checkpoint(block, x, use_reentrant=reentrant) if checkpointed else block(x)
            y.square().sum().backward()
        found.append((layer.weight.grad, quantizer._statistics().counts, quantizer.codebook))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("kind", ["hard", "monte_carlo", "forward", "levels"])
def test_a_forward_that_is_run_once_more_draws_the_same(kind: str, reentrant: bool) -> None:
    """Else gradients would be those of another dropout, or of other codes."""
    z = torch.randn(50, 4)
    found = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        quantizer: Any
        if kind == "levels":
            quantizer = ResidualEMQuantizer(3, 8, 4, assignment="monte_carlo")
        elif kind == "forward":
            quantizer = EMVectorQuantizer(8, 4, "monte_carlo", update="forward")
        else:
            quantizer = EMVectorQuantizer(8, 4, kind)
        if kind != "forward":
            quantizer.initialize_codebook(z)
        layer = torch.nn.Linear(4, 4)

        def block(
            x: torch.Tensor, layer: torch.nn.Module = layer, quantizer: Any = quantizer
        ) -> torch.Tensor:
            return torch.nn.functional.dropout(quantizer(layer(x)).quantized.sin(), 0.5)

        x = z.clone().requires_grad_()
        torch.manual_seed(1)
        y = checkpoint(block, x, use_reentrant=reentrant) if checkpointed else block(x)
        y.square().sum().backward()
        found.append((y, layer.weight.grad, x.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
