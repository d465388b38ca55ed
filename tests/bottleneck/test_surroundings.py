"""A quantiser in training loops of others: how states arrive, default types, inference mode."""

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vqnat_plugin.bottleneck import (
    EMVectorQuantizer,
    FiniteScalarQuantizer,
    Quantizer,
    ResidualEMQuantizer,
    Settings,
    build,
    kinds,
)

SIZE, DIM = 24, 4
EM = ("hard", "monte_carlo", "posterior")


def make(kind: str, start: bool = True) -> Quantizer:
    torch.manual_seed(0)
    quantizer = build(kind, Settings(SIZE, DIM))
    if start:
        quantizer.initialize_codebook(torch.randn(200, DIM))
    return quantizer


def copied(source: torch.nn.Module, target: torch.nn.Module) -> None:
    """As broadcasts and averages of models write states."""
    buffers = dict(target.named_buffers())
    with torch.no_grad():
        for name, value in source.state_dict().items():
            buffers[name].copy_(value)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("update", ["manual", "forward"])
def test_buffers_may_come_from_elsewhere(
    update: str, compiled: bool, recwarn: pytest.WarningsRecorder
) -> None:
    torch.manual_seed(0)
    source = EMVectorQuantizer(SIZE, DIM, decay=0.5)
    source.initialize_codebook(torch.randn(200, DIM))
    source.freeze(torch.tensor([0, 3]))
    target = EMVectorQuantizer(SIZE, DIM, decay=0.5, update=update)
    copied(source, target)
    assert target.initialized
    forward, m_step = target.forward, target.update_codebook
    if compiled:
        torch._dynamo.reset()
        forward, m_step = (torch.compile(each, backend="eager") for each in (forward, m_step))
    for _ in range(2):
        forward(torch.randn(90, DIM) + 5)
    if update == "manual":
        m_step()
    assert compiled or not recwarn.list
    moved = (target.codebook != source.codebook).any(dim=1)
    assert moved.any() and not moved[[0, 3]].any()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", kinds())
def test_shapes_are_known_without_memory(kind: str, training: bool) -> None:
    quantizer = make(kind).to("meta").train(training)
    out = quantizer(torch.empty(2, 9, DIM, device="meta"))
    assert out.quantized.shape == (2, 9, DIM) and out.codes.shape == (2, 9)


@pytest.mark.parametrize("kind", kinds())
def test_modules_may_be_made_without_memory(kind: str) -> None:
    source = make(kind)
    file = io.BytesIO()
    torch.save(source.state_dict(), file)
    z = torch.randn(2, 9, DIM)
    expected = source.eval()(z)

    def load() -> dict[str, Tensor]:
        file.seek(0)
        return torch.load(file)

    with torch.device("meta"):
        assigned, emptied = (build(kind, Settings(SIZE, DIM)) for _ in range(2))
    assigned.load_state_dict(load(), assign=True)
    emptied.to_empty(device="cpu").load_state_dict(load())
    for found in (assigned, emptied):
        found.reset_histogram()
        assert torch.equal(found.eval()(z).quantized, expected.quantized)
        assert found.initialized
        found.train()(z)
        found.update_codebook()
        assert float(found.histogram.sum()) == 18
        assert {each.device.type for each in (*found.parameters(), *found.buffers())} == {"cpu"}


def test_states_may_arrive_name_by_name() -> None:
    source = make("em")
    assert isinstance(source, EMVectorQuantizer)
    source.freeze(torch.tensor([2]))
    with torch.device("meta"):
        target = build("em", Settings(SIZE, DIM))
    for name, value in source.state_dict().items():
        target.load_state_dict({name: value}, strict=False, assign=True)
    assert target.initialized and isinstance(target, EMVectorQuantizer)
    assert all(torch.equal(target.state_dict()[name], value) for name, value in source.state_dict().items())


