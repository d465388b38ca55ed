"""Starting from a teacher: what is taken over, and who is refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq import checkpoint_utils
from omegaconf import OmegaConf
from tiny import PAD, padded, sentences, trainer

from vqnat_plugin.errors import CheckpointError, UserError
from vqnat_plugin.models.vq_nat import VQNAT


def student(data: Path, teacher: Path | str, *flags: str) -> VQNAT:
    with trainer(data, f"--init-from-teacher={teacher}", *flags) as made:
        return made.get_model().eval()


def load(path: Path) -> Any:
    (model,), _ = checkpoint_utils.load_model_ensemble([str(path)])
    return model.eval()


def altered(path: Path, folder: Path, **model_options: Any) -> Path:
    """The checkpoint with other options of the model on record."""
    state = checkpoint_utils.load_checkpoint_to_cpu(str(path))
    for name, value in model_options.items():
        assert hasattr(state["cfg"]["model"], name)
        setattr(state["cfg"]["model"], name, value)
    state["cfg"] = OmegaConf.to_container(state["cfg"])
    torch.save(state, folder / "altered.pt")
    return folder / "altered.pt"


def test_encoder_writes_what_the_teacher_writes(tiny_corpus: Path, prenorm_teacher: Path) -> None:
    model, teacher = student(tiny_corpus, prenorm_teacher), load(prenorm_teacher)
    source = padded(sentences(6, longest=30), left=True)
    with torch.no_grad():
        theirs = teacher.encoder(source, source.ne(PAD).sum(1))["encoder_out"][0].transpose(0, 1)
        ours = model.encode(source).states
    real = source.ne(PAD)
    torch.testing.assert_close(ours[real], theirs[real], rtol=1e-5, atol=1e-5)


def test_a_teacher_of_other_symbols_is_refused(
    tiny_corpus: Path, prenorm_teacher: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(tiny_corpus, tmp_path / "other")
    for path in other.glob("dict.*.txt"):
        first, second, *rest = path.read_text().splitlines(keepends=True)
        path.write_text("".join([second, first, *rest]))
    with pytest.raises(CheckpointError, match=r"--init-from-teacher .*has other symbols than"):
        student(other, prenorm_teacher)


def test_decoder_and_predictor_start_from_the_teachers_decoder(
    tiny_corpus: Path, prenorm_teacher: Path
) -> None:
    model, teacher = (
        student(tiny_corpus, prenorm_teacher, "--decoder-layers=2"),
        load(prenorm_teacher).decoder,
    )
    assert torch.equal(model.output_weight, teacher.embed_tokens.weight)
    for stack, sources in ((model.decoder, (0, 1)), (model.predictor.stack, (0,))):
        assert len(stack.layers) == len(sources)
        assert torch.equal(stack.norm.weight, teacher.layer_norm.weight)
        for ours, number in zip(stack.layers, sources, strict=True):
            theirs = teacher.layers[number]
            assert torch.equal(ours.self_attention.key.weight, theirs.self_attn.k_proj.weight)
            assert torch.equal(ours.self_attention.query.bias, theirs.self_attn.q_proj.bias)
            assert torch.equal(ours.cross_attention.value.weight, theirs.encoder_attn.v_proj.weight)
            assert torch.equal(ours.cross_attention.out.weight, theirs.encoder_attn.out_proj.weight)
            assert torch.equal(ours.cross_norm.weight, theirs.encoder_attn_layer_norm.weight)
            assert torch.equal(ours.feed_forward[0].weight, theirs.fc1.weight)
            assert torch.equal(ours.feed_forward[3].bias, theirs.fc2.bias)
            assert torch.equal(ours.feed_norm.bias, theirs.final_layer_norm.bias)


def test_decoder_layer_computes_what_the_teachers_layer_computes(
    tiny_corpus: Path, prenorm_teacher: Path
) -> None:
    model, teacher = (
        student(tiny_corpus, prenorm_teacher, "--decoder-layers=2"),
        load(prenorm_teacher).decoder,
    )
    x, memory = torch.randn(3, 5, 32), torch.randn(3, 4, 32)
    hidden = torch.full((5, 5), -torch.inf).triu(1)
    layer = model.decoder.layers[1]
    with torch.no_grad():
        ours, _ = layer(x, causal=True, memory=layer.cross_attention.project(memory))
        theirs, *_ = teacher.layers[1](x.transpose(0, 1), memory.transpose(0, 1), self_attn_mask=hidden)
    torch.testing.assert_close(ours, theirs.transpose(0, 1), rtol=1e-5, atol=1e-5)


def test_saved_student_does_not_ask_for_the_teacher_again(tiny_corpus: Path, prenorm_teacher: Path) -> None:
    with trainer(tiny_corpus, f"--init-from-teacher={prenorm_teacher}") as made:
        made.cfg.model.init_from_teacher = "/nowhere/teacher.pt"
        assert made.task.build_model(made.cfg.model, from_checkpoint=True)


def refusal(data: Path, teacher: Path, *flags: str) -> str:
    with pytest.raises(UserError) as caught:
        student(data, teacher, *flags)
    message = str(caught.value)
    assert message.startswith(f"--init-from-teacher {teacher}: ") and "\n" not in message
    return message


def test_postnorm_teacher_is_refused(tiny_corpus: Path, tiny_teacher: Path) -> None:
    message = refusal(tiny_corpus, tiny_teacher)
    assert "its --encoder-normalize-before is False, needed is True" in message


def test_teacher_with_embeddings_of_its_own_is_refused_where_ours_are_shared(
    tiny_corpus: Path, prenorm_teacher: Path, tmp_path: Path
) -> None:
    """The encoder's layers would read the decoder's words."""
    state = checkpoint_utils.load_checkpoint_to_cpu(str(prenorm_teacher))
    state["model"]["encoder.embed_tokens.weight"] = state["model"]["encoder.embed_tokens.weight"] + 1
    state["cfg"] = OmegaConf.to_container(state["cfg"])
    torch.save(state, tmp_path / "own.pt")
    message = refusal(tiny_corpus, tmp_path / "own.pt")
    assert "its --share-all-embeddings is False, needed is True" in message


@pytest.mark.parametrize("flags", [["--embed-dim=64"], ["--ffn-dim=32"]])
def test_teacher_of_other_widths_is_refused(
    tiny_corpus: Path, prenorm_teacher: Path, flags: list[str]
) -> None:
    assert "does not fit this model (size mismatch" in refusal(tiny_corpus, prenorm_teacher, *flags)


def test_teacher_with_another_number_of_heads_is_refused(tiny_corpus: Path, prenorm_teacher: Path) -> None:
    message = refusal(tiny_corpus, prenorm_teacher, "--attention-heads=4")
    assert "its --encoder-attention-heads is 2, needed is 4" in message


@pytest.mark.parametrize(
    "options",
    [
        {"encoder_learned_pos": True},
        {"activation_fn": "gelu"},
        {"no_scale_embedding": True},
        {"layernorm_embedding": True},
    ],
)
def test_teacher_that_computes_something_else_is_refused(
    tiny_corpus: Path, prenorm_teacher: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    (name,) = options
    path = altered(prenorm_teacher, tmp_path, **options)
    assert f"--{name.replace('_', '-')}" in refusal(tiny_corpus, path)


def test_missing_teacher_is_refused(tiny_corpus: Path, tmp_path: Path) -> None:
    assert "No such file" in refusal(tiny_corpus, tmp_path / "nothing.pt")
    assert "directory" in refusal(tiny_corpus, tmp_path)


def test_student_is_refused_as_a_teacher(tiny_corpus: Path, tiny_student: Path) -> None:
    assert "is no autoregressive model" in refusal(tiny_corpus, tiny_student)


def test_file_that_is_no_checkpoint_is_named(tiny_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "teacher.pt").write_text("weights")
    with pytest.raises(CheckpointError, match=r"teacher\.pt: truncated, or not a checkpoint"):
        student(tiny_corpus, tmp_path / "teacher.pt")
