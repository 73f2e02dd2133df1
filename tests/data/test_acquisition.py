"""Acquisition features, derived by hand."""

import math

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from pneumo.data.acquisition import (
    BLACK,
    FEATURES,
    GROUPS,
    SIZE,
    estimate_jpeg_quality,
    measure_acquisition,
    measure_sharpness,
)
from pneumo.errors import FormatError
from tests.support.films import saved


def encoded(pixels, file_format="PNG", **options):
    return saved(Image.fromarray(np.asarray(pixels, np.uint8)), file_format, **options)


def chequered(cell):
    """Black and 200 in cells of so many pixels: mean 100, deviation 100."""
    index = np.arange(SIZE) // cell
    return ((index[:, None] + index) % 2 * 200).astype(np.uint8)


@pytest.fixture
def film(small_films):
    return next(iter(small_films.values()))


def test_every_number_is_described_and_measured(film):
    found = measure_acquisition(encoded(film, "JPEG"))
    assert tuple(found) == FEATURES
    assert all(isinstance(value, float) and math.isfinite(value) for value in found.values())
    assert all(words for group in GROUPS.values() for words in group.values())


def test_a_chequerboard_by_hand():
    found = measure_acquisition(encoded(chequered(1)))
    # every step is 200 and the deviation 100; the Laplacian is 4 · 200; the mean of 2 × 2 pixels is 100 everywhere
    assert (found["across_1"], found["down_1"], found["laplacian_1"]) == (2, 2, 8)
    assert found["across_2"] == found["laplacian_2"] == found["down_4"] == 0
    coarse = measure_acquisition(encoded(chequered(2)))
    assert (coarse["across_2"], coarse["down_2"], coarse["laplacian_2"]) == (2, 2, 8)
    # of the 223 steps across, 111 are from one cell to the next
    assert coarse["across_1"] == pytest.approx(2 * math.sqrt(111 / 223))
    assert (found["mean"], found["deviation"], found["percentile_05"], found["percentile_95"]) == (100, 100, 0, 200)
    assert (found["black_share"], found["border_black"], found["bright_share"]) == (0.5, 0.5, 0)
    assert found["border_rows"] == found["border_columns"] == 0


def test_a_blurred_copy_is_less_sharp_and_a_paler_one_is_as_sharp(film):
    for pixels in (chequered(1), chequered(4), film):
        grey = pixels.astype(float)
        assert measure_sharpness(gaussian_filter(grey, 1)) < 0.9 * measure_sharpness(grey)
    assert measure_sharpness(film / 2 + 60) == pytest.approx(measure_sharpness(film.astype(float)))


def test_border_by_hand():
    pixels = np.full((SIZE, SIZE), 200)
    pixels[:28] = 0  # an eighth of the rows at the top
    pixels[:, -56:] = BLACK  # a quarter of the columns at the right
    found = measure_acquisition(encoded(pixels))
    assert (found["border_rows"], found["border_columns"]) == (1 / 8, 1 / 4)
    assert found["black_share"] == pytest.approx(1 - 7 / 8 * 3 / 4)
    assert found["edge_left"] == pytest.approx(7 / 8 * 200)
    assert found["edge_right"] == pytest.approx(7 / 8 * BLACK, abs=BLACK / 8)
    assert (found["edge_bottom"], found["bright_share"]) == (0.75 * 200 + 0.25 * BLACK, 0)


def test_a_film_of_one_grey_has_numbers_too():
    for grey in (0, 90):
        found = measure_acquisition(encoded(np.full((64, 64), grey)))
        assert all(found[name] == 0 for name in GROUPS["sharpness"])
        assert (found["mean"], found["deviation"]) == (grey, 0)
        assert found["border_rows"] == (1 if grey == 0 else 0)


def test_a_marker_stands_out_where_it_stands():
    pixels = np.full((SIZE, SIZE), 20)
    pixels[10:26, 6:18] = 250  # 192 of 1,936 pixels of the corner: more than one in a hundred
    found = measure_acquisition(encoded(pixels))
    markers = {name: value for name, value in found.items() if name.startswith("marker") and value}
    assert markers == {"marker_top_left": 230}


@pytest.mark.parametrize("quality", [1, 10, 50, 75, 90, 95, 100])
def test_jpeg_quality_is_what_it_was_saved_with(film, quality):
    assert estimate_jpeg_quality(encoded(film, "JPEG", quality=quality)) == quality
    colour = np.repeat(film[..., None], 3, axis=2)
    assert measure_acquisition(encoded(colour, "JPEG", quality=quality))["jpeg_quality"] == quality


def test_the_file_by_hand(film):
    data = encoded(np.zeros((100, 200)), "BMP")
    found = measure_acquisition(data)
    assert (found["width"], found["height"], found["aspect"]) == (200, 100, 2)
    told = (found["jpeg_quality"], found["file_bytes"], found["bits_per_pixel"])
    assert told == (0, len(data), len(data) * 8 / 20_000)
    with pytest.raises(FormatError):
        measure_acquisition(b"no film")
