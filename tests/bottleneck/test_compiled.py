"""Compiled and recorded quantisers do what those of Python do."""

import io
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from vqnat_plugin.bottleneck import (
    EMVectorQuantizer,
    Quantizer,
    QuantizerOutput,
    ResidualEMQuantizer,
    Settings,
    build,
    kinds,
)
from vqnat_plugin.bottleneck.operators import nearest_codes

SIZE, DIM = 32, 4
KINDS = [*kinds(), "cosine", "blocks", "residual"]
# The others share most of their operations with one of these.
FIRST = {"em", "hard", "fsq", "residual"}
SOME = [pytest.param(kind, marks=[] if kind in FIRST else pytest.mark.slow) for kind in KINDS]


def make(kind: str) -> Quantizer:
    torch.manual_seed(0)
    quantizer: Quantizer
    if kind == "cosine":
        quantizer = EMVectorQuantizer(SIZE, DIM, "monte_carlo", distance="cosine", decay=0.9)
    elif kind == "blocks":
        quantizer = EMVectorQuantizer(SIZE, DIM, blocks=2, decay=0.0)
        quantizer.freeze(torch.tensor([3]))
    elif kind == "residual":
        quantizer = ResidualEMQuantizer(2, SIZE, DIM, assignment="hard", level_dropout=0.5, decay=0.9)
    else:
        quantizer = build(kind, Settings(SIZE, DIM, decay=0.9))
    quantizer.initialize_codebook(torch.randn(200, DIM))
    return quantizer


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    # Random numbers in the order of Python's.
    with torch._inductor.config.patch(fallback_random=True):
        yield
    torch._dynamo.reset()


def check(kind: str, backend: str, sizes: tuple[int, ...]) -> None:
    """Trains a quantiser with and without compilation, on batches of these sizes, and compares everything."""
    plain, compiled = make(kind), make(kind)

    def m_step() -> bool | Tensor:
        return compiled.update_codebook()

    forward = torch.compile(compiled, fullgraph=True, backend=backend)
    update = torch.compile(m_step, fullgraph=True, backend=backend)
    for number, size in enumerate(sizes):
        torch.manual_seed(number)
        z, mask = torch.randn(2, size, DIM), torch.rand(2, size) < 0.7
        results = []
        steps: list[tuple[Callable[..., QuantizerOutput], Callable[[], bool | Tensor]]] = [
            (plain, plain.update_codebook),
            (forward, update),
        ]
        for quantizer, m_step_ in steps:
            torch.manual_seed(100 + number)
            z_ = z.clone().requires_grad_()
            out = quantizer(z_, mask)
            (out.quantized.square().sum() + out.commitment_loss).backward()
            results.append((out.quantized, out.commitment_loss, out.metrics, z_.grad, out.soft_codes))
            codes = out.codes
            moved = m_step_()
            results.append((codes, bool(moved)))
        torch.testing.assert_close(results[0], results[2])
        assert torch.equal(results[1][0], results[3][0]) and results[1][1] == results[3][1]
        torch.testing.assert_close(plain.state_dict(), compiled.state_dict())
        torch.testing.assert_close(plain.histogram, compiled.histogram)
    plain.eval(), compiled.eval()
    torch.testing.assert_close(plain(z, mask).quantized, forward(z, mask).quantized)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("kind", SOME)
def test_whole_graphs_give_the_same_results(kind: str) -> None:
    check(kind, "aot_eager", (20, 30))


@pytest.mark.usefixtures("fresh_compiler")
def test_codes_that_were_loaded_are_not_started_anew() -> None:
    trained, loaded = (EMVectorQuantizer(SIZE, DIM, decay=0.9, update="forward") for _ in range(2))
    trained(torch.randn(200, DIM))
    loaded.load_state_dict(trained.state_dict())
    torch.compile(loaded, fullgraph=True, backend="aot_eager")(torch.randn(20, DIM))
    torch.testing.assert_close(loaded.state_dict(), trained.state_dict())


@pytest.mark.usefixtures("fresh_compiler")
def test_levels_that_were_loaded_are_dropped() -> None:
    trained, loaded = (ResidualEMQuantizer(2, SIZE, DIM, level_dropout=1.0) for _ in range(2))
    trained.initialize_codebook(torch.randn(200, DIM))
    loaded.load_state_dict(trained.state_dict())
    out = torch.compile(loaded, fullgraph=True, backend="aot_eager")(torch.randn(200, 3, DIM))
    assert bool((out.codes == -1).any())


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("kind", KINDS)
def test_inductor_gives_the_same_results(kind: str) -> None:
    check(kind, "inductor", (20, 20, 30, 44, 7))


