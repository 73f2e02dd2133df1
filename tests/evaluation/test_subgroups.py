"""Groups of films: who is in which, and what the operating point is worth there, by hand."""

from pathlib import Path

import numpy as np
import pytest

from pneumo.data.dataset import Example
from pneumo.evaluation.subgroups import ALL, THIRDS, divide_into_thirds, measure_strata, measure_subgroups
from pneumo.reports.tables import tabulate_strata, tabulate_subgroups

TARGET = [0, 0, 0, 1, 1, 1]
PROBABILITY = [0.1, 0.2, 0.9, 0.3, 0.8, 0.9]  # at 0.5 one normal and one pneumonia are wrong
KINDS = ["normal"] * 3 + ["bacteria", "virus", "virus"]


def found(kinds=KINDS, **measured):
    return measure_subgroups(TARGET, PROBABILITY, 0.5, list("abcdef"), kinds, measured)


def test_each_aetiology_has_the_measure_of_its_label_only():
    groups = found()["aetiology"]
    assert [(name, of["n"], of["sensitivity"], of["specificity"]) for name, of in groups.items()] == [
        ("bacteria", 1, 0.0, None),
        ("normal", 3, None, pytest.approx(2 / 3)),
        ("virus", 2, 1.0, None),
    ]
    low, high = groups["normal"]["intervals"]["specificity"]
    assert low < 2 / 3 < high
    assert groups["normal"]["intervals"]["sensitivity"] is None
    assert found(kinds=[None] * 6)["aetiology"] == {}


def test_thirds_by_hand():
    assert divide_into_thirds(np.arange(9)).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert divide_into_thirds(np.array([5, 5, 5, 5, 1, 9])).tolist() == [0, 0, 0, 0, 0, 2]  # both limits are 5
    groups = found(brightness=[10, 60, 30, 20, 50, 40])["brightness"]
    assert {name: (of["range"], of["n"]) for name, of in groups.items()} == dict(
        zip(THIRDS, (([10.0, 20.0], 2), ([30.0, 40.0], 2), ([50.0, 60.0], 2)), strict=True)
    )
    # darkest: a normal at 0.1 and a pneumonia at 0.3; next a normal at 0.9 and a pneumonia at 0.9; then 0.2 and 0.8
    assert [of["sensitivity"] for of in groups.values()] == [0, 1, 1]
    assert [of["specificity"] for of in groups.values()] == [1, 0, 1]


def test_films_of_one_size_are_one_group_and_the_table_says_so():
    groups = found(**{"image size": [50176] * 6, "brightness": [10, 60, 30, 20, 50, 40]})
    assert list(groups["image size"]) == [ALL]
    rows = tabulate_subgroups(groups)
    assert rows[0][:3] == ("Aetiology: bacteria", "1", "0.0000 (0.0000 to 0.7935)")
    assert rows[0][3] == ""
    assert rows[3][0] == "Image size: all films, 50176 pixels"
    assert rows[4][:2] == ("Brightness: lowest third, 10 to 20 grey levels", "2")


def test_strata_by_who_labelled_the_films_and_by_view():
    labels = ["PNEUMONIA", "PNEUMONIA", "NORMAL", "NORMAL", "OTHER"]
    views, sources = ["AP", "PA", "AP", "PA", None], ["text", "radiologist (RSNA)", "text", "radiologist (RSNA)", None]
    films = [
        Example(Path(f"{i}.png"), label, None, str(i), view=view, read_by=source)
        for i, (label, view, source) in enumerate(zip(labels, views, sources, strict=True))
    ]
    found = measure_strata(films, [0.9, 0.4, 0.1, 0.6, 0.5], 0.5, list("abcde"))
    assert {name: of["n"] for name, of in found.items()} == {
        "all films": 5,
        "read by radiologists": 2,
        "labelled by text": 2,
        "view AP": 2,
        "view PA": 2,
        "view PA, read by radiologists": 2,
    }
    whole = found["all films"]
    assert whole["labels"] == {"NORMAL": 2, "PNEUMONIA": 2, "OTHER": 1}
    assert (whole["auc"], whole["auc_normal"]) == (pytest.approx(4 / 6), pytest.approx(3 / 4))
    assert (whole["sensitivity"], whole["specificity"]) == (0.5, pytest.approx(1 / 3))
    assert (found["view AP"]["auc"], found["view PA"]["auc"]) == (1, 0)
    assert found["view AP"]["auc_normal"] is None  # no other film there
    assert tabulate_strata(found)[3][:3] == ("view AP", "2", "1")


def test_films_of_which_nothing_is_told_are_one_stratum():
    films = [Example(Path("a.png"), "NORMAL", "normal", "a"), Example(Path("b.png"), "PNEUMONIA", "virus", "b")]
    assert list(measure_strata(films, [0.1, 0.9], 0.5, ["a", "b"])) == ["all films"]
