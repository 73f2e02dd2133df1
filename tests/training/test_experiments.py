"""Ideas are trained, measured on validation, kept, and compared with the recipe as it is."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from pneumo.cli.main import main
from pneumo.data.dataset import content_hashes, scan, split
from pneumo.errors import RunError
from pneumo.evaluation import faithfulness
from pneumo.model.card import MODELS, read_card
from pneumo.reports import experiments_report
from pneumo.training import experiments
from pneumo.training import train as training
from pneumo.training.experiments import FILMS
from pneumo.training.recipes import CHOSEN, IDEAS, PLAIN, RECIPES, SHIPPED, Idea, find_idea

FOLDER = MODELS.parent / "reports" / "experiments"


def run(*arguments):
    return CliRunner().invoke(main, ["experiment", *map(str, arguments)], catch_exceptions=False)


def test_ideas_change_what_there_is():
    plain = RECIPES["vgg16"].config
    for name, idea in IDEAS.items():
        assert all(getattr(plain, key) != value for key, value in idea.changes.items()), name
    assert IDEAS[PLAIN].changes == {}
    assert all(getattr(SHIPPED, key) == value for key, value in find_idea(CHOSEN).changes.items())


def test_ideas_joined_by_plus_are_one():
    both = find_idea("experts whole + mixup")
    assert both.changes == {"experts": 1.0, "mixup": 0.2}
    assert both.about == f"{IDEAS['experts whole'].about}; {IDEAS['mixup'].about}"
    with pytest.raises(KeyError, match="magic"):
        find_idea("mixup + magic")


def test_shipped_model_was_trained_as_the_chosen_idea_says():
    config = read_card(roles=()).contents["receipt"]["config"]
    changes = find_idea(CHOSEN).changes
    assert {key: config[key] for key in changes} == changes


@pytest.fixture(scope="module")
def tried(tiny_chest_xray, tmp_path_factory):
    """The recipe as it is and all ideas of the objective at once, on few films, seeds 0 and 1, and their page."""
    folder = tmp_path_factory.mktemp("experiments")
    few = {"epochs": 1, "tune_epochs": 1, "views": 1}
    changes = {"matched": 0.5, "experts": 0.5, "independent": 1.0, "worst": 1.0, "mixup": 0.2, "averaged": 0.5}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(IDEAS, PLAIN, Idea("few epochs", few))
        patch.setitem(IDEAS, "matched", Idea("everything", few))
        patch.setitem(IDEAS, "independent", Idea("at once", changes))
        # too few children for the trees: a score that says nothing of the label
        patch.setattr(training, "score_films", lambda films: np.arange(len(films)) % 5 - 2.0)
        patch.setattr(faithfulness, "FILMS", 1)
        patch.setattr(faithfulness, "SHARES", (faithfulness.TOLD,))
        base = read_card(roles=("base",)).file("base")
        options = ["--data", tiny_chest_xray, "--base", base, "--runs", folder / "runs", "--out", folder]
        result = run(PLAIN, "matched + independent", *options, "--seed", 0, "--seed", 1, "--internal-test")
    assert result.exit_code == 0, result.output
    return folder


def test_a_run_keeps_its_figures_and_what_makes_it_again(tried):
    (path,) = (tried / "experiments").glob("matched+independent-*-1.json")
    kept = json.loads(path.read_text())
    films = json.loads((tried / "experiments" / FILMS).read_text())
    again = 'pneumo experiment "matched + independent" --seed 1'
    assert experiments_report.command(kept) == f"{again} --base models/vgg16-chest-xray.base.npz"
    assert kept["films"] == films["fingerprint"]
    assert experiments_report.command(kept | {"base": {"sha256": "0123456789ab"}}) == f"{again} --base 01234567.npz"
    assert kept["base"]["sha256"] == read_card(roles=("base",)).contents["files"]["base"]["sha256"]
    assert (kept["config"]["experts"], kept["config"]["seed"], kept["epochs"]) == (0.5, 1, {"top": 1, "tune": 1})
    for part in ("validation", "internal_test"):
        assert kept[part]["n"] == len(kept[part]["logit"]) == len(films[part]["target"])
        assert 0 <= kept[part]["auc"] <= 1
        assert set(kept[part]["interventions"]) >= {"corners and borders masked", "half the size"}
    assert kept[part]["threshold"] == kept["validation"]["threshold"]  # chosen there
    assert kept["validation"]["faithfulness"]["films"] == 1
    assert "faithfulness" not in kept["internal_test"]


def test_seeds_share_the_features_of_the_frozen_blocks(tried):
    kept = list((tried / "runs" / "features").glob("*.npy"))
    # the films of training augmented once, validation's as they are; both other parts' as they are and changed;
    # and the nuisance score of those of training
    assert len(kept) == 5


def test_the_page_has_every_run_and_its_difference(tried):
    page = (tried / "experiments.md").read_text()
    assert page.count("`pneumo experiment ") == 4  # of every run
    assert "everything; at once" in page
    assert " ± " in page
    assert "`, the shipped one\n" in page  # of the bases, by its hash
    assert "## Internal test, of what was chosen" in page
    assert (tried / "experiments.png").stat().st_size > 5000


def test_the_map_is_tested_on_the_pneumonias_called_so():
    # 14 x 14 pixels, a position each; the map is how bright a pixel is, so it is true of itself
    films = np.random.default_rng(0).integers(0, 60, (8, 14, 14), np.uint8)
    target = np.array([0, 0, 1, 1] * 2)
    films[target == 1, 3:6, 3:6] += 150
    logit = films.mean(axis=(1, 2)) - 30
    columns = target, logit + np.array([0, 4, -4, 0] * 2), np.arange(8)  # not told apart without error
    tested = experiments.map_tested(lambda film: film.astype(float) - 30, films, columns, 0.5)
    assert 0 < tested["films"] <= 4
    point = next(point for point in tested["curve"] if point["share"] == faithfulness.TOLD)
    assert point["more_than_random"]["intervals"]["logit"][0] > 0
    assert experiments.map_tested(lambda film: film, films, columns, 1.1) is None


def test_the_page_says_how_many_runs_tested_the_map():
    def tested(more):
        point = {"share": faithfulness.TOLD, "more_than_random": {"logit": more}}
        return {"validation": {"faithfulness": {"curve": [{"share": 0.05}, point]}}}

    assert experiments_report._map([tested(1.0), tested(-2.0)]) == "-0.50"
    assert experiments_report._map([tested(1.0), {"validation": {}}]) == "+1.00 (1 of 2)"
    assert experiments_report._map([{"validation": {"faithfulness": None}}]) == ""


def test_differences_by_hand(tmp_path):
    # 20 films of 20 children; the nuisance score says nothing of the label
    known = {"file": [str(i) for i in range(20)], "target": [0, 1] * 10, "score": [0.0] * 20, "child": list(range(20))}
    right = [-1.0, 1.0] * 10
    wrong = [1.0, -1.0, *right[2:]]  # the first pair the wrong way round
    draws = {name: experiments_report._draws([logit], known) for name, logit in (("right", right), ("wrong", wrong))}
    # of 100 pairs 81 in order, one reversed, 18 tied: 0.81 + 0.09
    assert draws["wrong"]["auc"][0] == pytest.approx(0.9)
    assert draws["wrong"]["auc_matched"][0] == pytest.approx(0.9)
    assert draws["right"]["auc"][0] == 1.0
    mean = experiments_report._draws([right, wrong], known)["auc"][0]
    assert mean == pytest.approx(0.95)
    assert experiments_report._verdict({"auc": (-0.1, (-0.2, -0.05)), "auc_matched": (0.1, (0.01, 0.2))}) == (
        "better: matched; worse: plain"
    )
    every = dict.fromkeys(experiments_report.COMPARED, (0.1, (0.01, 0.2)))
    assert experiments_report._verdict(every) == "better: plain, contradicted, matched"
    assert experiments_report._verdict({"auc": (0.0, (-0.1, 0.1))}) == "undecided"


def test_the_costliest_films_by_hand():
    # 10 of each; the score contradicts films 0, 1, 2 of the normals and the last three of the pneumonias
    known = {
        "file": [str(i) for i in range(20)],
        "target": [0] * 10 + [1] * 10,
        "score": [*range(3, -7, -1), *range(10, 0, -1)],
    }
    logit = [5.0, *[-1.0] * 9, *[1.0] * 9, -3.0]  # film 0 above all pneumonias, film 19 below all normals
    found = experiments_report._costliest([{"validation": {"logit": logit}}], known)
    # wrong: film 0 with 17, 18, 19, film 19 with 0, 1, 2: five pairs, film 0 and 19 in three each
    assert found[:2] == [("`0`", "60%"), ("`19`", "60%")]


def test_what_one_child_decides_by_hand():
    # as above, but only film 0 is wrong: without it every pair is in order
    known = {
        "file": [str(i) for i in range(20)],
        "target": [0] * 10 + [1] * 10,
        "score": [*range(3, -7, -1), *range(10, 0, -1)],
        "child": list(range(20)),
    }
    logit = [5.0, *[-1.0] * 9, *[1.0] * 10]
    run = {"validation": {"logit": logit, "auc_contradicted": 2 / 3, "auc_matched": 0.5}}
    found = experiments_report._without_one([run, run], "validation", known)
    assert found["auc_contradicted"] == ("0.6667 ± 0.0000", "1.0000", "`0`")
    assert found["auc_matched"][1:] == ("1.0000", "`0`")


def test_the_page_says_where_the_last_block_was_kept():
    tuned, top = {"kept": ["block5_conv3", "logit_map"]}, {"kept": ["top_conv1", "logit_map"]}
    groups = {("a", PLAIN): [top], ("b", PLAIN): [tuned, top]}
    groups |= {("a", "mixup"): [tuned], ("b", "mixup"): [tuned, top], ("a", "smoothing"): [top]}
    said = experiments_report._mixed(groups, {key: {} for key in groups if key[1] != PLAIN})
    assert "of the runs of the recipe as it is, 0 of 1 on `a` and 1 of 2 on `b` kept it" in said
    assert "in 1 of these 3 comparisons every run of the idea did" in said
    page = (FOLDER.parent / "experiments.md").read_text().splitlines()
    kept = ["block5_conv3" in json.loads(path.read_text())["kept"] for path in FOLDER.glob("*-*.json")]
    assert sum(" | kept | " in line for line in page) == sum(kept)
    assert sum(" | not kept | " in line for line in page) == len(kept) - sum(kept) > 0


def test_ideas_in_combinations_are_not_called_untried():
    said = " ".join(experiments_report._untried({*IDEAS} - {"lungs", "longer", "exchanged"} | {"mixup + exchanged"}))
    assert said.strip() == (  # `longer` is in what is shipped
        "Not tried alone, but together with others: `longer`, `exchanged`.  Never tried: `lungs`."
    )
    assert experiments_report._untried(set(IDEAS)) == []


def test_unknown_ideas_are_refused_and_known_ones_listed(tmp_path):
    refused = run("mixup + magic")
    assert refused.exit_code == 2
    assert "'smoothing'" in refused.output
    assert "received 'magic'" in refused.output
    not_a_file = run("mixup", "--base", "imagenet")
    assert not_a_file.exit_code == 2
    assert "expected chest-xray or an .npz, received 'imagenet'" in " ".join(not_a_file.output.split())
    nothing = CliRunner().invoke(main, ["experiment", "--out", str(tmp_path)])
    assert nothing.exit_code != 0
    assert "found none" in nothing.output
    assert IDEAS["mixup"].about in nothing.output


def test_shipped_page_is_the_one_of_its_runs(tmp_path):
    experiments_report.write_page(FOLDER, tmp_path)
    assert (tmp_path / "experiments.md").read_text() == (FOLDER.parent / "experiments.md").read_text()


def test_lessons_are_told_with_the_runs_that_they_were_learned_from(tmp_path):
    folder = tmp_path / "experiments"
    shutil.copytree(FOLDER, folder)
    (folder / "lessons.md").unlink()
    experiments_report.write_page(folder, tmp_path)
    page = (tmp_path / "experiments.md").read_text()
    assert "What helped" not in page
    assert "## What it changed" in page


def test_scores_are_kept_for_the_same_films_alone(tiny_chest_xray, tmp_path, monkeypatch):
    examples = scan(tiny_chest_xray / "train")
    parts = split(examples, content_hashes(examples))
    monkeypatch.setattr(experiments, "score_films", lambda films: np.full(len(films), 1.0))
    first = experiments.known_films(parts, tmp_path / FILMS)
    monkeypatch.setattr(experiments, "score_films", lambda films: np.full(len(films), 2.0))
    assert experiments.known_films(parts, tmp_path / FILMS) == first
    fewer = parts | {"train": parts["train"][1:]}
    assert set(experiments.known_films(fewer, tmp_path / FILMS)["validation"]["score"]) == {2.0}
    (tmp_path / "a run.json").write_text("{}")
    with pytest.raises(RunError, match="name another folder with --out"):
        experiments.known_films(parts, tmp_path / FILMS)


def test_a_run_of_other_films_is_not_measured_by_these(tmp_path):
    folder = tmp_path / "experiments"
    shutil.copytree(FOLDER, folder)
    path = next(folder.glob("mixup-*.json"))
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"films": "0" * 64}))
    with pytest.raises(RunError, match=f"{path.name} is of other films"):
        experiments_report.write_page(folder, tmp_path)
    path.write_text(json.dumps(kept | {"validation": kept["validation"] | {"logit": [0.0]}}))
    with pytest.raises(RunError, match=f"{path.name} is of other films"):
        experiments_report.write_page(folder, tmp_path)


def test_kept_logits_give_the_kept_auc():
    known = json.loads((FOLDER / FILMS).read_text())["validation"]
    for path in FOLDER.glob("*-*.json"):
        kept = json.loads(path.read_text())["validation"]
        of = {label: np.array(kept["logit"])[np.array(known["target"]) == label] for label in (0, 1)}
        pairs = of[1][:, None] - of[0][None, :]
        auc = (np.sum(pairs > 0) + np.sum(pairs == 0) / 2) / pairs.size
        assert kept["auc"] == pytest.approx(auc, abs=1e-3), path.name