@pytest.mark.usefixtures("fresh_compiler")
def test_batches_of_any_size_share_a_graph() -> None:
    graphs = []

    def count(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    quantizer = make("em")
    forward = torch.compile(quantizer, fullgraph=True, backend=count)
    forward(torch.randn(20, DIM))
    quantizer.update_codebook()
    for size in (30, 44, 51, 17, 1000, 3):
        forward(torch.randn(size, DIM))
    # The first shape, the same with statistics of a batch before it, and any shape.
    assert 0 < len(graphs) <= 3


@pytest.mark.usefixtures("fresh_compiler")
def test_statistics_of_no_use_change_nothing_in_a_compiled_m_step() -> None:
    quantizer = make("em")

    def m_step() -> bool | Tensor:
        return quantizer.update_codebook()

    update = torch.compile(m_step, fullgraph=True, backend="aot_eager")
    quantizer(torch.randn(20, DIM))
    assert bool(update())
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    histogram = quantizer.histogram.clone()
    for z, mask in (
        (torch.full((20, DIM), torch.nan), None),
        (torch.full((20, DIM), 1e31), None),
        (torch.randn(20, DIM), torch.zeros(20, dtype=torch.bool)),
    ):
        quantizer(z, mask)
        assert not bool(update())
        assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())
        assert torch.equal(quantizer.histogram, histogram)
    with pytest.warns(UserWarning, match="2 times, statistics of the codebook are not finite"):
        quantizer.reset_histogram()
    quantizer(torch.randn(20, DIM))
    assert bool(update())
    assert all(bool(value.isfinite().all()) for value in quantizer.state_dict().values())


class Tuple(nn.Module):
    """What `torch.jit.trace` can take: tensors alone."""

    def __init__(self, quantizer: Quantizer) -> None:
        super().__init__()
        self.quantizer = quantizer

    def forward(self, z: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.quantizer(z))


@pytest.mark.parametrize("kind", KINDS)
def test_exported_programs_take_batches_of_any_size(kind: str) -> None:
    quantizer = Tuple(make(kind).eval())
    batch = torch.export.Dim("batch", min=1, max=4096)
    exported = torch.export.export(quantizer, (torch.randn(3, 5, DIM),), dynamic_shapes=({0: batch},))
    assert not [node for node in exported.graph.nodes if "vqnat" in str(node.target)]
    for size in (1, 3, 200):
        z = torch.randn(size, 5, DIM)
        torch.testing.assert_close(exported.module()(z), quantizer(z))


def test_a_quantizer_by_itself_is_exported_and_saved() -> None:
    quantizer = make("em").eval()
    dynamic = {"z": {0: torch.export.Dim("batch", min=1, max=4096)}}
    exported = torch.export.export(quantizer, (torch.randn(3, 5, DIM),), dynamic_shapes=dynamic)
    stored = io.BytesIO()
    torch.export.save(exported, stored)
    stored.seek(0)
    z = torch.randn(7, 5, DIM)
    out, expected = torch.export.load(stored).module()(z), quantizer(z)
    assert isinstance(out, QuantizerOutput)
    assert torch.equal(out.quantized, expected.quantized) and torch.equal(out.codes, expected.codes)
    torch.testing.assert_close(out.metrics, expected.metrics)


@pytest.mark.parametrize("kind", KINDS)
def test_traces(kind: str) -> None:
    quantizer = Tuple(make(kind).eval())
    traced = torch.jit.trace(quantizer, (torch.randn(3, 5, DIM),), check_trace=False)
    for shape in ((3, 5, DIM), (7, 2, DIM)):
        z = torch.randn(shape)
        torch.testing.assert_close(traced(z), quantizer(z))


def test_a_trace_needs_nothing_of_this_package(tmp_path) -> None:  # type: ignore[no-untyped-def]
    quantizer = Tuple(make("em").eval())
    z = torch.randn(3, 5, DIM)
    traced = torch.jit.trace(quantizer, (z,), check_trace=False)
    traced.save(tmp_path / "quantizer.pt")
    torch.save((z, quantizer(z)), tmp_path / "expected.pt")
    program = (
        "import sys, torch\n"
        "z, expected = torch.load('expected.pt')\n"
        "torch.testing.assert_close(torch.jit.load('quantizer.pt')(z), expected)\n"
        "assert 'vqnat_plugin' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=tmp_path, check=True)
    exported = torch.export.export(quantizer, (z,))
    stored = io.BytesIO()
    torch.export.save(exported, stored)
    stored.seek(0)
    torch.testing.assert_close(torch.export.load(stored).module()(z), quantizer(z))


@pytest.mark.parametrize("kind", ["em", "hard", "posterior", "cosine", "blocks"])
def test_vmap_of_codes_and_vectors(kind: str) -> None:
    quantizer = make(kind).eval()
    z = torch.randn(5, 6, 3, DIM)
    codes = torch.vmap(quantizer.encode)(z)
    assert torch.equal(codes, quantizer.encode(z))
    assert torch.equal(torch.vmap(torch.vmap(quantizer.encode), in_dims=1, out_dims=1)(z), codes)
    assert torch.equal(torch.vmap(quantizer.lookup)(codes), quantizer.lookup(codes))


def test_vmap_of_codebooks_over_the_same_vectors() -> None:
    torch.manual_seed(0)
    vectors, codebooks = torch.randn(9, DIM), torch.randn(4, 6, DIM)
    found = torch.vmap(nearest_codes, in_dims=(None, 0))(vectors, codebooks)
    assert torch.equal(found, torch.stack([nearest_codes(vectors, each) for each in codebooks]))
    assert torch.equal(torch.vmap(nearest_codes, in_dims=(None, 1))(vectors, codebooks.movedim(0, 1)), found)
