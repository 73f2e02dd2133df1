"""Which population's numbers a film is read by: age before request before pixels, and what is said when they differ."""

import io

import numpy as np
import pytest

from pneumo.errors import ModelError, PopulationError
from pneumo.model.population import Applied, Population, Row, choose, read_row
from tests.support.dicom import dicom
from tests.support.films import TwoPopulations

NUMBERS = {"thresholds": {}, "slope": 1.0, "intercept": 0.0, "heatmap_floor": 0.0, "heatmap_scale": 1.0}
CHILD, ADULT = Population((1, 5), **NUMBERS), Population((18, None), **NUMBERS)
BOTH = {"child": CHILD, "adult": ADULT}
LIKE_CHILD, LIKE_ADULT, UNCLEAR = ({"child": share, "adult": 1 - share} for share in (0.99, 0.01, 0.6))


def test_years_away_from_the_ages_that_were_seen():
    assert [CHILD.years_away(age) for age in (0.5, 1, 5.99, 6, 11)] == [1, 0, 0, 1, 6]
    assert [ADULT.years_away(age) for age in (12, 17.9, 18, 103)] == [6, 1, 0, 0]


@pytest.mark.parametrize(
    ("age", "asked", "shares", "name", "by", "words"),
    [
        (3, None, LIKE_CHILD, "child", "age", None),
        (40, None, LIKE_ADULT, "adult", "age", None),
        (11.9, None, LIKE_CHILD, "child", "age", "11 years old: the model has only seen patients of 1 to 5 years and"),
        (12, None, LIKE_ADULT, "adult", "age", "12 years old"),  # six years from 18, seven from 5
        (0.5, None, LIKE_CHILD, "child", "age", "less than a year old"),
        (None, "adult", UNCLEAR, "adult", "request", None),
        (None, None, LIKE_ADULT, "adult", "pixels", None),
        (None, None, UNCLEAR, "child", "pixels", "does not show it clearly: read as child"),
        (3, "adult", LIKE_CHILD, "child", "age", "request says adult, the file's PatientAge says child: read as child"),
        (3, None, LIKE_ADULT, "child", "age", "PatientAge says child, but the film looks like that of adult"),
        (None, "child", LIKE_ADULT, "child", "request", "request says child, but the film looks like that of adult"),
        (3, None, UNCLEAR, "child", "age", None),
    ],
)
def test_age_before_request_before_pixels(age, asked, shares, name, by, words):
    applied = choose(BOTH, age, asked, shares)
    assert (applied.name, applied.by) == (name, by)
    assert len(applied.warnings) == (words is not None)
    assert (words or "") in " ".join(applied.warnings)


def test_a_model_that_knows_one_population_says_so():
    only = {"child": CHILD}
    assert choose(only, None, None, None) == choose(only, 3, "child", None)
    assert (choose(only, None, None, None).name, choose(only, None, None, None).by) == ("child", "model")
    assert choose({"adult": ADULT}, None, None, LIKE_CHILD) == Applied("adult", "model")  # see `Card.only`
    (warning,) = choose(only, 65, None, None).warnings
    assert warning == "The patient is an adult (65 years old): the model has only seen patients of 1 to 5 years."


def test_shares_by_hand():
    # the first feature is how much it looks like an adult; a share of 3/4 has the logit ln 3
    row = Row(("child", "adult"), np.array([[0, 1], [0, 0]], np.float32), np.array([0, -1], np.float32))
    shares = row.shares(np.array([1 + np.log(3), 7], np.float32))
    assert shares == pytest.approx({"child": 0.25, "adult": 0.75})


def test_a_row_of_other_populations_is_refused():
    def saved(**arrays):
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    row = {"population_weights": np.zeros((3, 2)), "population_bias": np.zeros(2)}
    assert read_row(saved(), ("child",)) is None
    names = np.array(["adult", "child"])
    assert read_row(saved(populations=names, **row), ("child", "adult")).names == ("adult", "child")
    with pytest.raises(ModelError, match="tells no populations apart"):
        read_row(saved(), ("child", "adult"))
    with pytest.raises(ModelError, match="tells child and adult apart, received adult and old"):
        read_row(saved(populations=np.array(["adult", "old"]), **row), ("child", "adult"))


def test_a_film_is_read_by_the_numbers_of_its_population():
    # 60 % grey: a child's probability is 0.6; an adult's logit is ln 1.5 - 1, so 1 / (1 + e / 1.5) = 0.356
    grey, predictor = np.full((300, 300), 153, np.uint8), TwoPopulations()
    film = dicom(grey)
    child, adult = predictor.predict(film, population="child"), predictor.predict(film, population="adult")
    assert (child.probability, child.label, child.threshold) == (pytest.approx(0.6), "PNEUMONIA", 0.5)
    assert adult.probability == pytest.approx(1 / (1 + np.e / 1.5))
    assert (adult.label, adult.threshold) == ("NORMAL", 0.75)
    assert adult.to_json()["population"] == {"name": "adult", "by": "request"}
    assert child.strengths.max() == pytest.approx(np.log(1.5))  # above a floor of 0
    assert adult.strengths.max() == 0  # below a floor of 2
    with pytest.raises(PopulationError, match="Expected one of child, adult, received 'old'"):
        predictor.predict(film, population="old")


def test_age_in_the_file_comes_before_the_pixels():
    grey, predictor = np.full((300, 300), 153, np.uint8), TwoPopulations()
    predictor.unlike = -9.0  # looks like an adult, surely
    assert predictor.predict(dicom(grey)).population == {"name": "adult", "by": "pixels"}
    old = predictor.predict(dicom(grey, PatientAge="065Y"))
    assert old.population == {"name": "adult", "by": "age"}
    young = predictor.predict(dicom(grey, PatientAge="003Y"), population="adult")
    assert young.population == {"name": "child", "by": "age"}
    said = " ".join(young.warnings)
    assert "The request says adult, the file's PatientAge says child" in said
    assert "looks like that of adult: is it the right film?" in said
    assert not any("adult" in warning for warning in old.warnings)


def test_the_card_for_a_population_has_its_numbers_at_the_top():
    card = TwoPopulations().card
    adult = card.for_population("adult")
    assert (adult.intercept, adult.threshold, adult.rule_out, adult.population) == (-1.0, 0.75, 0.75, "adult")
    assert adult.contents["heatmap"]["floor"] == 2.0
    assert card.for_population("child") is card
    assert adult.for_population("child").thresholds == card.thresholds
    alone = card.only("adult")
    assert list(alone.populations) == ["adult"]
    with pytest.raises(PopulationError):
        alone.check_population("child")
