"""What a film tells besides the chest: numbers by hand, and films that one thing was taken out of."""

import io
import math

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from pneumo.data.acquisition import (
    BLACK,
    CORNER,
    EVERYDAY,
    FEATURES,
    GROUPS,
    MASKED_BORDER,
    SIZE,
    acquired_like,
    blur_to,
    features,
    interventions,
    jpeg_quality,
    mask_borders,
    mask_corners,
    most_typical,
    sharpness,
    tone_to,
)
from pneumo.errors import FormatError


def encoded(pixels, file_format="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, file_format, **options)
    return buffer.getvalue()


def chequered(cell):
    """Black and 200 in cells of so many pixels: mean 100, deviation 100."""
    index = np.arange(SIZE) // cell
    return ((index[:, None] + index) % 2 * 200).astype(np.uint8)


@pytest.fixture
def film(small_films):
    return next(iter(small_films.values()))


def test_every_number_is_described_and_measured(film):
    found = features(encoded(film, "JPEG"))
    assert tuple(found) == FEATURES
    assert all(isinstance(value, float) and math.isfinite(value) for value in found.values())
    assert all(words for group in GROUPS.values() for words in group.values())


def test_a_chequerboard_by_hand():
    found = features(encoded(chequered(1)))
    # every step is 200 and the deviation 100; the Laplacian is 4 · 200; the mean of 2 × 2 pixels is 100 everywhere
    assert (found["across_1"], found["down_1"], found["laplacian_1"]) == (2, 2, 8)
    assert found["across_2"] == found["laplacian_2"] == found["down_4"] == 0
    coarse = features(encoded(chequered(2)))
    assert (coarse["across_2"], coarse["down_2"], coarse["laplacian_2"]) == (2, 2, 8)
    # of the 223 steps across, 111 are from one cell to the next
    assert coarse["across_1"] == pytest.approx(2 * math.sqrt(111 / 223))
    assert (found["mean"], found["deviation"], found["percentile_05"], found["percentile_95"]) == (100, 100, 0, 200)
    assert (found["black_share"], found["border_black"], found["bright_share"]) == (0.5, 0.5, 0)
    assert found["border_rows"] == found["border_columns"] == 0


def test_a_blurred_copy_is_less_sharp_and_a_paler_one_is_as_sharp(film):
    for pixels in (chequered(1), chequered(4), film):
        assert sharpness(gaussian_filter(pixels.astype(float), 1)) < 0.9 * sharpness(pixels.astype(float))
    assert sharpness(film / 2 + 60) == pytest.approx(sharpness(film.astype(float)))


def test_border_by_hand():
    pixels = np.full((SIZE, SIZE), 100)
    pixels[:28] = 0  # an eighth of the rows at the top
    pixels[:, -56:] = BLACK  # a quarter of the columns at the right
    found = features(encoded(pixels))
    assert (found["border_rows"], found["border_columns"]) == (1 / 8, 1 / 4)
    assert found["black_share"] == pytest.approx(1 - 7 / 8 * 3 / 4)
    assert found["edge_left"] == pytest.approx(7 / 8 * 100)
    assert found["edge_right"] == pytest.approx(7 / 8 * BLACK, abs=BLACK / 8)
    assert (found["edge_bottom"], found["bright_share"]) == (0.75 * 100 + 0.25 * BLACK, 0)


def test_a_film_of_one_grey_has_numbers_too():
    for grey in (0, 90):
        found = features(encoded(np.full((64, 64), grey)))
        assert all(found[name] == 0 for name in GROUPS["sharpness"])
        assert (found["mean"], found["deviation"]) == (grey, 0)
        assert found["border_rows"] == (1 if grey == 0 else 0)


def test_a_marker_stands_out_where_it_stands():
    pixels = np.full((SIZE, SIZE), 20)
    pixels[10:26, 6:18] = 250  # 192 of 1,936 pixels of the corner: more than one in a hundred
    found = features(encoded(pixels))
    assert {name: value for name, value in found.items() if name.startswith("marker") and value} == {
        "marker_top_left": 230
    }


@pytest.mark.parametrize("quality", [1, 10, 50, 75, 90, 95, 100])
def test_jpeg_quality_is_what_it_was_saved_with(film, quality):
    assert jpeg_quality(encoded(film, "JPEG", quality=quality)) == quality
    colour = np.repeat(film[..., None], 3, axis=2)
    assert features(encoded(colour, "JPEG", quality=quality))["jpeg_quality"] == quality


def test_the_file_by_hand(film):
    data = encoded(np.zeros((100, 200)), "BMP")
    found = features(data)
    assert (found["width"], found["height"], found["aspect"]) == (200, 100, 2)
    assert (found["jpeg_quality"], found["file_bytes"], found["bits_per_pixel"]) == (
        0,
        len(data),
        len(data) * 8 / 20_000,
    )
    with pytest.raises(FormatError):
        features(b"no film")


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
        before = sharpness(film.astype(float))
        assert sharpness(blur_to(film, before / 2).astype(float)) == pytest.approx(before / 2, rel=0.05)
        assert blur_to(film, 1.01 * before) is film


def test_tone_is_brought_to_the_common_mean_and_deviation(film):
    grey = tone_to(film, 120, 30)
    assert (grey.mean(), grey.std()) == (pytest.approx(120, abs=0.5), pytest.approx(30, abs=0.5))
    assert (tone_to(np.full((8, 8), 7, np.uint8), 120, 30) == 120).all()


def test_interventions_take_their_aim_from_the_films(small_films):
    measured = [features(encoded(film)) for film in small_films.values()]
    squares = list(small_films.values())
    changes = interventions(measured, squares[most_typical(measured)])
    changed = {name: [change(film) for film in small_films.values()] for name, change in changes.items()}
    for name, films in changed.items():
        side = SIZE // 2 if name == "half the size" else SIZE
        assert {(film.shape, film.dtype) for film in films} == {((side, side), np.dtype(np.uint8))}, name
    means = [film.mean() for film in changed["tone equalised"]]
    assert means == pytest.approx(
        [np.median([one["mean"] for one in measured])] * 4, abs=2
    )  # clipping moves it a little
    plain = [sharpness(film.astype(float)) for film in small_films.values()]
    equal = [sharpness(film.astype(float)) for film in changed["sharpness equalised"]]
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
        after = acquired_like(film, other)
        assert (after.shape, after.dtype) == ((64, 64), np.uint8)
        assert abs(float(after.mean()) - other.mean()) < 3
        assert np.abs(np.percentile(after, (5, 50, 95)) - np.percentile(other, (5, 50, 95))).max() < 12
        assert abs(sharpness(after) - sharpness(other)) < 0.5 * abs(sharpness(film) - sharpness(other))
        assert np.corrcoef(after.ravel(), film.ravel())[0, 1] > 0.9 > np.corrcoef(after.ravel(), other.ravel())[0, 1]
    np.testing.assert_array_equal(acquired_like(soft, soft), soft)


def test_a_film_of_one_grey_can_take_part_in_an_exchange():
    flat = np.full((64, 64), 90, np.uint8)
    assert (acquired_like(chest(1, 90, 250), flat) == 90).all()
    assert acquired_like(flat, chest(1, 90, 250)).std() == 0


def test_the_most_typical_film_lies_in_the_middle():
    names = [*GROUPS["sharpness"], *GROUPS["tone"]]
    films = [dict.fromkeys(names, value) for value in (1.0, 2.0, 3.0, 40.0, 50.0)]
    assert most_typical(films) == 2
    assert most_typical([films[0]]) == 0
