"""`rescore=True` is `--rescore-with` of `vqnat generate`, of an exported teacher."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vqnat_plugin.commands.main import main
from vqnat_plugin.errors import UsageError
from vqnat_plugin.models.vq_nat import VQNAT
from vqnat_plugin.runtime import Translator
from vqnat_plugin.runtime.graphs import PAD

LINES = ["w1 w2 w3", "", "w4", "w5 w6 unknown w7 w8 w9 w10 w11 w12", "w1 " * 40, "w19 w18 w17 w16"]


@pytest.mark.parametrize(
    "flags, options",
    [
        ("--beam 1", {"candidates": 1}),
        ("--beam 4", {"candidates": 4}),
        ("--beam 3 --max-len-a 0.5 --max-len-b 2", {"candidates": 3, "max_len_a": 0.5, "max_len_b": 2}),
        ("--beam 4 --lenpen 0.2 --min-len 6", {"candidates": 4, "lenpen": 0.2, "min_len": 6}),
    ],
)
def test_best_by_the_teacher_as_of_generate(
    flags: str,
    options: dict[str, float],
    tiny_student: Path,
    tiny_teacher: Path,
    exported_pair: Path,
    tmp_path: Path,
) -> None:
    text, out = tmp_path / "in", tmp_path / "out"
    text.write_text("".join(f"{line}\n" for line in LINES))
    words = ["--path", str(tiny_student), "--rescore-with", str(tiny_teacher), "--cpu"]
    main(["generate", *words, "--input", str(text), "--output", str(out), *flags.split()])
    expected = out.read_text().removesuffix("\n").split("\n")
    translator = Translator(exported_pair)
    assert translator.translate(LINES, rescore=True, **options) == expected
    assert [translator.translate([line], rescore=True, **options)[0] for line in LINES] == expected
    # The command wants candidates to choose from.
    chosen = {**options, "candidates": max(2, options["candidates"])}
    expected = translator.translate(LINES, rescore=True, **chosen)
    flat = [f"--{name.replace('_', '-')}={value}" for name, value in chosen.items()]
    main(["translate", str(exported_pair), "--input", str(text), "--output", str(out), "--rescore", *flat])
    assert out.read_text().removesuffix("\n").split("\n") == expected


def test_candidates_have_the_scores_of_the_teacher(
    tiny_student: Path, tiny_teacher: Path, exported_pair: Path
) -> None:
    lines = [line for line in LINES if line]
    hub = VQNAT.from_pretrained(tiny_student, rescore_with=str(tiny_teacher))
    theirs = hub.generate([hub.encode(line) for line in lines], beam=4)
    translator = Translator(exported_pair)
    ours = translator.candidates(lines, rescore=True)
    for found, every in zip(ours, theirs, strict=True):
        # Different codes often write the same words.
        wanted = list({hub.decode(each["tokens"]): each for each in every}.values())
        assert [each.text for each in found] == [hub.decode(each["tokens"]) for each in wanted]
        assert [each.score for each in found] == pytest.approx([each["score"] for each in wanted], abs=1e-4)
    own = translator.candidates(lines)
    assert [sorted(each.text for each in found) for found in own] == [
        sorted(each.text for each in found) for found in ours
    ]
    assert own != ours
    alone = translator.candidates([lines[0], ""], n_best=2, rescore=True)[0]
    # Sums of a batch of another size may be rounded in another way.
    assert [each.tokens for each in alone] == [each.tokens for each in ours[0][:2]]
    assert [each.score for each in alone] == pytest.approx([each.score for each in ours[0][:2]], abs=1e-5)
    with pytest.raises(UsageError, match="n_best 0: needs at least 1"):
        translator.candidates(lines, n_best=0)


def test_no_row_is_ranked_for_nothing(exported_pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    translator = Translator(exported_pair)
    expected = translator.candidates(LINES, rescore=True)
    shown, run = [], translator.teacher._run

    def counted(tokens: np.ndarray, memory: dict[str, Any]) -> Any:
        shown.append(tokens)
        return run(tokens, memory)

    monkeypatch.setattr(translator.teacher, "_run", counted)
    assert translator.candidates(LINES, rescore=True) == expected
    assert len({len(each) for each in expected}) > 1
    assert all((tokens != PAD).any(1).all() for tokens in shown)
    assert sum(map(len, shown)) == sum(len(each) for line, each in zip(LINES, expected, strict=True) if line)


def test_several_threads_may_rank_at_once(exported_pair: Path) -> None:
    expected = Translator(exported_pair).translate(LINES, candidates=4, rescore=True)
    translator = Translator(exported_pair)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: translator.translate(LINES, candidates=4, rescore=True), range(16)))
    assert found == [expected] * 16


def test_a_model_without_a_teacher_says_how_to_get_one(german_exported: Path) -> None:
    translator = Translator(german_exported)
    for option in ("rescore", "verify"):
        message = f"--{option}: .* has no teacher; export it again with --with-teacher CHECKPOINT"
        with pytest.raises(UsageError, match=message):
            translator.translate(["Hund"], **{option: True})
        with pytest.raises(UsageError, match=message):
            translator.candidates([], **{option: True})


def test_ranking_needs_neither_torch_nor_fairseq(exported_pair: Path) -> None:
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('torch', 'onnx', 'omegaconf')))\n"
        "from vqnat_plugin.runtime import Translator\n"
        f"translator = Translator({str(exported_pair)!r})\n"
        f"print(*translator.translate({LINES!r}, candidates=4, rescore=True), sep='\\n')\n"
        "assert 'fairseq' not in sys.modules\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    expected = Translator(exported_pair).translate(LINES, candidates=4, rescore=True)
    assert found.stdout.splitlines() == expected
