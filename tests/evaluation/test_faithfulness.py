"""Deleting what a map marks: by a model that says how many squares of a film have structure."""

import json

import numpy as np
import pytest

from pneumo.evaluation.faithfulness import (
    DRAWS,
    FILMS,
    MOVED,
    RANDOM,
    SHARES,
    STRONGEST,
    WAYS,
    choose_films,
    delete,
    describe_drops,
    measure_drops,
    summarise_drops,
)

SIDE = 4  # pixels of a position
STRUCTURED = [(3, column) for column in range(2, 12)]  # ten of 196 positions


def structure(film):
    """1 where the square of a position holds both dark and bright, else 0."""
    squares = film.reshape(14, SIDE, 14, SIDE)
    return (squares.max(axis=(1, 3)) - squares.min(axis=(1, 3)).astype(int) > 100).astype(float)


@pytest.fixture
def film():
    """Grey, with a chequered square at each of STRUCTURED."""
    film = np.full((14 * SIDE, 14 * SIDE), 100, np.uint8)
    for row, column in STRUCTURED:
        film[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE] = 200 * (np.indices((4, 4)).sum(0) % 2)
    return film


def test_deleting_blurs_these_positions_and_no_others(film):
    positions = np.zeros((14, 14), bool)
    positions[3, 2] = positions[8, 8] = True
    without = delete(film, positions)
    assert structure(film).sum() == 10
    assert structure(without).sum() == 9
    changed = (without != film).reshape(14, SIDE, 14, SIDE).any(axis=(1, 3))
    assert not changed[~positions].any()
    assert changed[3, 2]
    assert abs(int(without[12:16, 8:12].mean()) - 100) <= 5  # as bright as before: chequered is 100 on average


def test_the_marked_positions_take_all_of_the_logit_and_random_ones_their_share(film):
    # 5 % of 196 positions are ten: those with structure, which are all of the logit of 10 / 196
    taken = []
    for seed in range(20):
        before, after = measure_drops(film, structure, seed)
        assert before == pytest.approx(10 / 196)
        assert after.shape == (len(SHARES), len(WAYS), DRAWS)
        assert (after[:, WAYS.index(STRONGEST)] == 0).all()
        taken.append((before - after) / before)
    mean = np.mean(taken, axis=(0, 3))  # (SHARES, WAYS), as a share of the logit
    np.testing.assert_allclose(mean[:, WAYS.index(RANDOM)], SHARES, atol=0.05)
    # a row of ten, moved: by r rows and c columns, each from 1 to 13, it never meets its own row again
    assert mean[0, WAYS.index(MOVED)] == 0


def test_the_same_seed_deletes_the_same(film):
    (_, one), (_, same), (_, other) = (measure_drops(film, structure, seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_only_pneumonias_called_so_are_chosen_and_not_too_many():
    assert choose_films([0, 1, 1, 1], [1, 1, 0, 1]) == [1, 3]
    assert choose_films([0, 1], [1, 0]) == []
    many = choose_films(np.ones(200), np.ones(200))
    assert len(set(many)) == FILMS == len(many)
    assert many == choose_films(np.ones(200), np.ones(200))
    assert max(many) >= FILMS  # not simply the first


def curve(strongest):
    """Two films of logits 1 and 3; deleting takes `strongest`, random positions 0.5, moved ones 0.25 off both."""
    after = np.empty((2, len(SHARES), len(WAYS), DRAWS))
    for film, before in enumerate((1.0, 3.0)):
        for way, taken in enumerate((strongest, 0.5, 0.25)):  # in the order of WAYS
            after[film, :, way] = before - taken
    return summarise_drops([1.0, 3.0], after, 2, 1, ["a", "b"])


def test_mean_drops_by_hand():
    result = curve(1.0)
    assert json.loads(json.dumps(result)) == result
    assert (result["films"], [point["share"] for point in result["curve"]]) == (2, list(SHARES))
    before, *after = (1 / (1 + np.exp(-np.array(of))) for of in ([3, 7], [1, 5], [2, 6], [2.5, 6.5]))
    drops = [(before - each).mean() for each in after]
    for point in result["curve"]:
        # calibrated logits are twice as far apart; all films alike, so that the interval is a point
        assert [point[way]["logit"] for way in WAYS] == pytest.approx([2.0, 1.0, 0.5])
        assert [point[way]["probability"] for way in WAYS] == pytest.approx(drops)
        assert point["more_than_random"]["logit"] == pytest.approx(1.0)
        assert point["more_than_random"]["intervals"]["logit"] == pytest.approx([1.0, 1.0])
        assert point["more_than_moved"]["probability"] == pytest.approx(drops[0] - drops[2])


def test_the_sentence_claims_no_more_than_the_interval():
    assert "strongest 20 % of the map takes 2.00 off the logit of 2 pneumonias" in describe_drops(curve(1.0))
    assert "blur alone" not in describe_drops(curve(1.0))
    assert "1.00 (1.00 to 1.00) more than random: what the map marks matters more" in describe_drops(curve(1.0))
    assert "is not shown" in describe_drops(curve(0.5))
    assert "is not shown" in describe_drops(curve(0.1))
