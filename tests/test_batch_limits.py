"""No sentence of a training gets lost without a word."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from fairseq.data import data_utils
from fairseq.tasks.fairseq_task import FairseqTask
from fairseq.trainer import Trainer
from tiny import trainer

from vqnat_plugin import batch_limits
from vqnat_plugin.distillation.corpus import open_data, write_sentences
from vqnat_plugin.errors import UsageError

SKIP = "--skip-invalid-size-inputs-valid-test"


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `vqnat train` teaches fairseq, for one test."""
    monkeypatch.delenv("VQNAT_BATCH_TOKENS", raising=False)
    for owner, name in (
        (Trainer, "get_train_iterator"),
        (FairseqTask, "get_batch_iterator"),
        (data_utils, "batch_by_size"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    batch_limits.install()


def seen(data: Path | str, *flags: str, valid: bool = False) -> tuple[list[int], list[int]]:
    """The sentences of training and, if wanted, of validation that come in batches, as indices in order."""
    with trainer(Path(data), *flags) as made:
        if valid:
            made.task.load_dataset("valid")
        iterators = [made.get_train_iterator(1)]
        if valid:
            iterators.append(made.get_valid_iterator("valid"))
        found = [sorted(int(i) for batch in each.frozen_batches for i in batch) for each in iterators]
        return found[0], found[-1] if valid else []


def lengths(data: Path, split: str) -> list[int]:
    """Tokens of the longer side of each pair, EOS included."""
    sides = [data_utils.load_indexed_dataset(str(data / f"{split}.en-de.{each}")) for each in ("en", "de")]
    return [max(map(len, pair)) for pair in zip(*sides, strict=True)]


def short(data: Path, split: str, limit: int) -> list[int]:
    """The pairs of at most `limit` tokens."""
    return [i for i, length in enumerate(lengths(data, split)) if length <= limit]


def test_the_longest_sentence_decides(tiny_corpus: Path) -> None:
    assert max(lengths(tiny_corpus, "train")) == max(lengths(tiny_corpus, "valid")) == 10
    assert seen(tiny_corpus, "--max-tokens=10", valid=True) == (list(range(60)), list(range(8)))
    message = f"--max-tokens 9: the longest sentence of train has 10 tokens; needs at least 10, or {SKIP}"
    with pytest.raises(UsageError, match=message):
        seen(tiny_corpus, "--max-tokens=9")


@pytest.mark.parametrize(
    ("total", "workers", "message"),
    [
        (12, 1, None),
        (12, 2, "leaves 6 for each of 2 workers, .* has 10 tokens; needs at least 20, or --workers 1, or"),
        (45, 5, "leaves 9 for each of 5 workers, .* has 10 tokens; needs at least 50, or --workers 4, or"),
        (8, 2, "leaves 4 for each of 2 workers, .* has 10 tokens; needs at least 20, or --skip"),
    ],
)
def test_a_batch_for_all_workers_is_named_as_it_was_given(
    tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch, total: int, workers: int, message: str | None
) -> None:
    monkeypatch.setenv("VQNAT_BATCH_TOKENS", str(total))
    with trainer(tiny_corpus, f"--max-tokens={total // workers}") as made:
        monkeypatch.setattr(Trainer, "data_parallel_world_size", workers)
        if message is None:
            assert sum(map(len, made.get_train_iterator(1).frozen_batches)) == 60
            return
        with pytest.raises(UsageError, match=f"--batch-tokens {total}: {message}"):
            made.get_train_iterator(1)


def test_validation_is_looked_at_before_training(tiny_corpus: Path) -> None:
    with pytest.raises(UsageError, match="--max-tokens-valid 7: the longest sentence of valid has 10 tokens"):
        seen(tiny_corpus, "--max-tokens-valid=7", valid=True)
    with pytest.raises(UsageError, match=f"valid: . of 8 sentence pairs have more than 7 tokens.*{SKIP}"):
        seen(tiny_corpus, "--max-source-positions=7", "--max-target-positions=7", valid=True)


def test_who_asks_for_it_leaves_long_sentences_out_and_is_told(
    tiny_corpus: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = short(tiny_corpus, "train", 6), short(tiny_corpus, "valid", 6)
    for limit in (["--max-tokens=6"], ["--max-source-positions=6", "--max-target-positions=6"]):
        caplog.clear()
        assert seen(tiny_corpus, SKIP, *limit, valid=True) == expected
        told = [each.getMessage() for each in caplog.records if each.name == "vqnat_plugin.batch_limits"]
        for split, kept, total in (("train", expected[0], 60), ("valid", expected[1], 8)):
            assert any(f"{split}: {total - len(kept)} of {total} sentence pairs (" in each for each in told)
        assert all("are left out, because they have more than 6 tokens" in each for each in told)


def test_too_long_for_the_model_is_left_out_of_training_and_told(
    tiny_corpus: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert seen(tiny_corpus, "--max-source-positions=6")[0] == short(tiny_corpus, "train", 6)
    told = [each.getMessage() for each in caplog.records if each.name == "vqnat_plugin.batch_limits"]
    assert [each.partition("because")[2] for each in told] == [
        " they have more than 6 tokens of source or 100 of target"
    ]


def test_nothing_left_to_train_on(tiny_corpus: Path) -> None:
    with pytest.raises(UsageError, match="train: none of 60 sentence pairs can be used, all have more than"):
        seen(tiny_corpus, "--max-source-positions=1", SKIP)


@pytest.mark.parametrize("multiple", ["8", "64"])
def test_the_last_batch_is_kept_whatever_its_size(tiny_corpus: Path, multiple: str) -> None:
    flags = ("--required-batch-size-multiple", multiple, "--batch-size=16", "--max-tokens=10000")
    assert seen(tiny_corpus, *flags, valid=True) == (list(range(60)), list(range(8)))


def test_folders_that_take_turns_are_all_looked_at_first(tiny_corpus: Path, tmp_path: Path) -> None:
    first = Path(shutil.copytree(tiny_corpus, tmp_path / "first"))
    sentences = open_data(tiny_corpus).read()
    few = short(tiny_corpus, "train", 5)
    for language, side in (("en", sentences.source), ("de", sentences.target)):
        write_sentences(first / f"train.en-de.{language}", (side[i] for i in few), 48)
    assert seen(first, "--max-tokens=8")[0] == list(range(len(few)))
    with pytest.raises(UsageError, match="--max-tokens 8: the longest sentence of train has 10"):
        seen(f"{first}:{tiny_corpus}", "--max-tokens=8")
    assert seen(f"{first}:{tiny_corpus}", "--max-tokens=10")[0] == list(range(len(few)))


def test_data_without_lengths_are_left_alone(tiny_corpus: Path) -> None:
    class Images:
        def __len__(self) -> int:
            return 3

        def num_tokens_vec(self, indices: Any) -> Any:
            raise NotImplementedError

    with trainer(tiny_corpus) as made:
        batch_limits.check_lengths(made, [("train", Images())])
