"""The shortcut audit: what acquisition tells, on scores that a person can reckon with, and on folders made for it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageFilter

from pneumo.cli import films as cli_films
from pneumo.cli.main import main
from pneumo.data.acquisition import GROUPS
from pneumo.data.dataset import Example, content_hashes, scan, split
from pneumo.errors import PneumoError
from pneumo.evaluation.audit import NAMED, audit, measure_explained, measure_separation, state_verdict
from pneumo.evaluation.matching import (
    MIN_PATIENTS,
    TOLD,
    describe_told,
    find_contradicted,
    match,
    score_acquisition,
)
from pneumo.reports.pages import ATTRIBUTION
from pneumo.reports.tables import align, tabulate_model


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def sigmoid(logit):
    return 1 / (1 + np.exp(-np.asarray(logit, float)))


def test_contradicted_are_the_highest_normals_and_the_lowest_pneumonias():
    target = np.repeat([0, 1], 10)
    score = np.r_[np.arange(10), np.arange(10)[::-1]]
    chosen = find_contradicted(target, score)
    assert np.flatnonzero(chosen).tolist() == [7, 8, 9, 17, 18, 19]  # scores 7, 8, 9 and 2, 1, 0
    assert np.flatnonzero(find_contradicted([0, 0, 1], [5, 4, 1])).tolist() == [0, 2], "at least one of each"


# three strata: 3 normals and 1 pneumonia, 1 and 2, 0 and 2
TARGET = np.array([0, 0, 0, 1, 0, 1, 1, 1, 1])
SCORE = np.array([0.1, 0.1, 0.1, 0.1, 5.1, 5.1, 5.1, 9.1, 9.1])


def test_matching_gives_both_classes_of_a_stratum_the_same_weight():
    once, twice = match(TARGET, SCORE, np.array([[1.0] * 9, [1, 1, 1, 3, 1, 1, 1, 1, 1]]))
    assert once == pytest.approx([1 / 4, 1 / 4, 1 / 4, 3 / 4, 2 / 3, 1 / 3, 1 / 3, 0, 0])
    assert twice[:4] == pytest.approx([1 / 2, 1 / 2, 1 / 2, 3 * 1 / 2]), (
        "a film that is drawn three times is three films"
    )


def test_the_view_counts_as_acquisition_where_labels_csv_tells_it():
    views = ["AP"] * 10 + ["PA"] * 20 + ["AP"] * 10
    films = [
        Example(Path(f"{i}.png"), "OTHER", None, str(i), view=view, read_by="text") for i, view in enumerate(views)
    ]
    told = describe_told(films)
    assert told[0] == {"view": 1.0, "by_text": 1.0}
    assert told[10]["view"] == 0
    assert describe_told([replace(films[0], view=None)]) == [{}]
    target = np.array([1] * 10 + [0] * 20 + [1] * 10)  # all opacities were seen at the bedside
    (group,) = TOLD
    score = score_acquisition(told, target, np.arange(40), tuple(TOLD[group]))
    nothing = np.zeros(40)
    found = measure_separation(target, {"all": score, **dict.fromkeys(GROUPS, nothing), group: score}, np.arange(40))
    assert found["by_group"][group]["auc"] == 1
    assert "view and label source alone with 1.00" in found["verdict"]


def test_on_matched_films_acquisition_is_a_coin_and_a_reader_is_not():
    patients = np.arange(9)
    reads_acquisition = audit(TARGET, SCORE, patients, SCORE, sigmoid(SCORE), 0.5, {})
    assert reads_acquisition["auc"] == pytest.approx(1 - (3 * 1 / 2 + 1 * 1 + 1 * 2 / 2) / 20)  # ties and one inversion
    assert reads_acquisition["auc_matched"] == pytest.approx(0.5)
    assert reads_acquisition["matched"]["acquisition_auc"] == pytest.approx(0.5)
    assert reads_acquisition["matched"]["effective_n"] == pytest.approx(
        {"NORMAL": (17 / 12) ** 2 / (3 / 16 + 4 / 9), "PNEUMONIA": (17 / 12) ** 2 / (9 / 16 + 2 / 9)}
    )
    assert reads_acquisition["explained_normal"] == pytest.approx(1)
    assert reads_acquisition["explained_pneumonia"] == pytest.approx(1)
    reads_lungs = audit(TARGET, SCORE, patients, 2.0 * TARGET - 1, np.where(TARGET, 0.9, 0.1), 0.5, {})
    for name in ("auc", "auc_matched", "auc_contradicted", "sensitivity_contradicted", "specificity_contradicted"):
        assert reads_lungs[name] == pytest.approx(1)
    assert reads_lungs["explained_normal"] is None, "a logit without variance"


def test_explained_is_the_squared_correlation():
    score = np.array([0.0, 1, 2])
    assert measure_explained(3 * score - 7, score, np.ones((1, 3))) == pytest.approx([1])
    assert measure_explained(np.array([0, 0, 3]), score, np.ones((1, 3))) == pytest.approx([9 / 12])  # 3² / (2 · 6)
    assert measure_explained(np.array([0, 1, 0]), score, np.ones((1, 3))) == pytest.approx([0])
    assert np.isnan(measure_explained(np.ones(3), score, np.ones((1, 3)))).all()
    # a film that is drawn twice is two films
    assert measure_explained(np.array([0, 0, 3]), score, np.array([[1.0, 2, 1]])) == pytest.approx(
        np.corrcoef([0, 0, 0, 3], [0, 1, 1, 2])[0, 1] ** 2
    )


def test_interventions_by_hand():
    target, probability = np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.6, 0.8])
    changed = {"nothing": probability, "inverted": 1 - probability, "lowered": probability - 0.05 - 0.1 * target}
    result = audit(target, np.zeros(4), np.arange(4), np.zeros(4), probability, 0.55, changed)
    found = result["interventions"]
    figures = ("auc", "auc_change", "sensitivity", "specificity", "same_label")
    assert [found["nothing"][name] for name in figures] == [1, 0, 1, 1, 1]
    assert [found["inverted"][name] for name in figures] == [0, -1, 0, 0, 0]
    assert [found["lowered"][name] for name in figures] == [1, 0, 0.5, 1, 0.75]  # 0.6 becomes 0.45
    assert found["inverted"]["intervals"]["auc_change"] == [-1, -1]


def test_the_patient_who_decides_most_by_hand():
    # one stratum; the normal of patient 0 stands above all three pneumonias, the other two below: 3 of 9 pairs wrong
    target, patients = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1, 2, 3, 4, 4])
    probability = np.array([0.9, 0.1, 0.2, 0.7, 0.8, 0.6])
    result = audit(target, np.zeros(6), patients, np.zeros(6), probability, 0.5, {})
    assert result["auc_matched"] == pytest.approx(6 / 9)
    assert result["decisive"]["auc_matched"] == {"films": [0], "without": pytest.approx(1)}
    # contradicted are one normal and one pneumonia, in the wrong order: nothing is left without either
    assert result["contradicted"]["NORMAL"] == result["contradicted"]["PNEUMONIA"] == 1
    assert result["decisive"]["auc_contradicted"] is None


def test_intervals_hold_their_values_and_draw_whole_patients():
    generator = np.random.default_rng(0)
    target = np.repeat([0, 1], 60)
    score = target + generator.normal(size=120)
    logit = score + target + generator.normal(size=120)
    result = audit(target, score, np.arange(120) // 2, logit, sigmoid(logit), 0.5, {})
    for name in NAMED:
        low, high = result["intervals"][name]
        assert low <= result[name] <= high
        assert low < high
    assert result["patients"] == 60
    assert result["contradicted"]["NORMAL"] == result["contradicted"]["PNEUMONIA"] == 18
    assert result["auc_contradicted"] < result["auc"]
    json.dumps(result, allow_nan=False)


def test_the_acquisition_score_is_out_of_fold_by_patient():
    generator = np.random.default_rng(1)
    target = np.repeat(generator.permutation(np.repeat([0, 1], 30)), 3)
    patients = np.arange(180) // 3
    noise = np.repeat(generator.normal(size=60), 3)  # the three films of a patient are alike, and say nothing
    telling = target + 0.1 * generator.normal(size=180)
    measured = [{"noise": n, "telling": t} for n, t in zip(noise, telling, strict=True)]
    score = {name: score_acquisition(measured, target, patients, [name]) for name in measured[0]}
    auc = {name: np.mean(s[target == 1][:, None] > s[target == 0]) for name, s in score.items()}
    assert auc["telling"] > 0.99
    assert 0.3 < auc["noise"] < 0.7, "trees that had seen a patient's other films would know"
    assert (score["noise"] == score_acquisition(measured, target, patients, ["noise"])).all()


def test_too_few_patients_are_said():
    few = MIN_PATIENTS - 1
    target = np.repeat([0, 1], [few, 30])
    with pytest.raises(PneumoError, match=f"at least {MIN_PATIENTS} patients of each label to audit, received {few} N"):
        score_acquisition([{"x": 0.0}] * len(target), target, np.arange(len(target)), ["x"])
    with pytest.raises(PneumoError, match="films of both labels"):
        measure_separation([1, 1], {}, [0, 1])


def test_the_verdict_says_how_far_and_by_what():
    def said(auc, low, high, **alone):
        groups = {name: {"auc": alone.get(name, 0.5)} for name in GROUPS}
        return state_verdict({"auc": auc, "interval": [low, high], "by_group": groups})

    assert said(0.98, 0.97, 0.99, sharpness=0.93, border=0.90) == (
        "Acquisition alone tells the labels apart with AUC 0.98 (0.97 to 0.99), sharpness alone with 0.93: "
        "a good score on these films proves little."
    )
    assert "tone alone with 0.70: a good score on these films may owe part" in said(0.7, 0.6, 0.8, tone=0.7)
    assert said(0.52, 0.47, 0.57).startswith(
        "Acquisition alone does not tell the labels apart: AUC 0.52 (0.47 to 0.57)"
    )
    assert said(0.55, 0.3, 0.8).startswith("These are too few films to say")
    # blur makes files smaller: where both tell everything, the cause is named
    assert "sharpness alone with 0.99" in said(1.0, 0.99, 1.0, sharpness=0.99, **{"file size": 1.0})


def test_tables_are_aligned_and_say_what_is_undefined():
    result = dict.fromkeys(NAMED) | {"auc": 0.5, "intervals": dict.fromkeys(NAMED) | {"auc": [0.25, 0.75]}}
    lines = align(tabulate_model(result))
    assert lines[1].split() == ["AUC", "0.5000", "0.2500", "to", "0.7500"]
    assert lines[2].split() == ["Sensitivity", "undefined"]
    assert {
        line.index(word) + len(word) for line in lines[1:3] for word in ("0.5000", "undefined") if word in line
    } == {lines[0].index("value") + 5}


@pytest.fixture
def grey(mean_grey, monkeypatch):
    monkeypatch.setattr(cli_films, "load", lambda name: mean_grey)
    return mean_grey


@pytest.fixture
def made(small_films, tmp_path):
    """A folder of 30 + 30 crops of the four sample films, each label from all four; `change(film, label)` goes last."""

    def make(change):
        generator = np.random.default_rng(0)
        for number in range(60):
            label = ("NORMAL", "PNEUMONIA")[number % 2]
            film = Image.fromarray(list(small_films.values())[number // 2 % 4])
            left, top, right, bottom = generator.integers(0, 30, 4)
            film = film.crop((left, top, 224 - right, 224 - bottom)).resize((224, 224), Image.Resampling.BICUBIC)
            gain = generator.uniform(0.75, 1)
            film = film.point([round(value * gain) for value in range(256)])
            path = tmp_path / "made" / label / f"scan {number}.jpeg"
            path.parent.mkdir(parents=True, exist_ok=True)
            change(film, label).save(path)
        return tmp_path / "made"

    return make


def test_labels_that_follow_only_sharpness_are_said_in_the_first_line(grey, made):
    folder = made(lambda film, label: film.filter(ImageFilter.GaussianBlur(1)) if label == "PNEUMONIA" else film)
    done = run("audit", folder)
    assert done.exit_code == 0
    first = done.output.splitlines()[0]
    assert first.startswith("Acquisition alone tells the labels apart with AUC ")
    assert ", sharpness alone with " in first
    assert first.endswith("a good score on these films proves little.")


def test_labels_that_follow_nothing_get_no_verdict_against_them(grey, made, tmp_path):
    folder = made(lambda film, label: film)
    (folder / "NORMAL" / "broken.png").write_bytes(b"not a film")
    done = run("audit", folder, "--json", tmp_path / "new" / "numbers.json", "--report", tmp_path / "report")
    assert done.exit_code == 0
    first = done.output.splitlines()[0]
    assert first.startswith(("Acquisition alone does not tell", "These are too few films"))
    result = json.loads((tmp_path / "new" / "numbers.json").read_text())
    assert json.loads((tmp_path / "report" / "metrics.json").read_text()) == result
    assert result["acquisition"]["verdict"] == first
    assert (result["n"], result["patients"], result["part"]) == (60, 60, None)
    assert [one["file"] for one in result["unreadable"]] == [str(folder / "NORMAL" / "broken.png")]
    assert "broken.png" in done.stderr
    one = result["decisive"]["auc_matched"]
    assert {path.name for path in folder.rglob(one["files"][0])} == set(one["files"])
    assert f"AUC, matched films: {one['without']:.4f} instead of {result['auc_matched']:.4f} without" in done.output
    assert ATTRIBUTION not in (tmp_path / "report" / "report.md").read_text(), "a user's own films"
    # the model that says the mean grey: masks darken
    probability = [grey.predict(e.path.read_bytes()).probability for e in scan(folder) if "broken" not in e.path.name]
    called = np.array(probability) >= grey.card.threshold
    assert result["sensitivity"] == pytest.approx(called[30:].mean())
    under = result["interventions"]
    assert under["borders masked"]["specificity"] >= result["specificity"]
    assert set(under["tone equalised"]) == {
        "auc",
        "auc_change",
        "sensitivity",
        "specificity",
        "same_label",
        "intervals",
    }


def test_a_part_is_audited_with_all_the_films_fitted(grey, tiny_chest_xray, tmp_path):
    folder = tiny_chest_xray / "train"
    done = run("audit", folder, "--part", "validation", "--report", tmp_path / "a" / "report")
    assert done.exit_code == 0
    report = tmp_path / "a" / "report" / "report.md"
    result = json.loads((report.parent / "metrics.json").read_text())
    examples = scan(folder)
    part = split(examples, content_hashes(examples))["validation"]
    assert (result["n"], result["acquisition"]["fitted_on"], result["part"]) == (len(part), 40, "validation")
    text = report.read_text()
    assert result["acquisition"]["verdict"] in text
    assert ATTRIBUTION in text
    assert "`marker_top_left`, `marker_top_right`" in text
    for name in ("logit", "contradicted", "contradicted_worst"):
        assert f"]({name}.png)" in text
        with Image.open(report.parent / f"{name}.png") as figure:
            assert np.asarray(figure.convert("L")).std() > 5


def test_what_a_person_can_act_on_is_one_sentence(grey, tmp_path):
    few = tmp_path / "few"
    for label in ("NORMAL", "PNEUMONIA"):
        (few / label).mkdir(parents=True)
        for number in range(3):
            Image.new("L", (64, 64), 40 * number).save(few / label / f"{label}{number}.png")
    for folder, words in (
        (few, "Expected at least 10 patients of each label"),
        (tmp_path / "none", "Expected films in"),
    ):
        done = run("audit", folder)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith(f"Error: {words}")
        assert done.stderr.count("\n") == 1