@pytest.mark.parametrize("kind", kinds())
def test_what_is_in_no_file_is_filled_where_memory_was_empty(kind: str) -> None:
    with torch.device("meta"):
        quantizer = build(kind, Settings(SIZE, DIM))
    # As `to_empty` does, with something in memory.
    quantizer._apply(lambda each: torch.full_like(each, 7, device="cpu"))
    assert not quantizer.histogram.any() and not quantizer.revived.any()
    if isinstance(quantizer, FiniteScalarQuantizer):
        assert int(quantizer.levels.prod()) == SIZE


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs another device than the CPU")
@pytest.mark.parametrize("kind", kinds())
def test_a_module_without_memory_goes_where_its_state_is(kind: str) -> None:
    state = make(kind).cuda().state_dict()
    with torch.device("meta"):
        quantizer = build(kind, Settings(SIZE, DIM))
    quantizer.load_state_dict(state, assign=True)
    assert {each.device.type for each in (*quantizer.parameters(), *quantizer.buffers())} == {"cuda"}


def test_new_parameters_leave_nothing_of_what_was_in_memory() -> None:
    with torch.device("meta"):
        quantizer = EMVectorQuantizer(SIZE, DIM)
    quantizer.to_empty(device="cpu")
    for buffer in quantizer.buffers():
        buffer.fill_(7)
    quantizer.reset_parameters()
    for state in (quantizer.frozen, quantizer.histogram, quantizer.revived, quantizer.skipped):
        assert not state.any()
    assert not quantizer.initialized


def test_a_state_of_sixteen_bits_is_kept_in_fp32() -> None:
    source = make("hard").eval()
    state = {
        name: value.bfloat16() if value.is_floating_point() else value
        for name, value in source.state_dict().items()
    }
    target = build("hard", Settings(SIZE, DIM))
    target.load_state_dict(state, assign=True)
    assert target.codebook.dtype == torch.float32
    assert target(torch.randn(5, DIM)).quantized.dtype == torch.float32


@pytest.fixture(params=[torch.float64, torch.bfloat16])
def default_type(request: pytest.FixtureRequest) -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(before)


def line(low: float, high: float, *shape: int) -> Tensor:
    """Numbers that are the same whatever the default type is."""
    return torch.linspace(low, high, math.prod(shape), dtype=torch.float32).view(shape)


