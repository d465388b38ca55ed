"""What holds for every kind of quantiser, and how a kind is added."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from vqnat_plugin.bottleneck import Quantizer, Settings, build, kinds

SIZE, DIM = 24, 4
METRICS = {"usage", "perplexity", "posterior_entropy", "distinct_codes", "commitment"}


def make(kind: str, **options: object) -> Quantizer:
    """A quantiser of any kind, with its start."""
    torch.manual_seed(0)
    quantizer = build(kind, Settings(SIZE, DIM, **options))  # type: ignore[arg-type]
    quantizer.initialize_codebook(torch.randn(200, DIM))
    return quantizer


def state(quantizer: Quantizer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in quantizer.state_dict().items()}


@pytest.mark.parametrize("kind", kinds())
def test_outputs_have_the_same_form_for_all_kinds(kind: str) -> None:
    quantizer = make(kind)
    z = torch.randn(2, 9, DIM, requires_grad=True)
    out = quantizer(z)
    quantized, codes, loss = out
    assert quantized is out.quantized and codes is out.codes and loss is out.commitment_loss
    assert quantized.shape == z.shape and codes.shape == (2, 9) and codes.dtype == torch.int64
    assert loss.dim() == 0 and loss.dtype == torch.float32
    assert set(out.metrics) == METRICS
    assert all(value.dim() == 0 and not value.requires_grad for value in out.metrics.values())
    assert out.soft_codes.shape == (2, 9, SIZE)
    torch.testing.assert_close(out.soft_codes.sum(-1), torch.ones(2, 9))
    (quantized.square().sum() + loss).backward()
    assert z.grad is not None and bool(z.grad.isfinite().all()) and float(z.grad.abs().sum()) > 0
    for parameter in quantizer.parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().sum()) > 0


@pytest.mark.parametrize("kind", kinds())
def test_evaluation_looks_codes_up(kind: str) -> None:
    quantizer = make(kind).eval()
    z = torch.randn(3, 5, DIM)
    out = quantizer(z)
    assert torch.equal(quantizer.encode(z), out.codes)
    torch.testing.assert_close(quantizer.lookup(out.codes), out.quantized, rtol=0, atol=1e-6)
    assert quantizer.codebook.shape == (SIZE, DIM)
    torch.testing.assert_close(quantizer.codebook[out.codes], out.quantized, rtol=0, atol=1e-6)
    every = torch.arange(SIZE)
    torch.testing.assert_close(quantizer.lookup(every), quantizer.codebook, rtol=0, atol=1e-6)


@pytest.mark.parametrize("filling", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", kinds())
def test_padding_never_matters(kind: str, filling: float) -> None:
    quantizer = make(kind).eval()
    z, mask = torch.randn(4, 6, DIM), torch.rand(4, 6) < 0.5
    spoilt = torch.where(mask[..., None], z, filling).requires_grad_()
    one, other, short = quantizer(z, mask), quantizer(spoilt, mask), quantizer(z[mask])
    for name in ("quantized", "codes", "commitment_loss"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert bool((other.quantized[~mask] == 0).all()) and bool((other.codes[~mask] == 0).all())
    torch.testing.assert_close(one.quantized[mask], short.quantized)
    torch.testing.assert_close(one.commitment_loss, short.commitment_loss)
    torch.testing.assert_close(one.metrics, short.metrics)
    (other.quantized.sum() + other.commitment_loss).backward()
    assert spoilt.grad is not None and bool(spoilt.grad.isfinite().all())


@pytest.mark.parametrize("kind", kinds())
def test_what_a_batch_without_effect_leaves(kind: str) -> None:
    quantizer = make(kind)
    before = state(quantizer)
    quantizer(torch.randn(7, DIM), accumulate=False)
    assert not quantizer.update_codebook()
    assert float(quantizer.histogram.sum()) == 0
    quantizer(torch.randn(7, DIM))
    quantizer.discard()
    assert not quantizer.update_codebook()
    assert all(torch.equal(value, before[name]) for name, value in state(quantizer).items())
    quantizer.reset_histogram()
    quantizer(torch.randn(7, DIM))
    quantizer.update_codebook()
    assert float(quantizer.histogram.sum()) == pytest.approx(7)


@pytest.mark.parametrize("kind", kinds())
def test_a_state_goes_through_safetensors(kind: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    save_file = pytest.importorskip("safetensors.torch").save_file
    load_file = pytest.importorskip("safetensors.torch").load_file
    quantizer = make(kind)
    quantizer(torch.randn(30, DIM))
    quantizer.update_codebook()
    save_file(quantizer.state_dict(), tmp_path / "quantizer.safetensors")
    other = build(kind, Settings(SIZE, DIM))
    other.load_state_dict(load_file(tmp_path / "quantizer.safetensors"))
    assert other.initialized
    z = torch.randn(9, DIM)
    assert torch.equal(other.eval()(z).quantized, quantizer.eval()(z).quantized)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", kinds())
def test_a_model_of_another_precision(kind: str, dtype: torch.dtype) -> None:
    quantizer = make(kind).to(dtype)
    z = torch.randn(50, DIM, dtype=dtype, requires_grad=True)
    out = quantizer(z)
    assert out.quantized.dtype == dtype and out.commitment_loss.dtype == torch.float32
    (out.quantized.float().square().sum() + out.commitment_loss).backward()
    assert z.grad is not None and bool(z.grad.isfinite().all())
    quantizer.update_codebook()
    # Counts are many, and not to be rounded.
    assert quantizer.histogram.dtype == torch.float64
    assert float(quantizer.histogram.sum()) == pytest.approx(50, abs=1e-9)
    codes = quantizer.eval()(z).codes
    assert quantizer.lookup(codes).shape == z.shape and quantizer.codebook.shape == (SIZE, DIM)


def test_settings_reach_the_kinds() -> None:
    em = make("em", samples=3, temperature=2.0, decay=0.5, epsilon=0.1, commitment_weight=0.7)
    assert (em.samples, em.temperature, em.decay, em.epsilon, em.commitment_weight) == (3, 2.0, 0.5, 0.1, 0.7)
    assert make("em", init="random").initialized
    assert make("em", revival_threshold=0.2).revival_threshold == 0.2
    assert make("em", revival_threshold=0.0).revival is False
    gumbel = make("gumbel", relaxation=0.4, commitment_weight=0.5, divergence_scale=0.5)
    assert (gumbel.temperature, gumbel.kl_weight) == (0.4, 0.25)
    for kind in ("gradient", "simvq"):
        assert make(kind, commitment_weight=0.7).commitment_weight == 0.7


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_all_kinds_take_the_same_calls(kind: str) -> None:
    quantizer = build(kind, Settings(8, 4, channels="first"))
    z = torch.randn(3, 4, 6)
    quantizer.initialize_codebook(z, lengths=torch.tensor([6, 2, 4]), lloyd_steps=1)
    out = quantizer(z, lengths=torch.tensor([6, 2, 4]))
    assert out.quantized.shape == z.shape and out.codes.shape == (3, 6)
    quantizer.update_codebook(group=None)
    quantizer.discard()
    quantizer.reset_histogram()


def test_schedules() -> None:
    settings = Settings(SIZE, DIM, hard_from=5, revival_until=8)
    quantizer = build("em", settings)
    seen = []
    for update in range(10):
        quantizer.schedule(settings, update)
        seen.append((quantizer.assignment, quantizer.revival))
    assert seen == [("monte_carlo", True)] * 5 + [("hard", True)] * 3 + [("hard", False)] * 2
    for kind in kinds():
        make(kind).schedule(Settings(SIZE, DIM), 10**6)
    quantizer = make("em")
    quantizer.schedule(Settings(SIZE, DIM), 10**6)
    assert (quantizer.assignment, quantizer.revival) == ("monte_carlo", True)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"kind is 'nosuch', must be one of .*, em"):
        build("nosuch", Settings(SIZE, DIM))
    with pytest.raises(ValueError, match="channels is 'middle'"):
        build("em", Settings(SIZE, DIM)).__class__(SIZE, DIM, channels="middle")


def test_a_new_kind_is_one_file_and_one_line(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "signs.py").write_text(
        "import torch\n"
        "from vqnat_plugin.bottleneck.parameter_codebook import ParameterCodebook\n"
        "from vqnat_plugin.bottleneck.registry import register\n"
        "from vqnat_plugin.bottleneck.rotation import straight_through\n"
        "class Signs(ParameterCodebook):\n"
        "    def __init__(self, dim):\n"
        "        super().__init__(2**dim, dim)\n"
        "        self.make_histogram()\n"
        "    def quantize(self, z, mask, accumulate):\n"
        "        codes = ((z > 0) << torch.arange(self.dim)).sum(-1)\n"
        "        loss = torch.zeros(())\n"
        "        found = straight_through(z, self.lookup(codes))\n"
        "        return self.output(found, codes, codes, mask, accumulate, loss, {'commitment': loss})\n"
        "    def lookup(self, codes):\n"
        "        return (codes[..., None] >> torch.arange(self.dim)) % 2 * 2.0 - 1\n"
        "    @property\n"
        "    def codebook(self):\n"
        "        return self.lookup(torch.arange(self.codebook_size))\n"
        "@register('signs', 'one bit a value')\n"
        "def build(settings):\n"
        "    return Signs(settings.dim)\n"
    )
    program = (
        "import signs, torch\n"
        "from vqnat_plugin.models.quantized import BottleneckConfig\n"
        "from vqnat_plugin.models.vq_vae import VQVAE, VQVAEConfig\n"
        "config = VQVAEConfig(bottleneck='signs', codebook_size=16, code_dim=4, channels=8,"
        " residual_blocks=0, unquantized_updates=0)\n"
        "model = VQVAE(config, 8)\n"
        "images = torch.randint(0, 256, (2, 3, 8, 8))\n"
        "model(images).losses['pixels'].backward()\n"
        "assert model.encode_codes(images).max() < 16\n"
        "assert 'signs' in BottleneckConfig.__dataclass_fields__['bottleneck'].metadata['help']\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
