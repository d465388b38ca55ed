"""BLEU as a sum of counts."""

import pytest
import sacrebleu
from fairseq.logging import metrics
from torch import Tensor

from vqnat_plugin.tasks.bleu_metrics import bleu_statistics, log_bleu

HYPOTHESES = [
    "the cat sat on the mat",
    "a dog barks at the red ball today",
    "hello there",
    "no match whatsoever",
]
REFERENCES = [
    "the cat sat on a mat",
    "the dog barks at the red ball",
    "hello there my friend",
    "quite other words",
]


def statistics(part: slice) -> dict[str, Tensor]:
    return bleu_statistics("x", sacrebleu.corpus_bleu(HYPOTHESES[part], [REFERENCES[part]]))


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_batches_add_up_to_the_corpus_score(cut: int) -> None:
    expected = sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score
    with metrics.aggregate(new_root=True) as meters:
        # One batch after the other, or two workers at once.
        log_bleu("x", [statistics(slice(0, cut))])
        log_bleu("x", [statistics(slice(cut, 4))])
        assert meters.get_smoothed_values()["x"] == pytest.approx(expected, abs=0.01)
    with metrics.aggregate(new_root=True) as meters:
        log_bleu("x", [statistics(slice(0, cut)), statistics(slice(cut, 4))])
        assert meters.get_smoothed_values()["x"] == pytest.approx(expected, abs=0.01)


def test_two_scores_do_not_mix() -> None:
    perfect = bleu_statistics("y", sacrebleu.corpus_bleu(REFERENCES, [REFERENCES]))
    with metrics.aggregate(new_root=True) as meters:
        for name in ("x", "y"):
            log_bleu(name, [{**statistics(slice(0, 4)), **perfect}])
        shown = meters.get_smoothed_values()
    assert shown["x"] < 90 and shown["y"] == pytest.approx(100.0)


def test_nothing_is_logged_of_no_words() -> None:
    with metrics.aggregate(new_root=True) as meters:
        log_bleu("x", [{}])
        assert not meters.get_smoothed_values()
