"""The one reader of checkpoints: what it refuses, and that it reads no more than is needed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq import checkpoint_utils
from tiny import train_student

from vqnat_plugin.errors import CheckpointError, DataError
from vqnat_plugin.models.checkpoints import AUTOREGRESSIVE, TRANSLATION, Checkpoint
from vqnat_plugin.models.vq_nat import VQNAT


@pytest.fixture
def changed(tiny_student: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a copy of a checkpoint that a function has changed."""

    def make(change: Callable[[dict[str, Any]], object]) -> Path:
        state = torch.load(tiny_student)
        change(state)
        torch.save(state, tmp_path / "odd.pt")
        return tmp_path / "odd.pt"

    return make


def first_weight(state: dict[str, Any]) -> torch.Tensor:
    return next(value for value in state["model"].values() if value.is_floating_point())


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_of_a_training_that_diverged_are_refused(changed: Callable[..., Path], value: float) -> None:
    path = changed(lambda state: first_weight(state).view(-1)[0].fill_(value))
    with pytest.raises(CheckpointError, match=r"odd\.pt: '.*' is not finite; its training has diverged"):
        Checkpoint(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.update(model=[1]),
        lambda state: state.update(model={}),
        lambda state: state.update(model={"weight": 1.0}),
        lambda state: state.update(cfg=[1]),
        lambda state: state.update(cfg={"task": "translation_vq", "model": "vq_nat_em"}),
        lambda state: state["cfg"].update(task={"_name": 3}),
    ],
)
def test_what_is_no_checkpoint_of_a_training(
    changed: Callable[..., Path], change: Callable[[dict[str, Any]], object]
) -> None:
    with pytest.raises(CheckpointError, match=r"^--teacher odd: not a checkpoint of fairseq-train$"):
        Checkpoint(changed(change), who="--teacher odd")


def test_it_says_what_a_checkpoint_is_and_what_is_needed(
    tiny_student: Path, image_autoencoder: Path, tmp_path: Path
) -> None:
    for path, kind in ((tiny_student, AUTOREGRESSIVE), (image_autoencoder, TRANSLATION)):
        with pytest.raises(CheckpointError) as caught:
            Checkpoint(path, kind)
        assert str(caught.value).startswith(f"{path}: is no {kind.name}, but was trained with --task ")
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "a.pt", "No such file")):
        with pytest.raises(CheckpointError, match=rf"^{path}: {reason}"):
            Checkpoint(path)


def test_options_are_read_without_weights(tiny_student: Path) -> None:
    whole, light = Checkpoint(tiny_student), Checkpoint(tiny_student, weights=False)
    assert whole.config == light.config and whole.updates == light.updates
    shapes = [{name: value.shape for name, value in each.state["model"].items()} for each in (whole, light)]
    assert shapes[0] == shapes[1]


def test_a_file_is_read_once(tiny_student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    load = checkpoint_utils.load_checkpoint_to_cpu

    def counted(path: str, *others: Any, **options: Any) -> Any:
        read.append(path)
        return load(path, *others, **options)

    monkeypatch.setattr(checkpoint_utils, "load_checkpoint_to_cpu", counted)
    VQNAT.from_pretrained(tiny_student)
    assert read == [str(tiny_student)]


def test_a_model_whose_codes_had_no_start_is_refused(changed: Callable[..., Path]) -> None:
    path = changed(lambda state: state["model"]["quantizer.started"].zero_())
    message = r"odd\.pt: is from before the codebook's start, its codes are random; take a later"
    with pytest.raises(CheckpointError, match=message):
        Checkpoint(path).build()
    # As fairseq's commands load it.
    with pytest.raises(CheckpointError, match=message):
        checkpoint_utils.load_model_ensemble_and_task([str(path)])


def test_a_model_whose_codes_were_never_in_use_is_refused(tiny_corpus: Path, tmp_path: Path) -> None:
    flags = ("--bottleneck=gradient", "--unquantized-updates=2")
    path = train_student(tiny_corpus, tmp_path, *flags, "--max-update=1")
    with pytest.raises(CheckpointError, match="from before the codebook's start"):
        Checkpoint(path).build()
    Checkpoint(train_student(tiny_corpus, tmp_path, *flags, "--max-update=3")).build()


def test_a_teacher_that_a_training_was_validated_with_is_left_out(
    changed: Callable[..., Path], tiny_teacher: Path
) -> None:
    def validated(state: dict[str, Any]) -> None:
        state["cfg"]["task"] |= {"rescore_with": "gone.pt", "verify_with": str(tiny_teacher)}

    path = changed(validated)
    hub = VQNAT.from_pretrained(path)
    assert hub.task.cfg.rescore_with is None and hub.task.cfg.verify_with is None
    assert isinstance(hub.translate("w1 w2"), str)
    asked = VQNAT.from_pretrained(path, verify_with=str(tiny_teacher))
    assert asked.task.cfg.verify_with == str(tiny_teacher)


def test_languages_that_nobody_knows(changed: Callable[..., Path], tmp_path: Path) -> None:
    path = changed(
        lambda state: state["cfg"]["task"].update(data="/nowhere", source_lang=None, target_lang=None)
    )
    with pytest.raises(DataError, match="its languages are not known; add --source-lang and --target-lang"):
        Checkpoint(path).check_data(tmp_path)
