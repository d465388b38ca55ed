from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqnat_plugin.errors import DataError, UsageError
from vqnat_plugin.evaluation.systems import Conditions, System, parse_system


def test_a_declaration_is_a_name_checkpoints_and_options() -> None:
    words = [
        "student_4",
        "a.pt:b.pt",
        "beam=4",
        "max-len-a=1.2",
        "unnormalized=True",
        "rescore_with=teacher.pt",
    ]
    options = {"beam": 4, "max_len_a": 1.2, "unnormalized": True, "rescore_with": "teacher.pt"}
    system = parse_system(words)
    assert system == System("student_4", ("a.pt", "b.pt"), options)
    assert system.as_dict() == {"checkpoints": ["a.pt", "b.pt"], **options}
    assert [str(path) for _, path in system.files()] == ["a.pt", "b.pt", "teacher.pt"]
    assert parse_system(["greedy", "a.pt"]).beam == 1
    # What exported models call it: one and the same, said once.
    four = parse_system(["four", "a", "candidates=4"])
    assert four.beam == 4 and four.as_dict() == {"checkpoints": ["a"], "candidates": 4}


def test_shared_options_are_those_of_systems_that_do_not_say_otherwise() -> None:
    shared = {"max_len_a": 1.2, "max_len_b": 10}
    assert parse_system(["a", "a.pt"], shared).options == {"beam": 1, **shared}
    assert parse_system(["a", "a.pt", "max_len_b=5"], shared).options["max_len_b"] == 5


@pytest.mark.parametrize(
    "words",
    [
        ["a.pt"],
        ["", "a.pt"],
        ["a", ""],
        ["a", "b.pt", "beam"],
        ["a", "b.pt", "=4"],
        ["a", "b.pt", "beam=0"],
        ["a", "b.pt", "beam=x"],
        ["a", "b.pt", "beam=True"],
        ["a", "b.pt", "beam=2", "beam=3"],
        ["a", "b", "beam=2", "candidates=2"],
        ["a" * 300, "b.pt"],
    ],
)
def test_malformed_declarations_are_refused(words: list[str]) -> None:
    with pytest.raises(UsageError, match="--system"):
        parse_system(words)


def test_values_are_numbers_truths_and_texts_but_paths_stay_paths(tmp_path: Path) -> None:
    system = parse_system(["a", "b.pt", "x=1e-3", "y=None", "z={1: 2}", "rescore_with=1"])
    assert system.options == {"beam": 1, "x": 0.001, "y": None, "z": "{1: 2}", "rescore_with": "1"}
    odd = tmp_path / "a:b.pt"
    odd.touch()
    assert parse_system(["a", str(odd)]).checkpoints == (str(odd),)
    (tmp_path / "b:c").mkdir()
    assert parse_system(["a", str(tmp_path / "b:c")]).checkpoints == (str(tmp_path / "b:c"),)


@given(st.lists(st.text(min_size=1, max_size=12), unique=True, min_size=2, max_size=2))
def test_different_names_are_different_files_of_one_folder(names: list[str]) -> None:
    first, second = (System(name, ()).file_name for name in names)
    assert first != second
    assert "/" not in first and "\n" not in first and "\0" not in first


def test_identity_is_contents_and_options_wherever_they_are(tmp_path: Path) -> None:
    for name, content in (("a.pt", "1"), ("b.pt", "1"), ("c.pt", "2")):
        (tmp_path / name).write_text(content)
    a, b, c = (System("x", (str(tmp_path / name),)).identity() for name in ("a.pt", "b.pt", "c.pt"))
    assert a == b != c
    more = {"beam": 1, "rescore_with": str(tmp_path / "a.pt")}
    other = {"beam": 1, "rescore_with": str(tmp_path / "c.pt")}
    checkpoints = (str(tmp_path / "a.pt"),)
    assert System("x", checkpoints, more).identity() != System("x", checkpoints, other).identity()
    with pytest.raises(DataError, match=r"system x: no checkpoint .*none\.pt"):
        System("x", (str(tmp_path / "none.pt"),)).identity()
    for name in ("d", "e"):
        (tmp_path / name / "f").mkdir(parents=True)
        (tmp_path / name / "f" / "g").write_text("1")
    d, e = (System("x", (str(tmp_path / name),)) for name in ("d", "e"))
    assert d.identity() == e.identity()
    (tmp_path / "e" / "f" / "g").write_text("2")
    assert d.identity() != e.identity()
    (tmp_path / "test.en-de.de.bin").write_text("1")
    before = Conditions(tmp_path).identity()
    (tmp_path / "train.en-de.de.bin").write_text("1")
    assert Conditions(tmp_path).identity() == before
    (tmp_path / "test.en-de.de.bin").write_text("2")
    assert Conditions(tmp_path).identity() != before
