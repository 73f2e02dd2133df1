"""The steps between squashing and the network: by hand, by name, and never imported for nothing."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pneumo.errors import ModelError
from pneumo.films.film import squash
from pneumo.films.preprocessing import NOT_FOUND, STEPS, prepare
from pneumo.reports.preprocessing_figures import COLUMNS, HEAD, SIDE, draw_lungs, draw_steps


def grey_film(grey=100):
    return np.full((224, 224), grey, np.uint8)


def test_without_steps_a_film_is_squashed_and_nothing_else(small_films):
    film = next(iter(small_films.values()))[:200]
    prepared, warnings = prepare(film, 112)
    assert (prepared == squash(film, 112)).all()
    assert warnings == ()


def test_without_steps_nothing_heavy_is_imported():
    code = (
        "import sys, numpy as np; from pneumo.films.preprocessing import prepare;"
        "prepare(np.zeros((64, 64), np.uint8), 32);"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'skimage', 'scipy', 'matplotlib', 'imgaug'}))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_step_that_is_not_there_is_named():
    with pytest.raises(ModelError, match=r"Expected .*equalise.*, received sharpen\."):
        prepare(grey_film(), 224, ("equalise", "sharpen"))


@pytest.mark.parametrize("name", STEPS)
def test_every_step_keeps_shape_and_type_and_leaves_its_film_alone(small_films, name):
    same = []
    for film in small_films.values():
        before = film.copy()
        changed, _ = STEPS[name](film)
        assert (changed.shape, changed.dtype) == (film.shape, np.uint8)
        assert (film == before).all()
        same.append((changed == film).all())
    assert not all(same), "one may have the tone that `level` gives"


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("grey", [0, 100, 255])
def test_one_grey_stays_one_grey(name, grey):
    changed, _ = STEPS[name](grey_film(grey))
    assert changed.min() == changed.max()


def test_equalise_two_levels():
    film = grey_film(100)
    film[:56] = 50  # a quarter; the rest of the pixels, and these, are not brighter than 100
    changed, _ = STEPS["equalise"](film)
    assert set(changed[:56].flat) == {64}  # 255 / 4, rounded
    assert set(changed[56:].flat) == {255}


def test_clahe_raises_the_contrast_of_a_faint_pattern():
    film = grey_film(100)
    film[::2] = 104
    changed, _ = STEPS["clahe"](film)
    assert changed.std() > 2 * film.std()


@pytest.mark.parametrize(("name", "speck"), [("close", 0), ("open", 255)])
def test_a_speck_smaller_than_the_disk_goes_and_a_larger_one_stays(name, speck):
    film = grey_film()
    film[50:53, 50:53] = speck
    film[0:2, 0:2] = speck  # at the film's edge, too
    film[100:120, 100:120] = speck
    changed, _ = STEPS[name](film)
    assert (changed[:60, :60] == 100).all()
    assert changed[110, 110] == speck
    other, _ = STEPS["open" if name == "close" else "close"](film)
    assert other[51, 51] == speck


def test_steps_are_taken_in_their_order():
    film = grey_film()
    film[50:53, 50:53], film[51, 51] = 255, 0
    for steps in (("close", "open"), ("open", "close")):
        by_hand = STEPS[steps[1]](STEPS[steps[0]](film)[0])[0]
        assert (prepare(film, 224, steps)[0] == by_hand).all()


def test_without_lungs_the_film_stays_whole_and_its_reader_is_told():
    film = np.random.default_rng(0).integers(0, 256, (224, 224), dtype=np.uint8)
    changed, warnings = prepare(film, 224, ("lungs", "close"))
    assert warnings == (NOT_FOUND,)
    assert (changed == STEPS["close"](film)[0]).all()


def test_figures(small_films, tmp_path):
    films = list(small_films.values())
    draw_steps(films, tmp_path / "steps.png")
    with Image.open(tmp_path / "steps.png") as picture:
        assert picture.size == (SIDE * len(COLUMNS), HEAD + SIDE * len(films))
    assert draw_lungs([*films, grey_film()], tmp_path / "lungs.png") == 4 / 5
    with Image.open(tmp_path / "lungs.png") as picture:
        assert picture.size == (SIDE * 5 // 2, SIDE // 2)
