"""From logits to colours: one scale for all films, clear where nothing raised the probability."""

import base64
import io
import math

import numpy as np
import pytest
from PIL import Image

from pneumo.model.heatmap import (
    BLENDED_SIDE,
    LONGER_SIDE,
    blend,
    choose_scale,
    describe_coverage,
    draw_overlay,
    pool,
    to_data_uri,
    to_strengths,
)


def test_strength_is_one_scale_for_all_films():
    logits = np.array([[-5.0, 1.0], [3.0, 9.0]], np.float32)
    found = to_strengths(logits, floor=1.0, scale=4.0)
    np.testing.assert_array_equal(found, [[0, 0], [0.5, 1]])
    assert found.dtype == np.float32


def test_colours_begin_above_what_normal_films_show():
    normal = np.linspace(-20, 0, 101).reshape(1, 1, 101)  # 99 % of the positions lie below -0.2
    ill = np.linspace(-1, 19, 101).reshape(1, 1, 101)  # 96 lie above: by 0.2 to 19.2, evenly
    found = choose_scale(np.concatenate([normal, ill]), np.array([0, 1]))
    assert found["floor"] == pytest.approx(-0.2)
    assert found["scale"] == pytest.approx(0.2 + 0.95 * 19)
    drawn = to_strengths(normal, found["floor"], found["scale"])
    assert (drawn > 1e-9).sum() == 1


def test_coverage_leaves_out_a_label_without_films():
    assert describe_coverage({"NORMAL": 0.05, "PNEUMONIA": 0.667}) == (
        "On average the heat map has colour on 5.0 % of a film labelled NORMAL "
        "and on 66.7 % of a film labelled PNEUMONIA."
    )
    assert describe_coverage({"NORMAL": None, "PNEUMONIA": 1.0}).endswith("on 100.0 % of a film labelled PNEUMONIA.")


def test_colours_of_a_model_that_tells_nothing():
    maps = np.stack([np.zeros((7, 7)), np.full((7, 7), -1.0)])
    found = choose_scale(maps, np.array([0, 1]))
    assert (found["floor"], found["scale"]) == (0, 1)


def test_a_map_below_the_floor_is_not_stretched_to_colours():
    calm = to_strengths(np.linspace(-9, 0, 196).reshape(14, 14), floor=0.0, scale=1.0)
    assert not calm.any()
    picture = np.asarray(draw_overlay(calm, 300, 200).convert("RGBA"))
    assert (picture[..., 3] == 0).all()


def test_overlay_has_the_films_shape_and_marks_the_place():
    strengths = np.zeros((14, 14), np.float32)
    strengths[10:, :4] = 1  # bottom left
    picture = draw_overlay(strengths, 1000, 500)
    assert picture.size == (LONGER_SIDE, LONGER_SIDE // 2)
    alpha = np.asarray(picture.convert("RGBA"))[..., 3]
    assert alpha[-1, 0] == alpha.max() > 100
    assert alpha[0, -1] == alpha[0, 0] == alpha[-1, -1] == 0
    assert draw_overlay(strengths, 500, 1000).size == (LONGER_SIDE // 2, LONGER_SIDE)
    assert draw_overlay(strengths, 32, 32_000).size == (1, LONGER_SIDE)


def test_stronger_is_brighter_and_denser():
    colours = [
        np.asarray(draw_overlay(np.full((14, 14), s), 14, 14).convert("RGBA"))[0, 0] for s in (0.1, 0.4, 0.7, 1.0)
    ]
    assert all(np.diff([colour[3] for colour in colours]) > 0)
    assert all(np.diff([colour[:3].sum(dtype=int) for colour in colours]) > 0)


def test_blend_leaves_the_film_where_the_overlay_is_clear():
    film = np.full((100, 200), 120, np.uint8)
    strengths = np.zeros((14, 14), np.float32)
    same = np.asarray(blend(film, draw_overlay(strengths, 200, 100)))
    assert same.shape == (BLENDED_SIDE // 2, BLENDED_SIDE, 3)
    assert (same == 120).all()
    strengths[:, :7] = 1
    mixed = np.asarray(blend(film, draw_overlay(strengths, 200, 100)))
    assert (mixed[:, -200:] == 120).all()
    assert (mixed[:, :200] != 120).any(axis=-1).all()


def test_data_uri_keeps_colours_and_transparency():
    picture = draw_overlay(np.linspace(0, 1, 196, dtype=np.float32).reshape(14, 14), 140, 140)
    head, body = to_data_uri(picture).split(",")
    assert head == "data:image/png;base64"
    again = Image.open(io.BytesIO(base64.b64decode(body)))
    np.testing.assert_array_equal(np.asarray(again.convert("RGBA")), np.asarray(picture.convert("RGBA")))
    assert to_data_uri(Image.new("L", (8, 8)), "JPEG", quality=80).startswith("data:image/jpeg;base64,")


def test_pooling_lies_between_mean_and_maximum():
    maps = np.array([[[0.0, 0.0], [0.0, math.log(5)]], [[2.0, 2.0], [2.0, 2.0]]])
    np.testing.assert_allclose(pool(maps, 0), [math.log(5) / 4, 2])
    np.testing.assert_allclose(pool(maps, 1), [math.log(2), 2])  # (1 + 1 + 1 + 5) / 4 = 2
    np.testing.assert_allclose(pool(maps, 2), [math.log(7) / 2, 2])  # (1 + 1 + 1 + 25) / 4 = 7
    assert pool(1000 * maps[0], 5) == pytest.approx(1000 * math.log(5) - math.log(4) / 5)
    assert pool(maps[0], 0) == maps[0].mean()
