"""Registry, sizes, help and ranges of the translation model's options."""

import argparse
import dataclasses
from typing import Any

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_MODEL_NAME_REGISTRY, ARCH_MODEL_REGISTRY
from tiny import TRAINING, parse, tiny_config

from vqnat_plugin.errors import UsageError
from vqnat_plugin.models.options import complete
from vqnat_plugin.models.vq_nat import VQNAT
from vqnat_plugin.models.vq_nat_config import SIZES, VQNATConfig

ARCHITECTURES = (
    "vq_nat_em",
    "vq_nat_em_tiny",
    "vq_nat_em_small",
    "vq_nat_em_small_6_1_3",
    "vq_nat_em_small_6_2_3",
    "vq_nat_em_6_1_3",
    "vq_nat_em_big",
)


class Task:
    """A task with a dictionary of 50 words and nothing else."""

    drives_vq_nat = True

    def __init__(self) -> None:
        self.source_dictionary = self.target_dictionary = Dictionary()
        for number in range(46):
            self.source_dictionary.add_symbol(f"w{number}")


def model_options(arch: str, *flags: str) -> Any:
    """What fairseq passes to `build_model` for an architecture."""
    words = f"data --task translation_vq --arch {arch} --criterion vq_nat_loss {TRAINING}".split()
    return parse([*words, *flags]).model


def test_all_architectures_are_registered() -> None:
    assert {name for name, model in ARCH_MODEL_REGISTRY.items() if model is VQNAT} == set(ARCHITECTURES)
    assert {ARCH_MODEL_NAME_REGISTRY[name] for name in ARCHITECTURES} == {"vq_nat_em"}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_architecture_builds_with_its_sizes(arch: str) -> None:
    with torch.device("meta"):
        model = VQNAT.build_model(model_options(arch), Task())
    expected = {**dataclasses.asdict(VQNATConfig()), **SIZES.get(arch, {})}
    expected.pop("_name")
    assert {name: getattr(model.config, name) for name in expected} == expected
    assert model.quantizer.codebook.shape == (expected["codebook_size"], expected["embed_dim"])
    assert len(model.encoder.layers) == expected["encoder_layers"]
    assert model.quantizer.decay == expected["em_decay"]


def test_base_is_the_model_of_the_paper() -> None:
    base = VQNATConfig()
    assert (base.embed_dim, base.ffn_dim, base.attention_heads) == (512, 4096, 4)
    assert (base.encoder_layers, base.predictor_layers, base.decoder_layers) == (6, 6, 6)
    assert (base.codebook_size, base.em_samples, base.em_decay, base.em_temperature) == (4096, 10, 0.999, 1.0)
    assert (base.commitment_weight, base.compress_steps, base.dropout, base.conv_dropout) == (
        0.25,
        3,
        0.1,
        0.2,
    )


def test_flags_win_over_the_architecture() -> None:
    config = complete(
        VQNATConfig,
        model_options("vq_nat_em_big", "--embed-dim", "64", "--dropout", "0.5", "--bottleneck", "hard"),
    )
    assert (config.embed_dim, config.dropout, config.attention_heads) == (64, 0.5, 16)
    assert config.bottleneck == "hard"


def test_every_option_has_help() -> None:
    for field in dataclasses.fields(VQNATConfig):
        if field.name != "_name":
            assert len(field.metadata.get("help", "")) > 10, field.name


def test_every_option_is_a_flag() -> None:
    parser = argparse.ArgumentParser()
    VQNAT.add_args(parser)
    shown = parser.format_help()
    for field in dataclasses.fields(VQNATConfig):
        if field.name != "_name":
            assert f"--{field.name.replace('_', '-')} " in shown


OUT_OF_RANGE = {
    "embed_dim": 0, "ffn_dim": 0, "attention_heads": 3, "encoder_layers": 0, "predictor_layers": 0,
    "decoder_layers": -1, "compressor_layers": -1, "dropout": 1.0, "attention_dropout": -0.1,
    "conv_dropout": 1.5, "codebook_size": 0, "code_dim": -1, "compress_steps": 7, "em_samples": 0,
    "em_temperature": 0.0, "em_decay": 1.0, "em_epsilon": 0.0, "commitment_weight": -0.25,
    "code_revival": 1.0, "code_revival_until": -1, "unquantized_updates": -1, "em_hard_from": -1,
    "gold_mixing_updates": 5, "latent_weight": -1.0, "latent_start": -1, "label_smoothing": 1.0,
    "gumbel_temperature": 0.0,
}  # fmt: skip
NOT_FINITE = ("em_temperature", "commitment_weight", "latent_weight", "dropout", "em_epsilon")


def test_every_number_has_a_range() -> None:
    numbers = {field.name for field in dataclasses.fields(VQNATConfig) if field.type in (int, float)}
    assert numbers == set(OUT_OF_RANGE)


@pytest.mark.parametrize(
    ("name", "value"),
    [*OUT_OF_RANGE.items(), *((name, float(value)) for name in NOT_FINITE for value in ("inf", "nan"))],
)
def test_value_out_of_range_is_refused_by_flag_and_value(name: str, value: float) -> None:
    with pytest.raises(UsageError) as caught:
        tiny_config(**{name: value})
    message = str(caught.value)
    assert message.startswith(f"--{name.replace('_', '-')} {value}: needs ") and "\n" not in message


def test_kinds_that_nobody_has_registered_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^--bottleneck mien: needs one of .*\bem\b"):
        tiny_config(bottleneck="mien")


@pytest.mark.parametrize("name", ["codebook_init", "decoder_attention", "predictor_gradient"])
def test_unknown_choice_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    flag = f"--{name.replace('_', '-')}"
    with pytest.raises(SystemExit):
        model_options("vq_nat_em", flag, "nonsense")
    assert flag in capsys.readouterr().err


@pytest.mark.parametrize("dim", [1, 2])
def test_codes_that_normalisation_leaves_nothing_of_are_refused(dim: int) -> None:
    message = f"--code-dim {dim}: needs at least 3, since vectors are normalised"
    with pytest.raises(UsageError, match=message):
        tiny_config(code_dim=dim)
    tiny_config(code_dim=3)


def test_values_within_range_pass() -> None:
    tiny_config(em_decay=0.0, code_revival=0.0, dropout=0.99, compress_steps=0, codebook_size=1, code_dim=7)
    tiny_config(decoder_attention="causal", gold_mixing_updates=5)
