"""The kernel for GPUs against torch's operations, in Triton's interpreter where there is no GPU."""

import os
import subprocess
import sys

import pytest
import torch

from vqnat_plugin.bottleneck import assignment

CHECK = """
import sys
import torch
from vqnat_plugin.bottleneck import assignment

device = torch.device(sys.argv[1])
assignment.has_kernels = lambda chunk: kernels
for size, dim, temperature in ((1, 3, 1.0), (7, 3, 1.0), (64, 2, 0.1), (1000, 4, 0.5), (1500, 4, 30.0)):
    torch.manual_seed(size)
    vectors, codes = torch.randn(11, dim, device=device), torch.randn(size, dim, device=device)
    codes[-1] = codes[0]
    vectors[3] = codes[0]
    uniforms = torch.rand(11, 5, device=device)
    uniforms[0, 0] = 0.0
    found = {}
    for kernels in (False, True):
        nearest = assignment.nearest_codes(vectors, codes, rows=8)
        soft = assignment.sample_codes(vectors, codes, temperature, uniforms, rows=8)
        plain = assignment.sample_codes(vectors, codes, temperature)
        found[kernels] = nearest, soft, plain
    (one, soft, plain), (other, soft_, plain_) = found[False], found[True]
    assert torch.equal(one, other) and torch.equal(soft.nearest, soft_.nearest)
    assert torch.equal(plain.nearest, plain_.nearest) and plain_.samples is None
    torch.testing.assert_close(soft.entropy, soft_.entropy, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(plain.entropy, plain_.entropy, atol=1e-5, rtol=1e-4)
    # The same draws, but where rounding moves the border between two codes past one of them.
    assert (soft.samples == soft_.samples).float().mean() > 0.97, size
    assert 0 <= soft_.samples.min() and soft_.samples.max() < size

# More draws than a block of the kernel may have.
uniforms = torch.rand(9, 2500, device=device)
vectors = torch.randn(9, 4, device=device)
found = []
for kernels in (False, True):
    found.append(assignment.sample_codes(vectors, codes, 0.5, uniforms, rows=8).samples)
assert (found[0] == found[1]).float().mean() > 0.97

kernels = True
vectors = torch.tensor([[float("nan")] * 4, [float("inf"), 0, 0, 0], [1e38] * 4], device=device)
found = assignment.sample_codes(vectors, codes, 1.0, torch.rand(3, 4, device=device))
for values in (found.nearest, found.samples, assignment.nearest_codes(vectors, codes)):
    assert 0 <= values.min() and values.max() < len(codes)
assert assignment.nearest_codes(vectors[:0], codes).shape == (0,)
"""


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_kernel_finds_what_torch_finds(device: str) -> None:
    pytest.importorskip("triton")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    environment = {**os.environ, "TRITON_INTERPRET": "1"} if device == "cpu" else {**os.environ}
    done = subprocess.run(
        [sys.executable, "-c", CHECK, device], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("lanes", [64, 1024])
def test_the_kernel_compiles_for_gpus_that_are_not_here(lanes: int) -> None:
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from vqnat_plugin.bottleneck import triton_search

    kinds = {"scores": "*fp32", "uniforms": "*fp32", "nearest": "*i64", "entropy": "*fp32", "samples": "*i64"}
    kinds |= {"stride": "i64", "size": "i32", "count": "i32", "lowest": "fp32"}
    for draws, soft in ((triton_search.MOST_BLOCK // lanes, True), (0, True), (0, False)):
        constants = {"LANES": lanes, "DRAWS": draws, "SOFT": soft}
        source = ASTSource(
            fn=triton_search._search,
            signature={**kinds, **dict.fromkeys(constants, "constexpr")},
            constexprs=constants,
        )
        assert triton.compile(source, target=GPUTarget("cuda", 80, 32)).asm["cubin"]


def test_where_triton_cannot_build_its_kernels_torch_searches() -> None:
    """Without a GPU it cannot, as without a C compiler."""
    pytest.importorskip("triton")
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    with pytest.warns(UserWarning, match="Triton cannot be used .* codes are searched without its kernels"):
        assert not assignment._builds_kernels.__wrapped__()


def test_kernels_are_for_gpus() -> None:
    assert not assignment.has_kernels(torch.zeros(2, 3))
