"""Lung fields: on a drawn chest whose area is known, on the sample films, and not where there are none."""

import numpy as np
import pytest
from PIL import Image

from pneumo.films import lungs

HIGH, WIDE = 140, 68  # of a drawn field, in pixels: a quarter of an ellipse, upright on the midriff beside the spine
AREA = 2 * np.pi * HIGH * WIDE / 4


def quarter(column):
    """The field whose inner edge is at this column: outwards is away from the middle."""
    rows, columns = np.ogrid[:224, :224]
    inner = columns <= column if column < 112 else columns >= column
    return inner & (rows <= 185) & (((rows - 185) / HIGH) ** 2 + ((columns - column) / WIDE) ** 2 <= 1)


def chest(left=60, right=60):
    """A body on black, and two fields of these greys in it."""
    film = np.zeros((224, 224), np.uint8)
    film[:, 16:208] = 160
    film[quarter(99)] = left
    film[quarter(125)] = right
    return film


@pytest.fixture(params=["upright", "small", "wide"])
def drawn(request):
    film = chest()
    sides = {"upright": (224, 224), "small": (112, 112), "wide": (300, 260)}[request.param]  # width, height
    return np.asarray(Image.fromarray(film).resize(sides, Image.Resampling.BICUBIC))


def test_two_drawn_fields_are_found(drawn):
    found = lungs.find(drawn)
    assert (found.shape, found.dtype) == (drawn.shape, bool)
    assert found.mean() == pytest.approx(AREA / 224**2, rel=0.1)


def test_the_black_beside_the_body_is_no_lung():
    found = lungs.find(chest())
    assert not found[:, :14].any()
    assert not found[:, 210:].any()


@pytest.mark.parametrize("white", ["left", "right"])
def test_a_field_that_is_white_is_kept_by_its_fellow(white):
    kept = lungs.keep(chest(**{white: 140}))  # hardly darker than the body
    for column in (99, 125):
        assert kept[quarter(column)].mean() > 0.95


def test_what_is_kept_holds_the_fields_and_spares_the_corners(small_films):
    for film in small_films.values():
        found, kept = lungs.find(film), lungs.keep(film)
        assert kept[found].mean() > 0.99
        assert 0.1 < found.mean() < kept.mean() < 0.7
        assert not kept[:8, :8].any()
        assert not kept[-4:, 100:124].any()  # the belly


def test_the_same_film_has_the_same_fields_and_stays(small_films):
    film = next(iter(small_films.values()))
    before = film.copy()
    assert (lungs.find(film) == lungs.find(film)).all()
    assert (film == before).all()


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_one_grey_has_no_lungs(grey):
    assert lungs.find(np.full((224, 224), grey, np.uint8)) is None


def test_noise_has_no_lungs():
    for seed in range(3):
        noise = np.random.default_rng(seed).integers(0, 256, (224, 224), dtype=np.uint8)
        assert lungs.find(noise) is None
        assert lungs.keep(noise) is None
