"""`verify=True` is `--verify-with` of `vqnat generate`, with an exported teacher: its greedy translations."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from vqnat_plugin.commands.main import main
from vqnat_plugin.errors import UsageError
from vqnat_plugin.runtime import Translator
from vqnat_plugin.runtime.answer import describe
from vqnat_plugin.runtime.decoding import Decoding

LINES = ["w1 w2 w3", "", "w4", "w5 w6 unknown w7 w8 w9 w10 w11 w12", "w1 " * 40, "w19 w18 w17 w16"]


def generate(path: Path, folder: Path, *flags: str) -> list[str]:
    text, out = folder / "in", folder / "out"
    text.write_text("".join(f"{line}\n" for line in LINES))
    main(["generate", "--path", str(path), "--cpu", "--input", str(text), "--output", str(out), *flags])
    return out.read_text().removesuffix("\n").split("\n")


@pytest.mark.parametrize(
    "flags, options",
    [
        ("", {}),
        ("--beam 3", {"candidates": 3}),
        ("--max-len-b 4", {"max_len_b": 4}),
        ("--min-len 6 --max-len-b 30", {"min_len": 6, "max_len_b": 30}),
    ],
)
def test_the_teachers_greedy_translation_everywhere(
    flags: str,
    options: dict[str, Any],
    tiny_student: Path,
    tiny_teacher: Path,
    exported_pair: Path,
    tmp_path: Path,
) -> None:
    limits = [flag for flag in flags.split() if flag not in ("--beam", "3")]
    expected = generate(tiny_teacher, tmp_path, "--beam", "1", *limits)
    words = flags.split() if "--beam" in flags else ["--beam", "1", *flags.split()]
    assert generate(tiny_student, tmp_path, "--verify-with", str(tiny_teacher), *words) == expected
    translator = Translator(exported_pair)
    assert translator.translate(LINES, verify=True, **options) == expected
    assert [translator.translate([line], verify=True, **options)[0] for line in LINES] == expected
    flat = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    out = tmp_path / "translated"
    main(
        [
            "translate",
            str(exported_pair),
            "--input",
            str(tmp_path / "in"),
            "--output",
            str(out),
            "--verify",
            *flat,
        ]
    )
    assert out.read_text().removesuffix("\n").split("\n") == expected
    assert generate(tiny_student, tmp_path, *words) != expected


def test_a_tolerance_lets_more_pass(
    tiny_student: Path, tiny_teacher: Path, exported_pair: Path, tmp_path: Path
) -> None:
    translator, lines = Translator(exported_pair), [line for line in LINES if line]
    words = ["--verify-with", str(tiny_teacher), "--beam", "1"]
    passes = []
    for tolerance in (0.0, 2.0, 1e6):
        found = translator.candidates(lines, candidates=1, verify=True, tolerance=tolerance)
        expected = generate(tiny_student, tmp_path, *words, "--verify-tolerance", str(tolerance))
        assert [each.text for [each] in found] == [text for text in expected if text]
        passes.append(sum(each.passes for [each] in found))
    assert passes[0] > passes[1] > passes[2] == len(lines)
    assert [text for text in generate(tiny_student, tmp_path, "--beam", "1") if text] == expected[:1] + [
        text for text in expected[1:] if text
    ]


def test_what_is_shown_of_a_checked_translation(exported_pair: Path) -> None:
    translator = Translator(exported_pair)
    [[found]] = translator.candidates(["w1 w2 w3"], verify=True)
    assert found.passes >= 1 and found.codes == [] and found.score < 0
    [[hypothesis]] = translator.decode([translator.encode("w1 w2 w3")], Decoding(verify=True))
    shown = describe(translator, hypothesis)
    assert (shown["text"], shown["groups"]) == (found.text, [])
    assert json.loads(json.dumps(shown)) == shown


def test_several_threads_may_check_at_once(exported_pair: Path) -> None:
    expected = Translator(exported_pair).translate(LINES, verify=True)
    translator = Translator(exported_pair)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: translator.translate(LINES, verify=True), range(16)))
    assert found == [expected] * 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"verify": True, "rescore": True},
            "--verify: the teacher checks one translation, leave --rescore out",
        ),
        ({"tolerance": 0.5}, "--tolerance 0.5: needs --verify"),
        ({"verify": True, "tolerance": -1.0}, "--tolerance -1.0: needs at least 0"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], message: str, exported_pair: Path) -> None:
    with pytest.raises(UsageError, match=message):
        Translator(exported_pair).translate(["w1"], **options)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--verify-with TEACHER --rescore-with TEACHER", "leave --rescore-with out"),
        ("--verify-tolerance 1", "--verify-tolerance 1: needs --verify-with"),
        ("--verify-with TEACHER --verify-tolerance -1", "--verify-tolerance -1.0: needs at least 0"),
        (
            "--verify-with TEACHER --min-len 2000 --max-len-b 3000",
            "--min-len 2000: the teacher writes at most",
        ),
        ("--verify-with nowhere.pt", "--verify-with nowhere.pt: No such file"),
        ("--verify-with STUDENT", "is no autoregressive model"),
    ],
)
def test_generate_says_what_does_not_go_together(
    flags: str,
    message: str,
    tiny_student: Path,
    tiny_teacher: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = flags.replace("TEACHER", str(tiny_teacher)).replace("STUDENT", str(tiny_student)).split()
    with pytest.raises(SystemExit) as ended:
        generate(tiny_student, tmp_path, *words)
    assert ended.value.code == 2 and message in capsys.readouterr().err.splitlines()[-1]
