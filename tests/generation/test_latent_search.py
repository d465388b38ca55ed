"""The search over latents against brute force."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from decoding_by_hand import latent_score, next_code
from tiny import padded, sentences, tiny_model

from vqnat_plugin.generation.latent_search import EndOfBatch, Latents, LatentSearch, mean_log_probabilities
from vqnat_plugin.models.vq_nat import VQNAT


def search(
    models: Sequence[VQNAT], rows: list[list[int]], limits: list[int], least: int = 1, **options: object
) -> Latents:
    source = padded(rows, left=True)
    memories = [model.encode(source) for model in models]
    return LatentSearch(**options)(models, memories, torch.tensor(limits), max(limits), least)  # type: ignore[arg-type]


def found(latents: Latents, row: int) -> list[tuple[int, ...]]:
    """The code sequences of a sentence."""
    return [tuple(c[m].tolist()) for c, m in zip(latents.codes[row], latents.mask[row], strict=True)]


def test_wide_beam_finds_every_sequence_with_its_score() -> None:
    model, rows, limits = tiny_model(codebook_size=3), sentences(3), [3, 1, 2]
    latents = search([model], rows, limits, beam=60)
    for row, limit in enumerate(limits):
        everything = [c for n in range(1, limit + 1) for c in itertools.product(range(3), repeat=n)]
        scores = {codes: latent_score([model], rows[row], codes) for codes in everything}
        assert int(latents.scores[row].isfinite().sum()) == len(everything)
        sequences = found(latents, row)[: len(everything)]
        assert set(sequences) == set(everything)
        best_first = latents.scores[row, : len(everything)].tolist()
        assert best_first == pytest.approx([scores[codes] for codes in sequences], abs=1e-4)
        assert best_first == sorted(best_first, reverse=True)


def test_too_short_sequences_are_not_found() -> None:
    model = tiny_model(codebook_size=3)
    latents = search([model], sentences(1), [3], least=2, beam=60)
    assert {len(codes) for codes in found(latents, 0)[:36]} == {2, 3}
    assert int(latents.scores.isfinite().sum()) == 9 + 27


def with_end(model: VQNAT, probability: float) -> VQNAT:
    """Make the end as probable as that at every step, and all codes equally probable."""
    with torch.no_grad():
        model.predictor.output.weight.zero_()
        model.predictor.output.bias.fill_(
            math.log((1 - probability) / (len(model.predictor.output.bias) - 1))
        )
        model.predictor.output.bias[-1] = math.log(probability)
    return model


@pytest.mark.parametrize("probability, latents", [(0.02, 4), (0.4, 4), (0.49, 4), (0.51, 1), (0.9, 1)])
def test_greedy_search_weighs_the_end_against_all_codes_together(probability: float, latents: int) -> None:
    model = with_end(tiny_model(codebook_size=8), probability)
    once = search([model], sentences(2), [4, 4], beam=1)
    assert once.mask.sum(-1).tolist() == [[latents]] * 2
    codes = found(once, 0)[0]
    assert once.scores[0].tolist() == pytest.approx([latent_score([model], sentences(2)[0], codes)], abs=1e-4)


def test_an_improbable_end_is_found_where_no_code_is_allowed() -> None:
    once = search([with_end(tiny_model(codebook_size=8), 0.1)], sentences(3), [1, 3, 2], beam=1)
    assert once.mask.sum(-1).flatten().tolist() == [1, 3, 2]


def test_sampled_codes_follow_the_predictor() -> None:
    model, (row,) = tiny_model(codebook_size=3), sentences(1)
    torch.manual_seed(0)
    latents = search([model], [row], [2], beam=2000, sampling=True)
    first = Counter(codes[0] for codes in found(latents, 0))
    expected = torch.tensor(next_code([model], row, [])[:3]).softmax(0)
    for code in range(3):
        assert first[code] / 2000 == pytest.approx(float(expected[code]), abs=0.04)
    assert len(set(found(latents, 0))) == 3 + 9
    for codes, score in list(zip(found(latents, 0), latents.scores[0].tolist(), strict=True))[:20]:
        assert score == pytest.approx(latent_score([model], row, codes), abs=1e-4)


def test_temperature_sharpens_samples() -> None:
    model, rows = tiny_model(codebook_size=3), sentences(1)
    torch.manual_seed(0)
    cold = search([model], rows, [2], beam=200, sampling=True, temperature=0.02)
    hot = search([model], rows, [2], beam=200, sampling=True, temperature=50.0)
    assert len(set(found(cold, 0))) < len(set(found(hot, 0))) == 12


def test_top_k_draws_from_the_k_best_only() -> None:
    model, (row,) = tiny_model(codebook_size=8), sentences(1)
    torch.manual_seed(0)
    latents = search([model], [row], [1], beam=300, sampling=True, topk=2)
    probable = sorted(range(8), key=lambda code: -next_code([model], row, [])[code])[:2]
    assert {codes[0] for codes in found(latents, 0)} == set(probable)


def test_ended_sequences_stay_while_others_go_on() -> None:
    model, rows = tiny_model(codebook_size=3), sentences(2, seed=4)
    latents = search([model], rows, [1, 6], beam=3)
    assert latents.mask[0].sum(1).tolist() == [1, 1, 1]
    assert not latents.codes[~latents.mask].any()
    alone = search([model], rows[:1], [1], beam=3)
    torch.testing.assert_close(latents.scores[0], alone.scores[0], rtol=1e-5, atol=1e-5)
    assert found(latents, 0) == found(alone, 0)
    # The mask is a prefix: nothing follows an end.
    assert (latents.mask[..., 1:] <= latents.mask[..., :-1]).all()


@pytest.mark.parametrize("beam", [1, 3])
def test_no_place_is_decoded_that_no_candidate_has(beam: int) -> None:
    for seed in range(4):
        latents = search([tiny_model(seed, codebook_size=3)], sentences(2, seed=seed), [5, 6], beam=beam)
        assert latents.mask[..., -1].any()


def test_ensemble_averages_probabilities() -> None:
    steps = [torch.randn(4, 5).log_softmax(-1) for _ in range(3)]
    mean = mean_log_probabilities(steps)
    torch.testing.assert_close(mean, torch.stack(steps).exp().mean(0).log())
    torch.testing.assert_close(mean.exp().sum(-1), torch.ones(4))
    assert mean_log_probabilities(steps[:1]) is steps[0]


def test_end_of_batch_is_reached_when_all_have_ended() -> None:
    done = EndOfBatch(torch.device("cpu"))
    assert not done.reached(torch.tensor([[True, False]])) and done.first() is None
    assert done.reached(torch.tensor([[True, True]])) and done.first() == 2
    assert done.reached(torch.tensor([[True, True]])) and done.first() == 2


def test_draws_do_not_depend_on_when_the_end_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class LateAnswers(EndOfBatch):
        """As on a GPU, where the answer to a question arrives some steps later."""

        steps = 3

        def reached(self, ended: torch.Tensor) -> bool:
            self.steps -= super().reached(ended)
            return self.steps < 0

    model, rows = tiny_model(codebook_size=3), sentences(3)
    memory, draw = model.encode(padded(rows, left=True)), LatentSearch(beam=4, sampling=True)

    def two_batches() -> list[list[tuple[int, ...]]]:
        torch.manual_seed(0)
        both = [draw([model], [memory], torch.tensor([3, 1, 2]), 9, 1) for _ in range(2)]
        return [found(latents, row) for latents in both for row in range(len(rows))]

    expected = two_batches()
    assert expected[:3] != expected[3:]
    width = draw([model], [memory], torch.tensor([3, 1, 2]), 9, 1).codes.size(-1)
    monkeypatch.setattr("vqnat_plugin.generation.latent_search.EndOfBatch", LateAnswers)
    assert two_batches() == expected
    assert draw([model], [memory], torch.tensor([3, 1, 2]), 9, 1).codes.size(-1) == width <= 4
