"""`pneumo calibrate`: a folder of the site's own films becomes a profile that server and commands read."""

import json
import math
import resource

import pytest

from pneumo.model.profile import apply_profile
from tests.support.cli import rows, run
from tests.support.films import TwoPopulations, write_greys


@pytest.fixture
def site(tmp_path):
    """30 normals of mean grey 100 to 158, 30 pneumonias of 142 to 200: a model that says the mean grey is too high."""
    folder = tmp_path / "site"
    write_greys(folder / "NORMAL", range(100, 160, 2))
    write_greys(folder / "PNEUMONIA", range(142, 202, 2))
    return folder


def test_a_folder_becomes_a_profile_and_a_table(grey, site, tmp_path):
    profile = tmp_path / "new" / "ward-3.json"
    done = run("calibrate", site, "--profile", profile, "--prevalence", "0.1")
    assert done.exit_code == 0, done.output
    written = json.loads(profile.read_text())
    assert (written["name"], written["population"]) == ("ward-3", "child")
    assert written["films"] == {"n": 60, "NORMAL": 30, "PNEUMONIA": 30, "patients": 60}
    assert written["note"] in done.stdout
    # all films have the model's one feature, -5: there is their centre, and they reach no further than others
    assert written["gate"] == {"reach": 1.0, "centre": [-5.0]}
    # the fit is symmetric: half-way between the labels, at grey 150, the probability is a half
    card = apply_profile(grey.card, profile)
    middle = math.log(150 / 105)
    assert card.probability(middle) == pytest.approx(0.5, abs=0.01)
    assert (card.profile, card.population) == ("ward-3", "child")
    # 30 of 30 promise s with s^30 = 0.05: the screening point loses no pneumonia, the specific one no normal
    points = written["operating_points"]
    assert points["screening"]["promised"]["sensitivity"] == pytest.approx(0.05 ** (1 / 30))
    assert points["specific"]["promised"]["specificity"] == pytest.approx(0.05 ** (1 / 30))
    logit = math.log(142 / 113)  # of the darkest pneumonia
    assert card.rule_out == pytest.approx(card.probability(logit), abs=1e-4)
    table = rows(profile.with_name("ward-3.thresholds.csv"))
    assert {f"{point['threshold']:.4f}" for point in points.values()} <= {row["threshold"] for row in table}
    first, *_, last = table
    assert (first["true_positives"], first["false_positives"], first["npv"]) == ("100.0", "900.0", "")
    assert (last["sensitivity"], last["specificity"], last["true_negatives"]) == ("0.0000", "1.0000", "900.0")
    assert first["sensitivity_at_least"] == f"{0.05 ** (1 / 30):.4f}"


def test_the_profile_is_of_the_population_of_its_films(both, site, tmp_path):
    assert run("calibrate", site, "--profile", tmp_path / "a.json", "--population", "adult").exit_code == 0
    card = apply_profile(TwoPopulations().card, tmp_path / "a.json")
    assert (card.slope, card.thresholds) == (1.0, TwoPopulations().card.thresholds)  # the children's stay
    assert card.for_population("adult").probability(math.log(150 / 105)) == pytest.approx(0.5, abs=0.01)
    assert (card.populations["child"].site, card.populations["adult"].site.reach) == (None, 1.0)


def test_too_few_films_are_refused_and_nothing_is_written(grey, site, tmp_path):
    for path in sorted((site / "PNEUMONIA").iterdir())[:11]:
        path.write_bytes(b"no film")
    done = run("calibrate", site, "--profile", tmp_path / "site.json")
    assert done.exit_code == 2
    assert done.stderr.count("unreadable: ") == 11
    assert "at least 20 films of each label to calibrate on, received 30 NORMAL and 19 PNEUMONIA" in done.stderr
    assert not (tmp_path / "site.json").exists()


def test_what_is_no_frontal_film_is_left_out_and_named(grey, site, tmp_path, monkeypatch):
    monkeypatch.setattr(grey, "unlike", 5.0)  # beyond 1 the gate refuses
    done = run("calibrate", site, "--profile", tmp_path / "site.json")
    assert done.exit_code == 2
    assert "Left out: expected a frontal chest film, received a picture that does not look like one." in done.stderr
    assert "received 0 NORMAL and 0 PNEUMONIA" in done.stderr


def test_a_full_disk_leaves_the_old_profile_and_nothing_half_written(grey, site, tmp_path):
    profile, before = tmp_path / "site.json", resource.getrlimit(resource.RLIMIT_FSIZE)
    profile.write_text("old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # as on a full disk, a write ends in the middle
    try:
        done = run("calibrate", site, "--profile", profile)
        numbers = run("evaluate", site, "--json", tmp_path / "numbers.json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (done.exit_code, numbers.exit_code) == (2, 2)
    assert f"{profile} cannot be written: File too large." in done.stderr
    assert f"{tmp_path / 'numbers.json'} cannot be written: File too large." in numbers.stderr
    assert profile.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"site", "site.json"}


def test_what_is_passed_over_in_the_folders_is_counted_and_named(grey, site, tmp_path):
    for name in ("a.ima", "b.heic", "IM7", ".hidden"):
        (site / "NORMAL" / name).write_bytes(b"something")
    for command in (("calibrate", site, "--profile", tmp_path / "site.json"), ("evaluate", site)):
        assert f"Not read in {site}: 1 .heic, 1 .ima, 1 without a suffix." in run(*command).stderr
