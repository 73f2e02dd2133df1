"""Films that one thing was taken out of, or that were acquired like another."""

import numpy as np
import pytest
from PIL import Image

from pneumo.data.acquisition import CORNER, GROUPS, SIZE, measure_acquisition, measure_sharpness
from pneumo.data.changes import (
    EVERYDAY,
    MASKED_BORDER,
    acquire_like,
    blur_to,
    find_most_typical,
    list_changes,
    mask_borders,
    mask_corners,
    tone_to,
)
from tests.support.films import saved


@pytest.fixture
def film(small_films):
    return next(iter(small_films.values()))


def test_masks_blacken_their_places_and_nothing_else():
    white = np.full((SIZE, SIZE), 255, np.uint8)
    corners, borders = mask_corners(white), mask_borders(white)
    assert (corners == 0).sum() == 4 * CORNER**2
    assert not corners[:CORNER, :CORNER].any()
    assert not corners[-CORNER:, -CORNER:].any()
    assert (borders > 0).sum() == (SIZE - 2 * MASKED_BORDER) ** 2
    assert borders[SIZE // 2, SIZE // 2] == 255
    assert white.all(), "the film itself stays"


def test_sharpness_is_brought_to_the_common_value_and_never_raised(small_films):
    for film in small_films.values():
        before = measure_sharpness(film.astype(float))
        assert measure_sharpness(blur_to(film, before / 2).astype(float)) == pytest.approx(before / 2, rel=0.05)
        assert blur_to(film, 1.01 * before) is film


def test_tone_is_brought_to_the_common_mean_and_deviation(film):
    grey = tone_to(film, 120, 30)
    assert (grey.mean(), grey.std()) == (pytest.approx(120, abs=0.5), pytest.approx(30, abs=0.5))
    assert (tone_to(np.full((8, 8), 7, np.uint8), 120, 30) == 120).all()


def test_interventions_take_their_aim_from_the_films(small_films):
    measured = [measure_acquisition(saved(Image.fromarray(film), "PNG")) for film in small_films.values()]
    squares = list(small_films.values())
    changes = list_changes(measured, squares[find_most_typical(measured)])
    changed = {name: [change(film) for film in small_films.values()] for name, change in changes.items()}
    for name, films in changed.items():
        side = SIZE // 2 if name == "half the size" else SIZE
        assert {(film.shape, film.dtype) for film in films} == {((side, side), np.dtype(np.uint8))}, name
    means = [film.mean() for film in changed["tone equalised"]]
    wanted = np.median([one["mean"] for one in measured])
    assert means == pytest.approx([wanted] * 4, abs=2)  # clipping moves it a little
    plain = [measure_sharpness(film.astype(float)) for film in small_films.values()]
    equal = [measure_sharpness(film.astype(float)) for film in changed["sharpness equalised"]]
    assert equal == pytest.approx(np.minimum(plain, np.percentile(plain, 10)), rel=0.02)
    histograms = [np.sort(film.ravel()).astype(int) for film in changed["spectrum and histogram equalised"]]
    assert np.abs(np.diff(histograms, axis=0)).mean() < 3, "one tone for all"
    both = changed["corners and borders masked"][0]
    assert (both == mask_borders(changed["corners masked"][0])).all()


def test_everyday_changes_by_hand():
    film = np.zeros((SIZE, SIZE), np.uint8)
    film[:, :112], film[100:120] = 100, 250
    after = {name: change(film) for name, change in EVERYDAY.items()}
    assert (after["flipped left to right"][:, 112:][:50] == 100).all()
    assert (after["brighter by a fifth"][0, 0], after["brighter by a fifth"][110, 0]) == (120, 255)
    assert (after["darker by a fifth"][0, 0], after["darker by a fifth"][110, 0]) == (80, 200)
    assert abs(after["saved as JPEG of quality 50"].astype(int) - film).mean() < 3
    assert 40 < after["blurred by a pixel"][0, 111] < 100, "the edge is soft"
    assert after["blurred by a pixel"][0, 50] == 100
    turned = after["turned by 5°"]
    assert (turned[0, 0], turned[112, 112]) == (0, 250), "black comes in at the corners, the middle stays"
    assert (after["half the size"][:40, :50] == 100).all()


def chest(edge, low, high):
    """Two bright columns on dark, whose edges are `edge` pixels wide."""
    x = np.abs(np.linspace(-32, 32, 64))
    column = 1 / (1 + np.exp((np.abs(x - 16) - 8) * 4 / edge))
    return np.tile(low + (high - low) * column, (64, 1)).round().astype(np.uint8)


def test_a_film_acquired_like_another_has_its_sharpness_and_tone_and_its_own_chest():
    soft, crisp = chest(12, 20, 120), np.roll(chest(1, 90, 250), 8, axis=1)
    for film, other in ((soft, crisp), (crisp, soft)):
        after = acquire_like(film, other)
        assert (after.shape, after.dtype) == ((64, 64), np.uint8)
        assert abs(float(after.mean()) - other.mean()) < 3
        assert np.abs(np.percentile(after, (5, 50, 95)) - np.percentile(other, (5, 50, 95))).max() < 12
        assert abs(measure_sharpness(after) - measure_sharpness(other)) < 0.5 * abs(
            measure_sharpness(film) - measure_sharpness(other)
        )
        assert np.corrcoef(after.ravel(), film.ravel())[0, 1] > 0.9 > np.corrcoef(after.ravel(), other.ravel())[0, 1]
    np.testing.assert_array_equal(acquire_like(soft, soft), soft)


def test_a_film_of_one_grey_can_take_part_in_an_exchange():
    flat = np.full((64, 64), 90, np.uint8)
    assert (acquire_like(chest(1, 90, 250), flat) == 90).all()
    assert acquire_like(flat, chest(1, 90, 250)).std() == 0


def test_the_most_typical_film_lies_in_the_middle():
    names = [*GROUPS["sharpness"], *GROUPS["tone"]]
    films = [dict.fromkeys(names, value) for value in (1.0, 2.0, 3.0, 40.0, 50.0)]
    assert find_most_typical(films) == 2
    assert find_most_typical([films[0]]) == 0
