"""Labels under changes, with a model that a person can compute."""

import numpy as np
import pytest

from pneumo.data.acquisition import SIZE
from pneumo.evaluation.robustness import CHANGES, measure_changes


def test_films_near_the_limit_change_their_label_with_their_greys():
    films = np.stack([np.full((SIZE, SIZE), grey, np.uint8) for grey in (50, 90, 120, 200)])
    found = measure_changes(lambda films: np.mean(films, (1, 2)), films, 100.0, list("abcd"))
    assert list(found) == list(CHANGES)
    assert found["brighter by a fifth"]["same_label"] == 0.75  # 90 becomes 108
    assert found["darker by a fifth"]["same_label"] == 0.75  # 120 becomes 96
    assert found["flipped left to right"] == {
        "n": 4,
        "same_label": 1.0,
        "intervals": {"same_label": [pytest.approx(0.5101, abs=1e-4), 1.0]},  # Wilson's of 4 of 4
    }
