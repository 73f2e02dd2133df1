"""A site's profile replaces the operating points of the model it was made for, and of no other."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from app import create_app
from pneumo.errors import ModelError, NotChestFilmError, OperatingPointError, RunError
from pneumo.model.card import read_card
from pneumo.model.gate import Site
from pneumo.model.predictor import Predictor
from pneumo.model.profile import apply_profile, apply_settings, write_profile
from tests.support.cli import run
from tests.support.films import SAMPLES, TwoPopulations

POINTS = {"screening": {"threshold": 0.0001}, "balanced": {"threshold": 0.0002}, "specific": {"threshold": 0.9999}}


@pytest.fixture
def profile(tmp_path):
    """A profile for the shipped model by which all the sample films are uncertain."""
    path = tmp_path / "ward-3.json"
    write_profile(path, read_card(), POINTS, {"n": 2}, "Few films.")
    return path


def test_thresholds_are_the_profiles_and_all_else_the_cards(profile):
    card = read_card()
    site = apply_profile(card, profile)
    assert site.thresholds == {"screening": 0.0001, "balanced": 0.0002, "specific": 0.9999}
    assert (site.threshold, site.profile) == (0.0002, "ward-3")
    assert site.model == card.model | {"profile": "ward-3"}
    assert (site.slope, site.intercept, site.sha256) == (card.slope, card.intercept, card.sha256)
    assert "profile" not in card.model


def test_a_profile_holds_for_the_population_of_its_films(tmp_path):
    card, path = TwoPopulations().card, tmp_path / "ward-3.json"
    write_profile(path, card.only("adult"), POINTS, {"n": 2}, "Few films.")
    site = apply_profile(card, path)
    assert (site.thresholds, site.slope) == (card.thresholds, card.slope)
    adult = site.for_population("adult")
    assert (adult.threshold, adult.intercept, adult.profile) == (0.0002, -1.0, "ward-3")
    with pytest.raises(ModelError, match="Expected a site profile for child, received one for adult"):
        apply_profile(card.only("child"), path)


def test_calibration_and_centre_of_a_site_are_the_profiles(tmp_path):
    card, path = TwoPopulations().card, tmp_path / "ward-3.json"
    own = replace(card.populations["adult"], slope=2.0, intercept=-3.0, site=Site(np.array([7.0], np.float32), 1.5))
    write_profile(path, replace(card.only("adult"), populations={"adult": own}), POINTS, {"n": 2}, "Few films.")
    adult = apply_profile(card, path).for_population("adult")
    assert (adult.slope, adult.intercept, adult.profile) == (2.0, -3.0, "ward-3")
    assert adult.probability(2.0) == pytest.approx(1 / (1 + math.exp(-1)))
    site = adult.populations["adult"].site
    assert (site.centre.tolist(), site.reach) == ([7.0], 1.5)


def test_a_sites_films_are_familiar_where_its_profile_applies():
    # the one feature is -20, the limit 9 from the centre at 0; the adults' films of this site lie around -18
    model = TwoPopulations()
    model.unlike = -20.0
    site = Site(np.array([-18.0], np.float32), 1.0)
    adult = replace(model.card.populations["adult"], site=site)
    film = SAMPLES[0].read_bytes()
    before = model.predict(film, population="adult", force=True)
    assert before.distance == pytest.approx(20 / 9)
    model.card = replace(model.card, populations={**model.card.populations, "adult": adult})
    after = model.predict(film, population="adult")
    assert (after.distance, after.refused) == (pytest.approx(2 / 9), False)
    assert not any("unlike" in warning for warning in after.warnings)
    with pytest.raises(NotChestFilmError):  # the children's are not the site's
        model.predict(film, population="child")


def test_a_profile_of_another_model_is_refused(mean_grey, profile):
    with pytest.raises(ModelError, match=f"SHA-256 {'0' * 64}, received one for {read_card().sha256}"):
        apply_profile(mean_grey.card, profile)


def test_what_is_no_profile_is_refused(profile):
    card, contents = read_card(), json.loads(profile.read_text())
    with pytest.raises(ModelError, match=r"Expected a site profile at .*nothing\.json, found none"):
        apply_profile(card, profile.with_name("nothing.json"))
    for spoilt in (
        {k: v for k, v in contents.items() if k != "model"},
        contents | {"operating_points": POINTS | {"screening": {"threshold": 0.5}}},
        contents | {"default_operating_point": "x"},
        contents | {"calibration": {"slope": 0, "intercept": 1}},
        contents | {"calibration": [1, 2]},
        contents | {"gate": {"reach": 0.5, "centre": [1.0]}},
        contents | {"gate": {"reach": 1.0}},
        [],
    ):
        profile.write_text(json.dumps(spoilt))
        with pytest.raises(ModelError, match="is incomplete or damaged"):
            apply_profile(card, profile)
    profile.write_text(json.dumps(contents | {"gate": {"reach": 1.0, "centre": [1.0, 2.0]}}))
    with pytest.raises(ModelError, match="centre of 1792 features, received 2"):
        Predictor(apply_profile(card, profile))
    profile.write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        apply_profile(card, profile)


def test_a_profile_is_written_whole_or_not_at_all(tmp_path):
    taken = tmp_path / "ward-3.json"
    taken.mkdir()
    with pytest.raises(RunError, match=r"ward-3\.json cannot be written: Is a directory\."):
        write_profile(taken, read_card(), POINTS, {"n": 2}, "Few films.")
    assert list(tmp_path.iterdir()) == [taken]


def test_the_environment_names_profile_and_default(profile, monkeypatch):
    card = read_card()
    for name in ("PNEUMO_PROFILE", "PNEUMO_OPERATING_POINT"):
        monkeypatch.delenv(name, raising=False)
    assert apply_settings(card) == card
    monkeypatch.setenv("PNEUMO_OPERATING_POINT", "specific")
    assert apply_settings(card).threshold == card.rule_in
    monkeypatch.setenv("PNEUMO_PROFILE", str(profile))
    assert apply_settings(card).threshold == 0.9999
    monkeypatch.setenv("PNEUMO_OPERATING_POINT", "careful")
    with pytest.raises(OperatingPointError, match="received 'careful'"):
        apply_settings(card)


def test_the_server_answers_by_the_profile_and_says_so(profile, monkeypatch):
    monkeypatch.setenv("PNEUMO_PROFILE", str(profile))
    client = create_app({"TESTING": True}).test_client()
    answer = client.post("/predict", data=SAMPLES[0].read_bytes(), content_type="image/jpeg").json
    assert (answer["threshold"], answer["triage"], answer["model"]["profile"]) == (0.0002, "uncertain", "ward-3")
    assert answer["probability"] == Predictor(read_card()).predict(SAMPLES[0].read_bytes()).probability
    assert client.get("/health/ready").json["model"]["profile"] == "ward-3"
    assert "site profile ward-3" in client.get("/").text


def test_commands_read_it_and_refuse_another_models_in_one_sentence(profile, monkeypatch):
    monkeypatch.setenv("PNEUMO_PROFILE", str(profile))
    done = run("predict", SAMPLES[0])
    assert done.exit_code == 0
    assert "uncertain" in done.stdout
    contents = json.loads(profile.read_text())
    profile.write_text(json.dumps(contents | {"model": contents["model"] | {"sha256": "f" * 64}}))
    done = run("predict", SAMPLES[0])
    assert done.exit_code == 2
    assert "Expected a site profile for the model" in done.stderr
    with pytest.raises(ModelError, match="Expected a site profile for the model"):
        create_app()
