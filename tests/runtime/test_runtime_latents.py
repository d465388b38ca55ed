"""The search over latents of exported models, by step probabilities that are given."""

from typing import Any

import numpy as np
import pytest

from vqnat_plugin.runtime.latents import Latents, search

CODES = 4


class GivenSteps:
    """A model whose latent predictor has the same probabilities at every step."""

    codes = CODES

    def __init__(self, rows: list[list[float]]) -> None:
        """
        Args:
            rows: of each sentence, the probability of each code, the end's behind them.
        """
        self.rows, self.batch = np.log(np.array(rows, np.float32)), len(rows)

    def predict(self, memory: Any, group: int) -> "GivenSteps":
        assert group == 1
        return self

    def step(self, codes: np.ndarray, position: int) -> np.ndarray:
        return self.rows.copy()


def greedy(rows: list[list[float]], limits: list[int], least: int = 1, scored: bool = True) -> Latents:
    model = GivenSteps(rows)
    return search(model, model, 1, limits, least, scored)  # type: ignore[arg-type]


def with_end(probability: float) -> list[float]:
    """The end as probable as that, the second code ahead of the others."""
    rest = (1 - probability) / (CODES + 1)
    return [rest, 2 * rest, rest, rest, probability]


@pytest.mark.parametrize("scored", [True, False])
@pytest.mark.parametrize("probability, latents", [(0.02, 3), (0.3, 3), (0.49, 3), (0.51, 1), (0.9, 1)])
def test_greedy_search_weighs_the_end_against_all_codes_together(
    probability: float, latents: int, scored: bool
) -> None:
    found = greedy([with_end(probability), with_end(0.99)], [3, 3], scored=scored)
    assert found.mask[:, 0].sum(-1).tolist() == [latents, 1]
    assert set(found.codes[found.mask].tolist()) == {1}
    if scored:
        code, end = 2 * (1 - probability) / (CODES + 1), probability
        assert found.scores[0, 0] == pytest.approx(latents * np.log(code) + np.log(end), abs=1e-5)


def test_an_improbable_end_is_found_where_no_code_is_allowed() -> None:
    found = greedy([with_end(0.1)] * 3, [1, 3, 2])
    assert found.mask[:, 0].sum(-1).tolist() == [1, 3, 2]


def test_a_probable_end_waits_for_the_fewest_latents() -> None:
    assert greedy([with_end(0.9)], [4], least=3).mask.sum() == 3
