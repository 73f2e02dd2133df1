"""Once films are given one tone, no label changes with it without a word: a few films; `benchmarks.tone` has many."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import tone
from pneumo.films.film import squash
from pneumo.films.images import decode
from pneumo.model.predictor import Predictor
from tests.support.films import SAMPLES
from tests.support.server import ROOT

SAID = ("gain 0.25", "gain 2.0", "10 % clipped at either end", "4 bits", "1 bit")
UNSAID = ("gain 0.7", "gamma 1.5", "offset +0.1")


@pytest.fixture(scope="module")
def levelled(predictor):
    return Predictor(replace(predictor.card, steps=("level",)))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_no_label_changes_with_the_tone_and_without_a_word(levelled, path):
    pixels = squash(decode(path.read_bytes()).pixels, 224)
    plain, changes = tone.read(levelled, pixels), tone.changes()
    for name in SAID + UNSAID:
        counted = named(tone.count(plain, tone.read(levelled, pixels, changes[name])))
        assert counted["silent"] == counted["ruled"] == 0, name
        assert name in UNSAID or counted["doubted"] or counted["refused"], name


def test_a_flip_without_a_warning_is_silent(mean_grey):
    ramp = np.tile(np.arange(256), (256, 1)) * 0.6 + 20  # 20 to 173: its mean is below a half, and no end is clipped
    pixels = np.rint(ramp).astype(np.uint8)
    plain, brighter = tone.read(mean_grey, pixels), tone.read(mean_grey, pixels, lambda x: x + 0.25)
    assert (plain.label, brighter.label) == ("NORMAL", "PNEUMONIA")
    ruled = int(brighter.triage != "uncertain")
    assert tone.count(plain, brighter).tolist() == [1, 0, 0, 1, 1, ruled]  # of COUNTED
    assert named(tone.count(plain, plain))["flips"] == 0
    assert named(tone.count(plain, None)) == {name: int(name in ("films", "refused")) for name in tone.COUNTED}


def named(counted):
    return dict(zip(tone.COUNTED, counted.tolist(), strict=True))


@pytest.mark.parametrize("population", ["child", "adult"])
def test_of_200_films_of_each_population_none_flipped_without_a_word(population, predictor):
    report = json.loads((ROOT / "reports" / f"tone.{population}.json").read_text())
    assert report["model"] == predictor.card.model, "run benchmarks.tone again"
    assert report["changes"].keys() == tone.changes().keys()
    for name, counted in report["changes"].items():
        assert counted["films"] >= 199, name  # one of the 200 may be refused as it is
        assert counted["silent"] == counted["ruled"] == 0, name
