"""The comparison of recipes, from records of which every figure is known."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from pneumo.data import dataset
from pneumo.errors import RunError
from pneumo.model.card import MODELS
from pneumo.reports import comparison
from pneumo.reports.comparison import MEASURES
from pneumo.training.recipes import RECIPES


@pytest.fixture
def by_hand():
    """Card and record of a model that calls one of three pneumonias normal; two of those are of one patient."""
    metrics = dict.fromkeys(("n", "threshold", *MEASURES), 0.5) | {"intervals": {"sensitivity": [0.0, 1.0]}}
    card = {
        "metrics": {"internal_test": metrics},
        "operating_points": {"screening": {"threshold": 0.05, "internal_test": {}}},
        "version": "1.2.3",
        "files": {"served": {}},
        "receipt": {"config": {"network": "cnn", "augmentation": "x", "size": 80, "epochs": 4}, "command": "c"},
        "input": {"preprocessing": [], "size": 80},
        "base": "none",
        "parameters": 1,
        "precision": "int8",
        "agreement": {},
    }
    run = {
        "histories": {"whole": {"loss": [1, 1], "seconds": [3.0, 5.0]}},
        "seconds": 9,
        "milliseconds": 2,
        "internal_test": {"target": [0, 1, 1, 1], "patients": [0, 1, 1, 2], "probability": [0.1, 0.9, 0.9, 0.1]},
        "audit": {},
    }
    return card, run


def test_loss_and_shortfall_by_hand(by_hand):
    card, run = by_hand
    row = comparison.compare(RECIPES["cnn"], card, run)
    assert row["internal_test"]["loss"] == pytest.approx(-(3 * np.log(0.9) + np.log(0.1)) / 4)
    assert row["seconds_an_epoch"] == {"whole": 4}
    assert row["differs"] == "80 pixels instead of 96; at most 4 epochs instead of 12"
    assert "random weights instead of imagenet" in comparison.describe_differences(RECIPES["resnet50v2"], card)
    card["receipt"]["config"]["tune_epochs"] = 0
    assert "the last block tuned for 0 epochs instead of 3" in comparison.describe_differences(RECIPES["vgg16"], card)
    assert "tuned" not in comparison.describe_differences(RECIPES["cnn"], card)


def test_intervals_are_those_of_today_whatever_the_card_says(by_hand):
    card, run = by_hand
    row = comparison.compare(RECIPES["cnn"], card, run)
    # Wilson's ends x: (share - x)² n = z² x (1 - x); two films of one patient and one of another: 3² / (2² + 1²)
    for x in row["internal_test"]["intervals"]["sensitivity"]:
        assert 1.8 * (2 / 3 - x) ** 2 == pytest.approx(1.959964**2 * x * (1 - x), rel=1e-5)
    first = row["sensitivity_first"]
    assert (first["threshold"], first["confusion"]) == (0.05, {"tp": 3, "fp": 1, "tn": 0, "fn": 0})
    assert first["intervals"]["sensitivity"] == pytest.approx([1.8 / (1.8 + 1.959964**2), 1])
    run["internal_test"]["patients"] = [0, 1, 2, 3]
    (low, _) = comparison.compare(RECIPES["cnn"], card, run)["sensitivity_first"]["intervals"]["sensitivity"]
    assert low == pytest.approx(3 / (3 + 1.959964**2))


def test_a_record_says_which_films_are_of_one_patient(tmp_path, monkeypatch):
    names = ("person1_virus_1.jpeg", "person2_virus_2.jpeg", "person3_virus_3.jpeg", "person3_virus_4.jpeg")
    for name, content in zip(names, (b"a", b"a", b"b", b"c"), strict=True):
        path = tmp_path / "PNEUMONIA" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "NORMAL").mkdir()
    (tmp_path / "NORMAL" / "IM-0001-0001.jpeg").write_bytes(b"d")
    answers = SimpleNamespace(predict=lambda data, force: SimpleNamespace(probability=0.5))
    monkeypatch.setattr("pneumo.model.predictor.Predictor", lambda card, threads: answers)
    monkeypatch.setattr(comparison, "measure_misled", lambda predictor, parts: {})
    card = SimpleNamespace(path=tmp_path / "cnn.json", sha256="0", only=lambda population: card)
    films = dataset.scan(tmp_path)
    parts = {"internal_test": [*films, replace(films[0], age=40)]}  # the adult's film does not count
    kept = json.loads(comparison.record(card, SimpleNamespace(histories={}, seconds=1), parts).read_text())
    normal, one, same_film, other, same_name = kept["internal_test"]["patients"]
    assert (one, other) == (same_film, same_name)
    assert len({normal, one, other}) == 3


def test_of_a_card_with_populations_the_children_are_compared(by_hand, tmp_path):
    card, run = by_hand
    child = {"metrics": card.pop("metrics"), "heatmap": {"floor": 1}}
    card |= {"populations": {"child": child, "adult": {}}, "heatmap": {}, "files": {"served": {"sha256": "0"}}}
    (tmp_path / "cnn.json").write_text(json.dumps(card))
    (tmp_path / "cnn.run.json").write_text(json.dumps(run | {"served": "0"}))
    ((read, _),) = comparison.read_runs(tmp_path).values()
    assert read["metrics"]["internal_test"]["auc"] == 0.5


def test_what_became_of_the_last_block_by_hand():
    receipt = {"config": {"network": "vgg16"}, "trained_layers": ["top_conv1", "logit_map"]}
    receipt["validation_loss"] = {"top": 0.11469, "tune": 0.11902}
    said = "validation loss 0.1190, top alone 0.1147"
    assert comparison.describe_last_block(receipt) == f"tuned, not kept: {said}"
    tuned = receipt | {"trained_layers": ["block5_conv3", "logit_map"]}
    assert comparison.describe_last_block(tuned) == f"tuned, kept: {said}"
    assert comparison.describe_last_block(receipt | {"validation_loss": {"top": 0.1}}) == "not tuned"
    of_cnn5 = {"config": {"network": "cnn"}, "trained_layers": ["block5_conv"], "validation_loss": {"whole": 0.1}}
    assert comparison.describe_last_block(of_cnn5) == ""


def test_shipped_comparison_is_the_one_of_its_records(tmp_path):
    """No figure in reports/comparison.md is typed by hand, and no binary of a comparison model is in the repository."""
    comparison.write_comparison(MODELS / "recipes", tmp_path)
    shipped, again = (
        # processors add up in different orders: the last digits differ
        json.loads((folder / "comparison.json").read_text(), parse_float=lambda text: round(float(text), 9))
        for folder in (MODELS.parent / "reports", tmp_path)
    )
    assert again == shipped
    assert {"vgg16", "vgg16-lungs", "resnet50v2", "cnn5"} <= set(shipped)
    assert sum(name.startswith("cnn-") for name in shipped) >= 4
    said = (MODELS.parent / "reports" / "comparison.md").read_text().splitlines()
    made = (tmp_path / "comparison.md").read_text().splitlines()
    assert [line for line in made if line.startswith("|")] == [line for line in said if line.startswith("|")]
    assert made[:20] == said[:20]
    of_a_page = "Intervals are 95 %: Wilson's for shares of films, as if all films of one patient were alike, else"
    assert of_a_page in made[2]
    assert of_a_page in (MODELS.parent / "MODEL_CARD.md").read_text()
    assert not any("Recall" in line for line in made)  # the authors' word for sensitivity


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"Expected cards with a record in .*, found none: run `pneumo train"):
        comparison.read_runs(tmp_path)
