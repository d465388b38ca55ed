"""The exported graphs decode as the model does: every shape of model, every option of decoding."""

from pathlib import Path
from typing import Any

import pytest
import torch
from exporting import assert_same, by_torch, exported
from tiny import sentences, tiny_model

from vqnat_plugin.models.vq_nat import VQNAT
from vqnat_plugin.runtime.decoding import Decoding

ROWS = sentences(12, seed=3, longest=30)


def model_of(**changes: Any) -> VQNAT:
    """A random model that ends its sequences now and then: of its logits, that of the end is raised."""
    model = tiny_model(seed=5, **changes)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
        model.predictor.output.bias[-1] += 1
    return model


def check(model: VQNAT, folder: Path, *decodings: Decoding) -> None:
    translator = exported(model, folder)
    for options in decodings:
        assert_same(translator, ROWS, options, by_torch(model, ROWS, options))


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder_layers": 2, "predictor_layers": 3, "decoder_layers": 2},
        {"compress_steps": 0},
        {"compress_steps": 3, "code_dim": 6, "attention_heads": 1},
        {"decoder_attention": "causal"},
        {"compressor_layers": 1, "embed_dim": 24, "attention_heads": 4, "codebook_size": 3},
        {"bottleneck": "gumbel", "start": False},
        {"bottleneck": "fsq", "start": False, "codebook_size": 12},
        {"bottleneck": "simvq", "start": False},
    ],
    ids=lambda changes: "-".join(changes) + str(changes.get("bottleneck", "")),
)
def test_every_shape(changes: dict[str, Any], tmp_path: Path) -> None:
    short = {"max_len_b": 30}
    check(model_of(**changes), tmp_path / "m", Decoding(**short), Decoding(candidates=4, **short))


def test_every_option(tmp_path: Path) -> None:
    check(
        model_of(),
        tmp_path / "m",
        Decoding(max_len_b=0),
        Decoding(max_len_b=0, min_len=0, candidates=3),
        Decoding(max_len_a=0.5, max_len_b=2, candidates=3),
        Decoding(max_len_b=40, min_len=8, candidates=3),
        Decoding(max_len_a=0.3, max_len_b=0, min_len=5),
        Decoding(max_len_b=30, candidates=3, lenpen=0.3),
        Decoding(max_len_b=30, candidates=3, lenpen=-1.0, unkpen=4),
        Decoding(max_len_b=30, unkpen=-4),
        # More than there are sequences of the first codes.
        Decoding(max_len_b=30, candidates=12),
        Decoding(max_len_b=600, min_len=500),
    )
