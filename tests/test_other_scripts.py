"""The whole way in other scripts: prepare, teacher, distil, student, raw text in, score."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

# Words of a made-up corpus: English, and how they are written, with blanks between or without.
WORDS = {
    "zh": (
        "",
        "。",
        {
            "I": "我",
            "she": "她",
            "likes": "喜欢",
            "sees": "看见",
            "apples": "苹果",
            "cats": "小猫",
            "tea": "茶",
        },
    ),
    "hi": (
        " ",
        "।",
        {
            "I": "मैं",
            "she": "वह",
            "likes": "चाहती",
            "sees": "देखती",
            "apples": "सेब",
            "cats": "बिल्लियाँ",
            "tea": "चाय",
        },
    ),
}


def corpus(folder: Path, language: str) -> None:
    """Sentences of one to three clauses."""
    between, end, words = WORDS[language]
    rng = random.Random(1)
    for split, count in (("train", 300), ("valid", 10), ("test", 20)):
        sides: tuple[list[str], list[str]] = ([], [])
        for _ in range(count):
            english = [
                word
                for _ in range(rng.randint(1, 3))
                for word in (
                    rng.choice(["I", "she"]),
                    rng.choice(["likes", "sees"]),
                    rng.choice(["apples", "cats", "tea"]),
                )
            ]
            sides[0].append(" ".join(english) + ".")
            sides[1].append(between.join(words[word] for word in english) + end)
        for name, lines in zip(("en", language), sides, strict=True):
            (folder / f"{split}.{name}").write_text("".join(f"{line}\n" for line in lines))


SIZES = "--encoder-layers 1 --decoder-layers 1"
TRAINING = (
    "--optimizer adam --lr 0.005 --batch-tokens 600 --seed 1 --workers 1 --threads 1"
    " --num-workers 0 --log-format none --required-batch-size-multiple 1 --no-epoch-checkpoints"
    " --validate-interval 100 --eval-bleu --best-checkpoint-metric bleu --maximize-best-checkpoint-metric"
)
TEACHER = (
    f"--task translation --arch transformer --share-all-embeddings {SIZES} --dropout 0 --encoder-embed-dim 64"
    " --decoder-embed-dim 64 --encoder-ffn-embed-dim 128 --decoder-ffn-embed-dim 128"
    " --encoder-attention-heads 2 --decoder-attention-heads 2"
)
STUDENT = (
    f"--task translation_vq --arch vq_nat_em_tiny --criterion vq_nat_loss {SIZES} --predictor-layers 1"
    " --dropout 0 --codebook-size 32 --compress-steps 1 --unquantized-updates 20"
)


@pytest.mark.slow
@pytest.mark.parametrize("language", WORDS)
def test_text_in_another_script_goes_all_the_way(language: str, tmp_path: Path) -> None:
    corpus(tmp_path, language)
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}

    def run(command: str) -> str:
        words = [sys.executable, "-m", "vqnat_plugin", *command.split()]
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    languages = f"--source-lang en --target-lang {language}"
    prepared = run(f"prepare --data . --out data {languages} --merges 60")
    assert "train: 300 sentence pairs" in prepared and "left out" not in prepared
    run(f"train data/bin {TEACHER} {TRAINING} --max-update 500 --save-dir teacher")
    run("distill --data data/bin --teacher teacher/checkpoint_best.pt --out distilled --beam 2 --workers 1")
    run(f"train distilled {STUDENT} {TRAINING} --max-update 1200 --save-dir student")
    for checkpoint, least in (("teacher", 80), ("student", 60)):
        run(f"generate --path {checkpoint}/checkpoint_best.pt --input test.en --output out.{language} --cpu")
        assert (tmp_path / f"out.{language}").read_text().count("\n") == 20
        shown = run(f"score --sys out.{language} --ref test.{language}")
        assert f"tok:{'zh' if language == 'zh' else '13a'}" in shown and "chrF" in shown
        assert float(shown.partition("BLEU ")[2].split()[0]) > least, (checkpoint, shown)