def run(kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, output and codebook of a few steps, with codes that are stale."""
    quantizer = build(kind, Settings(SIZE, 6, decay=0.1, revival_threshold=0.9))
    for parameter in quantizer.parameters():
        parameter.data = line(-1, 1, *parameter.shape)
    if isinstance(quantizer, EMVectorQuantizer):
        quantizer.set_codebook(line(-1, 1, SIZE, 6))
    if kind == "simvq":
        quantizer.basis = line(-1, 1, SIZE, 6)
    z = line(-2, 2, 90, 6).requires_grad_()
    torch.manual_seed(2)
    for _ in range(3):
        out = quantizer(z)
        (out.quantized.square().sum() + out.commitment_loss).backward()
        quantizer.update_codebook()
    return out.codes, out.quantized.detach(), quantizer.codebook.detach()


# Gumbel-softmax has layers in the default type, and draws in it.
@pytest.mark.parametrize("kind", [kind for kind in kinds() if kind != "gumbel"])
def test_default_types_change_nothing(kind: str, default_type: torch.dtype) -> None:
    found = run(kind)
    torch.set_default_dtype(torch.float32)
    for one, other in zip(found, run(kind), strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


@pytest.mark.parametrize("kind", kinds())
def test_a_look_in_inference_mode_counts_for_nothing(kind: str) -> None:
    quantizer = make(kind)
    z = torch.randn(30, DIM)
    with torch.inference_mode():
        quantizer(z)
    quantizer.discard()
    assert float(quantizer.histogram.sum()) == 0
    quantizer(z)
    quantizer.update_codebook()
    assert float(quantizer.histogram.sum()) == 30
    quantizer.load_state_dict(quantizer.state_dict())


@pytest.mark.parametrize("kind", kinds())
def test_codes_are_found_in_training_as_in_evaluation(kind: str) -> None:
    quantizer = make(kind)
    z = torch.randn(3, 30, DIM)
    before = torch.get_rng_state()
    codes = quantizer.encode(z)
    assert quantizer.training and torch.equal(torch.get_rng_state(), before)
    assert float(quantizer.histogram.sum()) == 0
    assert torch.equal(codes, quantizer.eval()(z).codes)


@pytest.mark.parametrize("kind", kinds())
def test_codes_are_looked_up_alike_under_autocast(kind: str) -> None:
    torch.manual_seed(0)
    quantizer = build(kind, Settings(SIZE, 6)).eval()
    quantizer.initialize_codebook(torch.randn(200, 6))
    codes = torch.arange(SIZE)
    expected = quantizer.lookup(codes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = quantizer.lookup(codes)
    assert found.dtype == torch.float32 and torch.equal(found, expected)


def test_settings_of_a_chain_are_those_of_its_levels() -> None:
    chain = ResidualEMQuantizer(3, SIZE, DIM)
    changes = dict(
        assignment="posterior", samples=3, temperature=9.0, decay=0.5, revival=False, revival_threshold=0.1
    )
    for name, value in changes.items():
        setattr(chain, name, value)
        assert (
            [getattr(level, name) for level in chain.quantizers] == [value] * 3 == [getattr(chain, name)] * 3
        )


def test_an_assignment_that_is_none_is_refused() -> None:
    quantizer = make("hard")
    quantizer.assignment = "nearest"  # type: ignore[assignment]
    with pytest.raises(ValueError, match="assignment is 'nearest', must be 'hard', 'monte_carlo' or 'post"):
        quantizer(torch.randn(3, DIM))


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_codes_stay_when_averages_follow_lloyd_steps(distance: str, loaded: bool) -> None:
    torch.manual_seed(0)
    quantizer = EMVectorQuantizer(64, DIM, decay=0.0, revival=False, distance=distance)
    z = torch.nn.functional.normalize(torch.randn(400, DIM), dim=1)
    quantizer.initialize_codebook(z)
    quantizer(z[:40])
    quantizer.update_codebook()
    before = quantizer.codebook.clone()
    unvisited = quantizer.counts[0] == 0
    assert 10 < int(unvisited.sum()) < 64
    if loaded:
        state = quantizer.state_dict()
        quantizer = EMVectorQuantizer(64, DIM, decay=0.9, revival=False, distance=distance)
        quantizer.load_state_dict(state)
    else:
        quantizer.decay = 0.9
    for _ in range(3):
        quantizer(z[:40])
        quantizer.update_codebook()
    torch.testing.assert_close(quantizer.codebook[unvisited], before[unvisited], rtol=1e-3, atol=1e-3)


def test_a_random_start_is_loaded_as_it_is() -> None:
    source, target = (EMVectorQuantizer(SIZE, DIM, init="random") for _ in range(2))
    target.load_state_dict(source.state_dict())
    assert all(torch.equal(value, target.state_dict()[name]) for name, value in source.state_dict().items())


def test_copies_that_lose_what_they_collect_are_refused() -> None:
    """`torch.nn.DataParallel` makes them for each forward."""
    quantizer = make("em").train()
    copy = quantizer._replicate_for_data_parallel()  # type: ignore[no-untyped-call]
    copy._buffers = dict(quantizer._buffers)
    with pytest.raises(RuntimeError, match="codes would never move; use DistributedDataParallel"):
        copy(torch.randn(3, DIM))
    assert copy.eval()(torch.randn(3, DIM)).codes.shape == (3,)


def test_codes_may_come_from_numpy_and_lengths_may_not_be_a_list() -> None:
    quantizer = make("em")
    assert isinstance(quantizer, EMVectorQuantizer)
    codes = torch.randn(quantizer.codebook.shape)
    quantizer.set_codebook(codes.numpy())  # type: ignore[arg-type]
    assert torch.equal(quantizer.codebook, codes)
    with pytest.raises(ValueError, match="lengths is a list, must be a tensor of integers"):
        quantizer(torch.randn(2, 3, DIM), lengths=[3, 2])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(2, 4, 9), r"codes has shape \(2, 4, 9\), must be \(\.\.\., 1 to 4\)"),
        (torch.zeros(()), r"codes has shape \(\), must be"),
    ],
)
def test_codes_of_more_levels_than_there_are_are_refused(codes: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResidualEMQuantizer(4, SIZE, DIM).lookup(codes.long())


def test_codes_of_other_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"codes has shape \(5, 7\), must be \(\.\.\., 2\)"):
        EMVectorQuantizer(SIZE, DIM, blocks=2).lookup(torch.zeros(5, 7, dtype=torch.int64))


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("code", [-1, SIZE])
def test_there_are_no_codes_beyond_the_codebook(kind: str, code: int) -> None:
    with pytest.raises(IndexError):
        make(kind).lookup(torch.tensor([0, code]))


@pytest.mark.parametrize("length", [-1, 7])
def test_lengths_beyond_the_sequence_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"lengths has {length}, must be from 0 to z's 6 positions"):
        make("hard")(torch.randn(2, 6, DIM), lengths=torch.tensor([6, length]))


def test_sizes_may_be_whole_numbers_of_any_type() -> None:
    quantizer = EMVectorQuantizer(np.int64(8), np.int32(4))
    assert (type(quantizer.codebook_size), quantizer.dim) == (int, 4)
    assert FiniteScalarQuantizer([np.int64(3), 4]).codebook_size == 12
    for size in (8.0, True, "8"):
        with pytest.raises(ValueError, match="codebook_size is"):
            EMVectorQuantizer(size, 4)  # type: ignore[arg-type]


def test_a_grid_that_is_too_large_to_be_counted_is_refused() -> None:
    with pytest.raises(ValueError, match=r"levels is .*, must be integers with a product of at most 16,777"):
        FiniteScalarQuantizer([9] * 32)


class OnGPU(TorchFunctionMode):
    """As if new tensors were on a GPU: a generator on the CPU wants to hear where it draws."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.randperm, torch.randn) and kwargs.get("generator") is not None:
            assert kwargs.get("device") == "cpu"
        if func is Tensor.exponential_ and kwargs.get("generator") is not None:
            assert args[0].device.type == "cpu"
        if func is torch.empty and not kwargs.get("device"):
            raise AssertionError(args)
        return func(*args, **kwargs)


@pytest.mark.parametrize("vectors", [400, 1])
def test_a_start_draws_on_the_cpu_whatever_is_the_default(vectors: int) -> None:
    quantizer = EMVectorQuantizer(2, DIM)
    with OnGPU():
        quantizer.initialize_codebook(torch.randn(vectors, DIM))
    assert quantizer.initialized


@pytest.mark.parametrize("size", [8, 37])
@pytest.mark.parametrize("assignment", EM)
def test_encoders_go_to_onnx(size: int, assignment: str, tmp_path: Any) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    torch.manual_seed(0)
    quantizer = EMVectorQuantizer(size, DIM, assignment, init="random").eval()

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quantizer = quantizer

        def forward(self, z: Tensor) -> Tensor:
            return self.quantizer(z).codes

    path, z = tmp_path / "encoder.onnx", torch.randn(50, DIM)
    rows = {"z": {0: "n"}}
    torch.onnx.export(Encoder(), (z,), str(path), input_names=["z"], dynamo=False, dynamic_axes=rows)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    more = torch.randn(70, DIM)
    [codes] = session.run(None, {"z": more.numpy()})
    assert torch.equal(torch.from_numpy(codes), quantizer.encode(more))
