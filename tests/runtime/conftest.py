"""A translation model with a text pipeline and what was exported of it."""

import random
from pathlib import Path

import pytest

WORDS = {"man": "Mann", "dog": "Hund", "café": "Café", "half-asleep": "halb-wach", "sleeps": "schläft"}


@pytest.fixture(scope="session")
def german_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a model that has begun to learn German-English text of `vqnat prepare`."""
    from tiny import train_student

    from vqnat_plugin.commands.main import main

    folder, rng = tmp_path_factory.mktemp("german"), random.Random(1)
    for split, count in (("train", 80), ("valid", 6), ("test", 2)):
        sentences = [rng.choices(list(WORDS), k=rng.randint(1, 7)) for _ in range(count)]
        # One sentence so long that the tests' are usual.
        sentences += [list(WORDS) * 12] * (split == "train")
        english = "".join(" ".join(words) + "!\n" for words in sentences)
        german = "".join(" ".join(WORDS[word] for word in words) + "!\n" for words in sentences)
        (folder / f"{split}.en").write_text(english)
        (folder / f"{split}.de").write_text(german)
    languages = ["--source-lang", "de", "--target-lang", "en"]
    main(["prepare", "--data", str(folder), "--out", str(folder / "data"), *languages, "--merges", "60"])
    return train_student(folder / "data" / "bin", folder / "student", "--max-update=150")


@pytest.fixture(scope="session")
def german_exported(german_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That model in fp32."""
    from vqnat_plugin.commands.main import main

    out = tmp_path_factory.mktemp("exported") / "fp32"
    main(["export", str(german_student), "--out", str(out), "--precision", "fp32"])
    return out


@pytest.fixture(scope="session")
def exported_pair(tiny_student: Path, tiny_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny student in fp32 with a teacher inside."""
    from vqnat_plugin.commands.main import main

    out = tmp_path_factory.mktemp("pair") / "exported"
    words = ["export", str(tiny_student), "--out", str(out), "--precision", "fp32"]
    main([*words, "--with-teacher", str(tiny_teacher)])
    return out
