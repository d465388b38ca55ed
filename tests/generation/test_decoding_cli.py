"""`fairseq-generate` and `fairseq-interactive` with the latent model."""

import io
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import generate, interactive

from vqnat_plugin.errors import UsageError
from vqnat_plugin.text.subwords import learn_merges

DECODING = (
    "--task translation_vq --cpu --max-len-a 1 --max-len-b 3 --required-batch-size-multiple 1 --num-workers 0"
)


def configuration(parser: Any, *arguments: str) -> Any:
    return convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, list(arguments)))


def run_generate(data: Path, path: Path | str, *flags: str) -> list[str]:
    """The lines that fairseq-generate prints, logging aside."""
    parser = options.get_generation_parser()
    words = f"{data} --path {path} {DECODING} --no-progress-bar".split()
    out = io.StringIO()
    generate._main(configuration(parser, *words, *flags), out)
    return out.getvalue().splitlines()


def run_interactive(data: Path, path: Path, text: Path, *flags: str) -> None:
    parser = options.get_interactive_generation_parser()
    words = f"{data} --path {path} {DECODING} --input {text}".split()
    interactive.main(configuration(parser, *words, *flags))


def test_generate_prints_every_sentence_once(tiny_corpus: Path, tiny_student: Path) -> None:
    for flags, hypotheses in (["--beam=1"], 1), (["--beam=3", "--nbest=2", "--batch-size=2"], 2):
        lines = run_generate(tiny_corpus, tiny_student, *flags)
        seen = Counter(line.split("\t")[0] for line in lines if re.match(r"[STHDP]-\d+\t", line))
        expected = {f"{kind}-{number}": hypotheses for kind in "HDP" for number in range(5)}
        assert seen == {**expected, **{f"{kind}-{number}": 1 for kind in "ST" for number in range(5)}}
        text = (tiny_corpus.parent / "text" / "test.en").read_text().splitlines()
        assert {line.split("\t")[1] for line in lines if line.startswith("S-")} == set(text)
        assert any(line.startswith("Generate test with beam=") for line in lines)
        written, scored = (
            [line.split("\t") for line in lines if re.match(rf"{kind}-\d+\t", line)] for kind in "HP"
        )
        for (name, _, words), (same, scores) in zip(written, scored, strict=True):
            assert name[2:] == same[2:] and len(scores.split()) == len(words.split()) + 1
            assert all(float(score) <= 0 for score in scores.split())


def test_translations_do_not_depend_on_batches(tiny_corpus: Path, tiny_student: Path) -> None:
    def hypotheses(*flags: str) -> dict[str, str]:
        lines = run_generate(tiny_corpus, tiny_student, "--beam=4", *flags)
        return {line.split("\t")[0]: line.split("\t")[2] for line in lines if line.startswith("H-")}

    assert hypotheses("--batch-size=1") == hypotheses("--batch-size=5") == hypotheses("--left-pad-source")


def test_ensemble_of_two_copies_decodes_as_one(tiny_corpus: Path, tiny_student: Path) -> None:
    lines = [
        run_generate(tiny_corpus, path, "--beam=2")
        for path in (tiny_student, f"{tiny_student}:{tiny_student}")
    ]
    words = [[line.split("\t")[2] for line in part if line.startswith("H-")] for part in lines]
    assert words[0] == words[1] and len(words[0]) == 5


def test_interactive_translates_with_moses_and_bpe(
    tiny_corpus: Path, tiny_student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tiny_corpus.parent / "text"
    codes = tmp_path / "bpe.codes"
    codes.write_text(learn_merges((text / "train.en").read_text().splitlines() * 2, 100))
    tools = ["--tokenizer=moses", "-s=en", "-t=de", "--bpe=subword_nmt", f"--bpe-codes={codes}"]
    sentences = (text / "test.en").read_text().splitlines()
    for flags in ([], tools, [*tools, "--buffer-size=5", "--batch-size=5", "--beam=2"]):
        run_interactive(tiny_corpus, tiny_student, text / "test.en", *flags)
        lines = [line for line in capsys.readouterr().out.splitlines() if re.match(r"[SHDP]-\d+\t", line)]
        assert [line.split("\t")[1] for line in lines if line.startswith("S-")] == sentences
        assert [line.split("\t")[0] for line in lines if line.startswith("D-")] == [
            f"D-{i}" for i in range(5)
        ]
        translations = [line.split("\t")[2] for line in lines if line.startswith("D-")]
        assert all(translations) and not any("@@" in line for line in translations)


@pytest.mark.parametrize(
    "flags",
    [
        ["--prefix-size=2"],
        ["--nbest=6"],
        ["--constraints"],
        ["--sampling", "--sampling-topp=0.9"],
    ],
)
def test_options_that_cannot_be_served_end_in_one_line(
    tiny_corpus: Path, tiny_student: Path, flags: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        run_generate(tiny_corpus, tiny_student, *flags)
    assert str(caught.value).startswith(flags[-1].split("=")[0]) and "\n" not in str(caught.value)
