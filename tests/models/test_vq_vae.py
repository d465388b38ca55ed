"""The image autoencoder: shapes, losses, gradients, options; codes there and back."""

import dataclasses
import itertools

import pytest
import torch
from tiny_images import SIZE, make_images, tiny_autoencoder

from vqnat_plugin.bottleneck import (
    EMVectorQuantizer,
    FiniteScalarQuantizer,
    GradientQuantizer,
    GumbelQuantizer,
    SimVQQuantizer,
    kinds,
)
from vqnat_plugin.errors import UsageError
from vqnat_plugin.models.options import complete
from vqnat_plugin.models.vq_vae import VQVAE, VQVAEConfig
from vqnat_plugin.modules.likelihood import to_unit


def images(count: int = 5, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(make_images(count, seed))


@pytest.mark.parametrize("latents", [1, 3])
def test_shapes(latents: int) -> None:
    model = tiny_autoencoder(latents_per_position=latents)
    assert model.codes_shape == (2, 2, latents)
    codes = model.encode_codes(images())
    assert codes.shape == (5, 2, 2, latents) and int(codes.max()) < 6
    features = model.decode_codes(codes)
    assert features.shape == (5, model.likelihood.parameters_per_pixel, SIZE, SIZE)
    # Row by row, the codes of a position together.
    pixels = to_unit(images())
    vectors = model.encoder.layers(pixels) + model.encoder.linear(pixels)
    z = model.encode(images()).view(5, 2, 2, latents, 4)
    for row, column in itertools.product(range(2), range(2)):
        expected = model.encoder.norm(vectors[:, :, row, column]).view(5, latents, 4)
        torch.testing.assert_close(z[:, row, column], expected)


def test_linear_path_reaches_just_the_pixels_of_its_position() -> None:
    model = tiny_autoencoder()
    torch.nn.init.zeros_(model.decoder.layers[-1].weight)
    latents = torch.randn(1, 4, 4)
    before = model.decode(latents)
    latents[:, 2] += 1  # row 1, column 0 of the grid
    changed = (model.decode(latents) != before).any(1)[0]
    assert changed[4:, :4].all() and changed.sum() == 16
    assert not VQVAE(model.config, SIZE).decoder.linear.weight.any()


def test_losses_are_likelihood_and_commitment() -> None:
    model = tiny_autoencoder().train()
    out = model(images())
    z = model.encode(images())
    quantized = model.quantizer(z, accumulate=False)
    expected = model.likelihood.log_probability(model.decode(quantized.quantized), images()).sum()
    torch.testing.assert_close(out.losses["pixels"], -expected)
    torch.testing.assert_close(out.losses["commitment"], quantized.commitment_loss)
    assert out.codes == 5 * 4


def test_evaluation_decodes_the_codes_themselves() -> None:
    model = tiny_autoencoder()
    found = model(images()).losses["pixels"]
    decoded = model.decode_codes(model.encode_codes(images()))
    torch.testing.assert_close(found, -model.likelihood.log_probability(decoded, images()).sum())


@pytest.mark.parametrize("bottleneck", kinds())
def test_every_parameter_learns_and_codes_move(bottleneck: str) -> None:
    model = tiny_autoencoder(bottleneck=bottleneck).train()
    others = {
        "gumbel": GumbelQuantizer,
        "gradient": GradientQuantizer,
        "simvq": SimVQQuantizer,
        "fsq": FiniteScalarQuantizer,
    }
    assert isinstance(model.quantizer, others.get(bottleneck, EMVectorQuantizer))
    before = model.quantizer.codebook.detach().clone()
    out = model(images())
    sum(out.losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
        assert float(parameter.grad.abs().sum()) > 0, name
    model.update_codebook()
    assert torch.equal(model.quantizer.codebook, before) == (bottleneck in others)
    model.eval()
    decoded = model.decode_codes(model.encode_codes(images()))
    found = model(images()).losses["pixels"]
    torch.testing.assert_close(found, -model.likelihood.log_probability(decoded, images()).sum())


def test_kinds_that_cannot_be_had_are_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match="--bottleneck fsq: --codebook-size is 11, must be a product"):
        tiny_autoencoder(bottleneck="fsq", codebook_size=11)


def test_codebook_starts_from_the_last_update_without_it() -> None:
    model = tiny_autoencoder(unquantized_updates=2, codebook_size=4)
    model.quantizer = EMVectorQuantizer(4, 4)
    model.train()
    for update in range(3):
        model.set_num_updates(update)
        model.discard_statistics()
        out = model(images(8, seed=update))
        assert ("commitment" in out.losses) == (update == 2)
        model.update_codebook()
        assert model.quantizer.initialized == (update >= 1)


def test_digest_belongs_to_the_codebook() -> None:
    first, second = tiny_autoencoder(1), tiny_autoencoder(2)
    assert first.digest() == tiny_autoencoder(1).digest() != second.digest()
    assert 0 <= first.digest() < 2**63


@pytest.mark.parametrize("kind", ["simvq", "fsq"])
def test_digests_do_not_hang_on_rounding(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = dict(bottleneck=kind, codebook_size=8, code_dim=5)
    model = tiny_autoencoder(1, **sizes)
    digest, codes = model.digest(), model.quantizer.codebook.detach()
    # As another processor multiplies matrices.
    monkeypatch.setattr(type(model.quantizer), "codebook", codes * (1 + 1e-7), raising=False)
    assert model.digest() == digest != tiny_autoencoder(2, **sizes).digest()


def test_models_with_the_same_grid_have_digests_of_their_own() -> None:
    """Four numbers of 4 or 5 levels: nothing of that is learnt."""
    sizes = dict(bottleneck="fsq", codebook_size=400, code_dim=4)
    first, second = tiny_autoencoder(1, **sizes), tiny_autoencoder(2, **sizes)
    assert torch.equal(first.quantizer.codebook, second.quantizer.codebook)
    assert first.digest() == tiny_autoencoder(1, **sizes).digest() != second.digest()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 7}, "--channels 7: needs an even number"),
        ({"latents_per_position": 0}, "--latents-per-position 0: needs at least 1"),
        ({"code_dim": 2, "latents_per_position": 1}, "--code-dim 2: needs 3 values a position"),
        ({"mixture_components": 0}, "--mixture-components 0: needs at least 1"),
        ({"codebook_size": 0}, "--codebook-size 0: needs at least 1"),
        ({"em_decay": 1.0}, "--em-decay 1.0: needs a value from 0 to below 1"),
    ],
)
def test_options_out_of_range(changes: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        complete(VQVAEConfig, VQVAEConfig(**changes))


def test_every_option_has_help() -> None:
    for entry in dataclasses.fields(VQVAEConfig):
        assert entry.name == "_name" or entry.metadata["help"], entry.name


@pytest.mark.parametrize("bottleneck", ["em", "fsq", "gradient", "simvq"])
def test_a_model_in_half_precision(bottleneck: str) -> None:
    unquantized = 10 if bottleneck == "em" else 0
    model = tiny_autoencoder(
        bottleneck=bottleneck, codebook_size=8, unquantized_updates=unquantized
    ).bfloat16()
    for update in (0, 20):
        model.set_num_updates(update)
        out = model.train()(images())
        sum(out.losses.values()).backward()
        assert bool(torch.stack(list(out.losses.values())).isfinite().all())
    codes = model.eval().encode_codes(images())
    assert model.decode_codes(codes).dtype == torch.bfloat16


def test_a_divergence_is_paid_once_a_code() -> None:
    model = tiny_autoencoder(bottleneck="gumbel", latents_per_position=3).train()
    out = model(images())
    dimensions = images().numel()
    paid = model.config.commitment_weight * out.metrics["commitment"] * out.codes
    torch.testing.assert_close(out.losses["commitment"] * dimensions, paid)
