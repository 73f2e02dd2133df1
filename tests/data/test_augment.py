"""Augmentation keeps shape and type, follows its seed, and changes what it says it changes."""

import numpy as np
import pytest

from pneumo.data.augment import acquisition, augment, augment_with_boxes, exchange, framing, geometry, iaa


def films():
    ramp = np.linspace(20, 220, 64 * 64).reshape(64, 64).astype(np.uint8)
    checks = (np.indices((64, 64)).sum(axis=0) % 2 * 200).astype(np.uint8)
    return np.stack([ramp, checks] * 4)


def test_same_seed_same_pictures_and_another_seed_others():
    once, again, other = augment(films(), 3), augment(films(), 3), augment(films(), 4)
    assert once.shape == (8, 64, 64)
    assert once.dtype == np.uint8
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)


def test_films_are_not_changed_in_place():
    before = films()
    kept = before.copy()
    augment(before, 1)
    np.testing.assert_array_equal(before, kept)


def test_acquisition_varies_sharpness_and_keeps_brightness():
    checks = np.repeat(films()[1:2], 64, axis=0)[..., None]
    family = iaa.Sequential(acquisition())
    family.seed_(1)
    after = family(images=checks)[..., 0].astype(float)
    spread = after.std(axis=(1, 2))
    assert spread.min() < 0.5 * checks.std()  # some were blurred
    assert np.abs(after.mean(axis=(1, 2)) - checks.mean()).mean() < 10


def test_geometry_moves_pixels_and_keeps_their_values():
    flat = np.full((16, 64, 64, 1), 90, np.uint8)
    family = iaa.Sequential(geometry())
    family.seed_(1)
    after = family(images=flat)
    assert after.max() <= 91
    assert {0, 90} <= set(np.unique(after))  # black where the film ended in at least one


def test_framing_gives_and_takes_borders_and_covers_corners():
    flat = np.full((64, 64, 64, 1), 200, np.uint8)
    family = iaa.Sequential(framing())
    family.seed_(1)
    after = family(images=flat)[..., 0]
    changed = (after != 200).any(axis=(1, 2))
    assert 0.4 < changed.mean() < 0.95, "half are framed, a third have covered corners, a quarter black edges"
    assert (after[:, 20:44, 20:44] == 200).all(), "the chest stays"
    bordered = (after < 13).all(axis=2).any(axis=1)  # a whole row is black
    assert 0.3 < bordered.mean() < 0.7, "half of the framed, and most of those with black edges"
    ramp = np.repeat(np.linspace(0, 252, 64).astype(np.uint8)[None, None, :, None], 64, axis=1)
    family.seed_(2)
    seen = family(images=np.repeat(ramp, 64, axis=0))[:, 32, :, 0]
    assert (seen.min(axis=1) > 4).any(), "some were cut on the left"


def test_half_of_the_films_are_exchanged_within_their_batch():
    batch = np.stack([np.full((64, 64, 1), 10 * number, np.uint8) for number in range(20)])
    family = iaa.Sequential(exchange())
    family.seed_(1)
    after = family(images=batch)[:, 0, 0, 0].astype(int)
    assert set(after) <= set(range(0, 200, 10)), "tones of the batch"
    assert sorted(after) == list(range(0, 200, 10)), "each once"
    assert 4 <= (after != 10 * np.arange(20)).sum() <= 14


def test_boxes_move_with_what_they_surround():
    """A bright square and its box: wherever the augmentation takes the square, the box goes along."""
    dark = np.full((16, 96, 96), 40, np.uint8)
    dark[:, 30:50, 55:75] = 250
    box = (55 / 96, 30 / 96, 75 / 96, 50 / 96)
    after, boxes = augment_with_boxes(dark, [[box]] * 16, 5, name="rotation, shift, zoom, flip")
    sides = set()
    for film, ((left, top, right, bottom),) in zip(after, boxes, strict=True):
        rows, columns = np.nonzero(film > 145)
        centre = (columns.mean() / 96, rows.mean() / 96)
        if columns.min() > 4 and columns.max() < 91:  # the square is whole
            assert centre == pytest.approx(((left + right) / 2, (top + bottom) / 2), abs=0.02)
            sides.add(centre[0] > 0.5)
    assert sides == {True, False}  # some were flipped
