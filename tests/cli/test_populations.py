"""Commands read films by the numbers of a population: of each film's own, or of one for all of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo.cli.populations import sort_films
from pneumo.data.dataset import Example
from pneumo.errors import PneumoError, PopulationError
from tests.support.cli import rows, run
from tests.support.films import TwoPopulations


@pytest.fixture
def folder(tmp_path):
    """Two films of 60 % grey, one of each label."""
    for label in ("NORMAL", "PNEUMONIA"):
        (tmp_path / label).mkdir()
        Image.fromarray(np.full((300, 300), 153, np.uint8)).save(tmp_path / label / f"{label}.png")
    return tmp_path


def test_predict_says_whose_numbers_a_row_is_of(both, folder, tmp_path):
    out = tmp_path / "out.csv"
    for name, label in (("child", "PNEUMONIA"), ("adult", "NORMAL")):
        assert run("predict", folder, "--csv", out, "--population", name).exit_code == 0
        assert [(row["population"], row["label"]) for row in rows(out)] == [(name, label)] * 2
    assert run("predict", folder, "--csv", out, "--resume", "--population", "adult").exit_code == 0
    done = run("predict", folder, "--csv", out, "--resume", "--population", "child")
    assert (done.exit_code, "another model or operating point" in done.stderr) == (2, True)
    done = run("predict", folder, "--population", "old")
    assert done.exit_code == 1
    assert "Expected one of child, adult, received 'old'." in done.stdout


def test_evaluate_reads_all_films_by_one_population(both, folder, tmp_path):
    out = tmp_path / "out.json"
    done = run("evaluate", folder, "--json", out)
    assert done.exit_code == 0
    assert "Films without an age are read as those of child, as 2 of 2 of them are told to be" in done.stderr
    assert json.loads(out.read_text())["population"] == "child"
    assert json.loads(out.read_text())["threshold"] == 0.5
    both.card = TwoPopulations().card
    done = run("evaluate", folder, "--json", out, "--population", "adult")
    assert "All films are read as those of adult, as you said." in done.stderr
    assert json.loads(out.read_text())["threshold"] == 0.75


def write_labels(folder, rows):
    """Write labels.csv: file, patient, age, view, source."""
    text = "\n".join(["file,patient,age,view,source", *(",".join(row) for row in rows)])
    (folder / "labels.csv").write_text(text + "\n")


def test_evaluate_reads_each_film_by_the_age_that_labels_csv_tells(both, folder, tmp_path):
    (folder / "OTHER").mkdir()
    for place in ("NORMAL/a.png", "PNEUMONIA/b.png", "OTHER/c.png", "OTHER/boy.png"):
        Image.fromarray(np.full((300, 300), 153, np.uint8)).save(folder / place)
    rows = [("NORMAL/NORMAL.png", "1", "3", "AP", "text"), ("PNEUMONIA/PNEUMONIA.png", "2", "4", "AP", "text")]
    rows += [("NORMAL/a.png", "3", "40", "PA", "text"), ("PNEUMONIA/b.png", "4", "50", "AP", "radiologist")]
    write_labels(folder, [*rows, ("OTHER/c.png", "5", "60", "PA", "radiologist"), ("OTHER/boy.png", "6", "12", "", "")])
    (folder / "boxes.csv").write_text("image,x,y,width,height\nb,0,0,512,1024\n")
    out, report = tmp_path / "out.json", tmp_path / "report"
    done = run("evaluate", folder, "--json", out, "--report", report)
    assert done.exit_code == 0, done.output
    assert "1 films are left out: the model has only seen patients of 1 to 5 years and of 18 years" in done.stderr
    assert "child: 2 films of 2 patients, threshold 0.5000" in done.stdout
    assert "adult: 3 films of 3 patients, threshold 0.7500" in done.stdout
    found = json.loads(out.read_text())
    assert list(found) == ["child", "adult"]
    assert (found["child"]["population"], found["child"]["pointing"]) == ("child", None)
    adult = found["adult"]
    assert adult["labels"] == {"NORMAL": 1, "PNEUMONIA": 1, "OTHER": 1}
    assert adult["sensitivity"] == 0  # 0.36 of the 0.75 wanted
    assert {name: one["n"] for name, one in adult["strata"].items()} == {
        "all films": 3,
        "read by radiologists": 2,
        "labelled by text": 1,
        "view AP": 1,
        "view AP, read by radiologists": 1,
        "view PA": 2,
        "view PA, read by radiologists": 1,
    }
    pointing = adult["pointing"]["all films"]
    assert (pointing["n"], pointing["pointing"], pointing["chance"], pointing["coloured"]) == (1, 1.0, 0.5, 0)
    page = (report / "adult" / "report.md").read_text()
    assert "| is NORMAL or OTHER | 2 | 0 |" in page
    assert "| view PA, read by radiologists | 1 | 0 |" in page
    assert "| all films | 1 | 1.000 (" in page
    both.card = TwoPopulations().card
    done = run("evaluate", folder, "--external", "--profile", tmp_path / "site.json")
    assert done.exit_code == 2
    assert "Expected --population with --profile: DIR has films of child and adult." in done.stderr


def film(name, age=None, aetiology=None):
    return Example(Path(name), "NORMAL", aetiology, name, age=age)


def test_films_are_sorted_by_age_then_by_the_data_set_then_by_how_they_look(both):
    films = [film("a", 2), film("b", 70), film("c", 12), film("d", aetiology="normal")]
    found = sort_films(both, None, films)
    assert {name: [one.patient for one in own] for name, own in found.items()} == {"child": ["a", "d"], "adult": ["b"]}
    assert list(sort_films(both, "adult", films)) == ["adult"]
    with pytest.raises(PneumoError, match="Expected films of patients whom the model knows, received none"):
        sort_films(both, None, [film("c", 12)])


def test_a_model_that_knows_one_population_needs_not_be_told(mean_grey):
    films = [film("a", 2), film("b", 70)]
    assert sort_films(mean_grey, None, films) == sort_films(mean_grey, "child", films) == {"child": films}
    with pytest.raises(PopulationError, match="Expected one of child, received 'adult'"):
        sort_films(mean_grey, "adult", films)
