"""Which value is black and which is white, and which tone leaves a film in doubt."""

import numpy as np
import pytest

from pneumo.films import tone
from pneumo.films.images import decode
from tests.support.films import SAMPLES, png

RAMP = np.tile(np.arange(256, dtype=np.uint8), (256, 1))


def test_the_range_of_values_is_from_the_darkest_to_the_brightest():
    assert tone.find_span(np.array([3.0, 1.0, 2.0]), np.array([10, 10, 10])) == (1, 3)
    assert tone.find_span(np.array([0.0, 1.0, 9.0]), np.array([10, 0, 0])) == (0, 0)


def test_values_far_beyond_the_others_are_outliers():
    # the 5th and 95th percentile lie 45 from the median: fences at 3 × 45
    values = np.array([*range(101), 260.0, 240.0])
    ones = np.ones(101, int)
    assert tone.find_span(values, np.array([*ones, 1, 0])) == (0, 100)  # 260 is 210 away
    assert tone.find_span(values - 300, np.array([*ones, 1, 0])) == (-300, -200)
    assert tone.find_span(-values, np.array([*ones, 1, 0])) == (-100, 0)
    assert tone.find_span(np.array([*range(101), 180.0]), np.array([*ones, 1])) == (0, 180)  # 130 away: within


def test_a_film_of_which_half_is_black_border_has_no_lower_fence():
    values, counts = np.array([0.0, 100.0, 200.0]), np.array([60, 20, 20])
    assert tone.find_span(values, counts) == (0, 200)


def test_one_in_ten_thousand_may_lie_beyond_either_end():
    values = np.array([*range(101), 101.0])
    assert tone.find_span(values, np.array([*[200] * 101, 1]))[1] == 100
    assert tone.find_span(values, np.array([*[200] * 101, 5]))[1] == 101


@pytest.mark.parametrize(
    ("values", "scaled", "expected", "note"),
    [
        ([0, 0.25, 0.5], True, [0, 0.25, 0.5], None),  # half of the scale is enough
        ([0, 0.2, 0.4], True, [0, 0.5, 1], tone.UNFILLED.format(0.4)),
        ([0.5, 0.52, 0.54], True, [0.5, 0.52, 0.54], None),  # noise on a blank film stays noise
        ([0.7, 0.7, 0.7], True, [0.7, 0.7, 0.7], None),
        ([0, 0.25, 0.5], False, [0, 0.5, 1], tone.NO_SCALE),
        ([0, 0.5, 1], False, [0, 0.5, 1], None),
        ([0.7, 0.7, 0.7], False, [0, 0, 0], tone.NO_SCALE),
    ],
)
def test_a_scale_is_kept_unless_the_film_hardly_fills_it(values, scaled, expected, note):
    shares, said = tone.spread(np.array(values), np.array([10, 10, 10]), scaled)
    assert shares == pytest.approx(expected)
    assert said == note


def test_a_ramp_has_all_greys_and_no_doubt():
    assert tone.find_doubts(RAMP) == []
    assert tone.count_levels(np.full(64, 0.01)) == pytest.approx(64)
    assert tone.count_levels(np.array([0.5, 0.25, 0.25])) == pytest.approx(2**1.5)
    assert tone.count_levels(np.zeros(4)) == 1


def test_a_film_whose_middle_is_clipped_is_in_doubt():
    white, black = RAMP.copy(), RAMP.copy()
    white[100:140, 100:140], black[100:140, 100:140] = 255, 0  # 1,600 of the middle's 128² pixels: 10 %
    (said,) = tone.find_doubts(white)
    assert said.startswith("9.8% of the film's middle is pure white")
    (said,) = tone.find_doubts(black)
    assert said.startswith("9.8% of the film's middle is pure black")
    corner = RAMP.copy()
    corner[:30, :30] = 255  # 900 of 256² pixels, and two columns of the ramp are white anyway
    (said,) = tone.find_doubts(corner)
    assert said.startswith("2.2% of the film is pure white")
    border = RAMP.copy()
    border[:, :60] = border[:40] = 0
    assert tone.find_doubts(border) == [], "a black border is no part of the chest"


def test_a_film_of_few_greys_is_in_doubt():
    assert tone.find_doubts(RAMP // 4 * 4) == []  # 64
    (said,) = tone.find_doubts(RAMP // 16 * 16)  # 16, of which one is 0
    assert "15 greys" in said
    assert tone.find_doubts(np.full((64, 64), 90, np.uint8)) == [], "of one grey, that it is empty says enough"
    assert len(tone.find_doubts(np.where(RAMP > 127, 255, 0).astype(np.uint8))) == 3


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_a_film_has_the_same_tone_whatever_its_gain_offset_or_gamma_was(path):
    film = decode(path.read_bytes(), 224).pixels
    levelled = tone.level(film)
    for changed in (film * 0.6, film * 0.5 + 80, 255 * (film / 255) ** 1.5, 255 * (film / 255) ** 0.7):
        again = tone.level(np.rint(changed).astype(np.uint8))
        assert np.abs(again.astype(int) - levelled).mean() < 3


def test_level_spreads_and_brings_the_median_to_the_middle():
    ramp = np.tile(np.arange(50, 151, dtype=np.uint8), (101, 1))  # spread, its median is a half
    levelled = tone.level(ramp)
    assert levelled[0, [0, 100]].tolist() == [0, 255]
    assert levelled[0, 50] == round(255 * tone.MEDIAN)
    assert (tone.level(np.full((40, 40), 90, np.uint8)) == 90).all()


def test_the_doubt_and_the_warning_reach_the_film():
    plain, few = decode(png(RAMP)), decode(png(RAMP // 16 * 16))
    assert (plain.warnings, plain.doubtful) == ((), False)
    assert (few.warnings, few.doubtful) == (tuple(tone.find_doubts(RAMP // 16 * 16)), True)
