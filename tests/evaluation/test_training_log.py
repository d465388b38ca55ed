import json
from pathlib import Path

import pytest

from vqnat_plugin.errors import DataError
from vqnat_plugin.evaluation.training_log import TrainingLog


def inner(updates: int, loss: str, **more: object) -> str:
    return json.dumps({"epoch": 1, "update": 0.5, "loss": loss, "num_updates": str(updates), **more})


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_curves_of_training_and_validation(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log",
        "Namespace(arch='x', {'lr': 1})",
        inner(10, "5.5", codebook_usage="0.25"),
        "2026-01-01 00:00:00 | INFO | train_inner | " + inner(20, "4.5"),
        'begin validation on "valid" subset',
        '{"epoch": 1, "valid_loss": "4.1", "valid_bleu": "12.3", "valid_num_updates": "20"}',
        '{"epoch": 1, "train_loss": "5.0", "train_num_updates": "20", "train_wall": "14"}',
    )
    log = TrainingLog(path)
    assert log.curve("loss") == [(10, 5.5), (20, 4.5)]
    assert log.curve("loss", "valid") == [(20, 4.1)]
    assert log.curve("bleu", "valid") == [(20, 12.3)]
    assert log.curve("codebook_usage") == [(10, 0.25)]
    assert log.curve("wall") == [(20, 14.0)]
    assert log.curve("bleu") == []


def test_what_is_counted_over_an_epoch_is_taken_at_its_end(tmp_path: Path) -> None:
    epochs = [
        json.dumps({"train_codebook_usage_epoch": f"0.{number}", "train_num_updates": f"{number}00"})
        for number in (8, 9)
    ]
    within = inner(850, "4", codebook_usage_epoch="0.3")
    path = write(tmp_path / "log", epochs[0], within, epochs[1])
    assert TrainingLog(path).curve("codebook_usage_epoch") == [(800, 0.8), (900, 0.9)]
    # Of a single epoch all there is is a beginning.
    assert TrainingLog(write(tmp_path / "log", within)).curve("codebook_usage_epoch") == [(850, 0.3)]


def test_repeated_lines_and_resumed_trainings_give_one_value_an_update(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log", inner(10, "5"), inner(20, "4"), inner(20, "4"), inner(20, "3.5"), inner(30, "3")
    )
    assert TrainingLog(path).curve("loss") == [(10, 5.0), (20, 3.5), (30, 3.0)]


def test_a_training_that_began_again_is_all_there_is(tmp_path: Path) -> None:
    valid = [f'{{"valid_bleu": "{bleu}", "valid_num_updates": "{at}"}}' for at, bleu in ((30, 9), (15, 5))]
    first = [inner(updates, "7") for updates in (10, 20, 30)]
    log = TrainingLog(write(tmp_path / "log", *first, valid[0], inner(10, "5"), inner(15, "4"), valid[1]))
    assert log.curve("loss") == [(10, 5.0), (15, 4.0)]
    assert log.curve("bleu", "valid") == [(15, 5.0)]


def test_epoch_lines_stand_in_where_no_interval_was_logged(tmp_path: Path) -> None:
    path = write(tmp_path / "log", '{"epoch": 1, "train_loss": "5.0", "train_num_updates": "7"}')
    assert TrainingLog(path).curve("loss") == [(7, 5.0)]


def test_what_is_not_a_finite_number_is_left_out(tmp_path: Path) -> None:
    lines = [
        inner(10, "nan", clip=True, note="x", ppl=float("inf")),
        inner(20, "2"),
        '{"loss": "1", "num_upd',
    ]
    log = TrainingLog(write(tmp_path / "log", *lines))
    assert log.curve("loss") == [(20, 2.0)]
    assert log.curve("clip") == log.curve("note") == log.curve("ppl") == []


def test_a_log_in_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--log-format json"):
        TrainingLog(write(tmp_path / "log", "epoch 001 | loss 5.5"))
