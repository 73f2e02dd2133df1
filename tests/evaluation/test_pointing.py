"""Where a heat map points, against boxes: every figure by hand."""

import numpy as np
import pytest

from pneumo.evaluation.pointing import ALL, cover, measure_pointing


def test_boxes_cover_positions_by_their_share():
    # of 2 × 2 positions: the upper left one whole, a quarter of the lower left one; overlapping boxes count once
    boxes = [(0.0, 0.0, 0.5, 0.5), (0.0, 0.25, 0.25, 0.75)]
    assert cover(boxes, 2).tolist() == [[1.0, 0.0], [0.25, 0.0]]
    assert cover([(-1.0, 0.5, 2.0, 9.0)], 2).tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert cover([], 3).sum() == 0


def test_strongest_position_and_colour_against_chance():
    covered = np.array([[[1, 1], [0, 0]], [[1, 0], [0, 0]], [[0.5, 0], [0, 0.25]]])
    maps = np.array([[[3, 1], [1, -1]], [[1, 0], [0, 2]], [[0, -1], [-1, -1]]], float)
    strengths = np.maximum(maps, 0)
    found = measure_pointing(maps, strengths, covered, list("abc"), ["AP", "AP", None])
    whole = found[ALL]
    assert (whole["n"], whole["pointing"]) == (3, pytest.approx(2 / 3))  # half a position in a box is enough
    assert whole["chance"] == pytest.approx((2 + 1 + 1) / 12)
    assert whole["coloured"] == 2
    assert whole["inside"] == pytest.approx((4 / 5 + 1 / 3) / 2)
    assert whole["area"] == pytest.approx((2 / 4 + 1 / 4) / 2)
    low, high = whole["intervals"]["pointing"]
    assert 0 < low < 2 / 3 < high < 1
    assert whole["intervals"]["inside"] == pytest.approx([1 / 3, 4 / 5])
    assert list(found) == [ALL, "view AP"]
    assert found["view AP"]["pointing"] == 0.5


def test_maps_without_colour_have_no_share_of_it():
    dark = measure_pointing(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), np.ones((1, 2, 2)), ["a"], [None])[ALL]
    assert (dark["coloured"], dark["inside"], dark["area"], dark["intervals"]["inside"]) == (0, None, None, None)
