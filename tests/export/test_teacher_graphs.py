"""Candidates are ranked by the exported teacher as `vqnat generate --rescore-with` ranks them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from exporting import assert_same, by_torch, every_shape, exported, random_teacher
from fairseq.models.lstm import LSTMModel
from tiny import sentences, tiny_model

from vqnat_plugin.errors import CheckpointError
from vqnat_plugin.export.teacher import check_teacher
from vqnat_plugin.models.vq_nat import VQNAT
from vqnat_plugin.runtime import teacher as runtime_teacher
from vqnat_plugin.runtime.decoding import Decoding

ROWS = [*sentences(12, seed=3, longest=30), [2]]


def model_of() -> VQNAT:
    """A random model that ends its sequences now and then."""
    model = tiny_model(seed=5)
    with torch.no_grad():
        model.predictor.output.bias[-1] += 1
    return model


@every_shape
def test_every_shape(changes: dict[str, Any], tmp_path: Path) -> None:
    model, teacher = model_of(), random_teacher(**changes)
    check_teacher(teacher, "teacher")
    translator = exported(model, tmp_path / "m", teacher=teacher)
    for candidates in (1, 4):
        options = Decoding(candidates=candidates, rescore=True, max_len_b=30)
        assert_same(translator, ROWS, options, by_torch(model, ROWS, options, teacher))


def test_every_option_and_batches_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, teacher = model_of(), random_teacher()
    translator = exported(model, tmp_path / "m", teacher=teacher)
    every = [
        Decoding(candidates=3, rescore=True, max_len_b=0),
        Decoding(candidates=3, rescore=True, max_len_a=0.5, max_len_b=2, min_len=0),
        Decoding(candidates=3, rescore=True, max_len_b=40, min_len=8, unkpen=-4),
        Decoding(candidates=3, rescore=True, max_len_b=30, lenpen=0.3),
        Decoding(candidates=12, rescore=True, max_len_b=30, lenpen=-1.0),
        Decoding(candidates=3, rescore=True, max_len_b=30, lenpen=0.0),
    ]
    for options in every:
        wanted = by_torch(model, ROWS, options, teacher)
        assert_same(translator, ROWS, options, wanted)
        for row, each in zip(ROWS[:3], wanted, strict=False):
            assert_same(translator, [row], options, [each])
    # The same, part by part: a candidate at a time, two of a sentence, some sentences.
    options = every[-2]
    wanted = by_torch(model, ROWS, options, teacher)
    for logits in (1, 2 * 31 * 20, 30 * 31 * 20):
        monkeypatch.setattr(runtime_teacher, "LOGITS", logits)
        assert_same(translator, ROWS, options, wanted)


def test_tied_embeddings_are_stored_once(tmp_path: Path) -> None:
    sizes = []
    for tied in (True, False):
        teacher = random_teacher(
            share_decoder_input_output_embed=tied, encoder_embed_dim=64, decoder_embed_dim=64
        )
        folder = tmp_path / str(tied)
        exported(model_of(), folder, "int8", teacher)
        sizes.append((folder / "teacher_scorer.onnx").stat().st_size)
    assert sizes[1] - sizes[0] > 20 * 64


def test_what_computes_something_else_is_refused() -> None:
    def refusal(**changes: Any) -> str:
        with pytest.raises(CheckpointError, match=r"^--with-teacher t\.pt: ") as caught:
            check_teacher(random_teacher(**changes), "--with-teacher t.pt")
        return str(caught.value)

    assert "its --activation-fn is gelu; to be exported it needs relu" in refusal(activation_fn="gelu")
    assert "--encoder-learned-pos" in refusal(encoder_learned_pos=True)
    assert "--decoder-learned-pos" in refusal(decoder_learned_pos=True)
    assert "--no-token-positional-embeddings" in refusal(no_token_positional_embeddings=True)
    assert "--scale-fc" in refusal(scale_fc=True)
    assert "--decoder-output-dim" in refusal(decoder_output_dim=8, share_decoder_input_output_embed=False)
    other = LSTMModel.__new__(LSTMModel)
    torch.nn.Module.__init__(other)
    other.encoder = other.decoder = torch.nn.Identity()
    with pytest.raises(CheckpointError, match="is a LSTMModel; only a Transformer of fairseq"):
        check_teacher(other, "t.pt")
