"""The command line: a bad file is one line, a bad folder is one sentence, and the numbers are the predictor's."""

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pneumo import __version__
from pneumo.archive.rows import COLUMNS
from pneumo.cli.labelled import part_of
from pneumo.cli.main import Group, main
from pneumo.data.dataset import content_hashes, fingerprint, scan, split
from pneumo.evaluation.metrics import METRICS
from pneumo.evaluation.subgroups import THIRDS
from pneumo.model.card import read_card
from pneumo.model.profile import apply_profile
from tests.support.cli import rows, run
from tests.support.films import SAMPLES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("module", ["app", "pneumo.cli.main"])
def test_import_loads_nothing_heavy(module):
    heavy = (
        "tensorflow",
        "keras",
        "imgaug",
        "cv2",
        "sklearn",
        "scipy",
        "matplotlib",
        "kagglehub",
        "ai_edge_litert",
        "pydicom",
        "gdcm",
    )
    code = f"import sys, {module}; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_version_and_help():
    assert run("--version").output == f"pneumo, version {__version__}\n"
    for command in main.commands.values():
        assert command.help
        assert run(command.name, "--help").exit_code == 0


def test_a_disk_that_is_full_is_one_sentence():
    group = Group()

    @group.command()
    def write():
        raise OSError(errno.ENOSPC, "No space left on device", "report/roc.png")

    done = CliRunner().invoke(group, ["write"])
    assert done.exit_code == 2
    assert done.stderr == "Error: No space left on device. What was being written to report/roc.png is lost.\n"


def test_predict_says_what_the_shipped_model_says(predictor, tmp_path):
    out = tmp_path / "new" / "out.csv"
    assert run("predict", *SAMPLES, "--csv", out).exit_code == 0
    for row, path in zip(rows(out), SAMPLES, strict=True):
        expected = predictor.predict(path.read_bytes())
        assert row["file"] == str(path)
        assert row["label"] == expected.label
        assert float(row["probability"]) == pytest.approx(expected.probability, abs=1e-5)
        assert float(row["threshold"]) == expected.threshold
        assert row["error"] == ""


def test_a_bad_file_is_one_row_with_its_reason(grey, tmp_path):
    (tmp_path / "broken.jpeg").write_bytes(SAMPLES[0].read_bytes()[:5000])
    (tmp_path / "notes.txt").write_text("hello")
    out = tmp_path / "out.csv"
    missing = tmp_path / "missing.png"
    done = run("predict", tmp_path / "broken.jpeg", tmp_path / "notes.txt", missing, SAMPLES[0], "--csv", out)
    assert done.exit_code == 0
    assert out.read_text().startswith("file,label,probability,threshold,warnings,error,triage,population\n")
    broken, notes, absent, good = rows(out)
    assert tuple(good) == COLUMNS
    assert "cut short" in broken["error"]
    assert "5 bytes of something else" in notes["error"]
    assert absent["error"] == "No such file or directory."
    assert {row["probability"] + row["label"] for row in (broken, notes, absent)} == {""}
    assert float(good["probability"]) == grey.predict(SAMPLES[0].read_bytes()).probability
    assert "1 of 4 read by mean-grey" in done.stderr


def test_nothing_readable_is_exit_code_1(grey, tmp_path):
    (tmp_path / "empty.png").touch()
    done = run("predict", tmp_path / "empty.png")
    assert done.exit_code == 1
    assert "received an empty file" in done.stdout


def test_a_folder_without_pictures_is_said(grey, tmp_path):
    (tmp_path / "an empty one").mkdir()
    done = run("predict", tmp_path / "an empty one")
    assert done.exit_code == 1
    assert "Expected pictures in" in done.stderr
    assert "an empty one, found none" in done.stderr


def test_folders_are_searched_for_pictures_only(grey, tmp_path):
    inner = tmp_path / "a folder" / "deep er"
    inner.mkdir(parents=True)
    for name in ("b.JPG", "a.png", "._a.png", "notes.txt", "old.heatmap.png"):
        Image.new("L", (64, 64), 60).save(inner / name, "PNG")
    done = run("predict", tmp_path / "a folder", SAMPLES[0])
    assert done.exit_code == 0
    head, *lines = done.stdout.splitlines()
    assert head.split() == ["label", "probability", "triage", "population", "file"]
    assert [line.split("  ")[-1].split(" (")[0].strip() for line in lines] == [
        str(inner / "a.png"),
        str(inner / "b.JPG"),
        str(SAMPLES[0]),
    ]
    assert lines[0].startswith("NORMAL          0.2353  ")  # 60 / 255
    assert "(The picture is small" in lines[0]


def test_heat_maps_of_equal_names_are_kept_apart(grey, tmp_path):
    for film, size in (("x/film.png", 64), ("y/film.png", 96), ("y/FILM.bmp", 48), ("y/film-2.png", 80)):
        (tmp_path / film).parent.mkdir(exist_ok=True)
        Image.new("L", (size, 64), 240).save(tmp_path / film)
    maps = tmp_path / "maps"
    assert run("predict", tmp_path / "x", tmp_path / "y", "--heatmaps", maps).exit_code == 0
    names = {path.name for path in maps.iterdir()}
    assert len(names) == 4
    assert all(name.endswith(".heatmap.png") for name in names)
    ratios = sorted(round(picture.width / picture.height, 2) for picture in map(Image.open, maps.iterdir()))
    assert ratios == [0.75, 1.0, 1.25, 1.5]
    colours = np.asarray(Image.open(maps / "film.heatmap.png").convert("RGB")).reshape(-1, 3)
    assert np.ptp(colours[0].astype(int)) > 20, "the film without its overlay"


def test_no_cell_is_a_formula(grey, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("=1+1.png", "@x.png", "+1.png", "-1.png", "plain, comma.png"):
        Image.new("L", (64, 64), 60).save(name)
    out = tmp_path / "out.csv"
    run("predict", "--csv", out, "--", "=1+1.png", "@x.png", "+1.png", "-1.png", "plain, comma.png")
    assert [row["file"] for row in rows(out)] == ["'=1+1.png", "'@x.png", "'+1.png", "'-1.png", "plain, comma.png"]


def test_a_missing_model_is_one_sentence(tmp_path):
    for done in (run("predict", SAMPLES[0], "--model", "nobody"), run("evaluate", ROOT, "--model", "nobody")):
        assert done.exit_code == 2
        assert done.output.count("\n") == 1
    missing = tmp_path / "card.json"
    done = CliRunner(env={"PNEUMO_MODEL": str(missing)}).invoke(main, ["predict", str(SAMPLES[0])])
    assert (done.exit_code, done.stderr) == (2, f"Error: Expected a model card at {missing}, found none.\n")


def test_evaluate_counts_the_readable_films_and_names_the_others(grey, chest_xray, tmp_path):
    folder = chest_xray / "train"
    broken = folder / "PNEUMONIA" / "person99_virus_1.jpeg"
    broken.write_bytes(b"not a film")
    out = tmp_path / "new" / "numbers.json"
    done = run("evaluate", folder, "--json", out)
    assert done.exit_code == 0
    result = json.loads(out.read_text())
    assert set(result) == {
        *METRICS, "ece_expected", "n", "threshold", "intervals", "confusion", "unreadable", "refused", "model",
        "population", "operating_point", "operating_points", "triage", "subgroups", "coloured",
        "labels", "strata", "pointing",
    }  # fmt: skip
    assert result["n"] == 40 == sum(result["confusion"].values())
    reason = "Expected a JPEG, PNG, TIFF, WebP, BMP or DICOM film, received 10 bytes of something else."
    assert result["unreadable"] == [{"file": str(broken), "reason": reason}]
    assert str(broken) in done.stderr
    assert set(result["intervals"]) == set(METRICS)
    assert result["model"] == {"name": "mean-grey", "version": "1", "sha256": "0" * 64}
    examples = [example for example in scan(folder) if example.path != broken]
    called = [grey.predict(example.path.read_bytes()).label for example in examples]
    accuracy = np.mean([label == example.label for label, example in zip(called, examples, strict=True)])
    assert result["accuracy"] == pytest.approx(accuracy)
    viral = [label == "PNEUMONIA" for label, e in zip(called, examples, strict=True) if e.aetiology == "virus"]
    assert result["subgroups"]["aetiology"]["virus"]["sensitivity"] == pytest.approx(np.mean(viral))
    assert f"Accuracy             {accuracy:.4f}" in done.stdout
    assert "40 films of 30 patients" in done.stdout


@pytest.fixture
def greys(grey, tmp_path):
    """DIR of the model that says the mean grey: normals of 20, 20, 40 and 80 %, pneumonias of 20, 60, 80 and 80 %."""
    for label, shares in (("NORMAL", (20, 20, 40, 80)), ("PNEUMONIA", (20, 60, 80, 80))):
        for number, share in enumerate(shares):
            path = tmp_path / "site" / label / f"{label}{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (64, 64), round(255 * share / 100)).save(path)
    return tmp_path / "site"


def test_evaluate_says_what_is_left_open_and_what_that_gains(greys, tmp_path):
    # points at 0.25, 0.5, 0.75: uncertain are 40 % and 60 %; of the six others a normal and a pneumonia are wrong;
    # of all films at 0.5 the same two, since 40 % and 60 % are on the right side
    out = tmp_path / "numbers.json"
    done = run("evaluate", greys, "--json", out)
    triage = json.loads(out.read_text())["triage"]
    assert (triage["rule_out"], triage["rule_in"]) == (0.25, 0.75)
    assert triage["films"] == {
        "rule-out": {"NORMAL": 2, "PNEUMONIA": 1},
        "uncertain": {"NORMAL": 1, "PNEUMONIA": 1},
        "rule-in": {"NORMAL": 1, "PNEUMONIA": 2},
    }
    shares = [triage[name] for name in ("uncertain", "settled_sensitivity", "settled_specificity", "settled_error")]
    assert shares == pytest.approx([1 / 4, 2 / 3, 2 / 3, 1 / 3])
    assert triage["error"] == 1 / 4
    low, high = triage["intervals"]["uncertain"]
    assert low < 1 / 4 < high
    # brightness is the probability: the darkest third is the three of 20 % and so on
    groups = json.loads(out.read_text())["subgroups"]
    assert {name: of["n"] for name, of in groups["brightness"].items()} == dict(zip(THIRDS, (3, 2, 3), strict=True))
    assert groups["image size"]["all films"]["range"] == [64 * 64, 64 * 64]
    assert "faithfulness" not in json.loads(out.read_text())  # that takes minutes: with --report only
    # above the logit 0, so at 60 and 80 %, a film has colour all over
    assert json.loads(out.read_text())["coloured"] == {"NORMAL": 1 / 4, "PNEUMONIA": 3 / 4}
    assert "colour on 25.0 % of a film labelled NORMAL and on 75.0 % of" in done.stdout
    assert "Uncertain               0.2500  " in done.stdout
    assert "balanced        0.5000                     0.7500 (" in done.stdout


def test_a_name_that_is_no_utf_8_is_written_as_far_as_it_can_be(greys, tmp_path):
    film = greys / "NORMAL" / "NORMAL1.png"
    os.rename(film, os.fsencode(greys / "NORMAL") + b"/R\xf6ntgen.png")  # Latin 1, as of an old archive
    out = tmp_path / "numbers.json"
    done = run("evaluate", greys, "--json", out, "--report", tmp_path / "report")
    assert done.exit_code == 0, done.output
    assert json.loads(out.read_text())["model"]
    assert (tmp_path / "report" / "report.md").exists()


def test_the_operating_point_of_predict_and_evaluate(greys, tmp_path):
    out = tmp_path / "out.csv"
    film = greys / "PNEUMONIA" / "PNEUMONIA1.png"  # 60 %
    for point, threshold, label in (("specific", "0.75", "NORMAL"), ("screening", "0.25", "PNEUMONIA")):
        assert run("predict", film, "--csv", out, "--operating-point", point).exit_code == 0
        (row,) = rows(out)
        assert (row["threshold"], row["label"], row["triage"]) == (threshold, label, "uncertain")
    numbers = tmp_path / "numbers.json"
    run("evaluate", greys, "--operating-point", "specific", "--json", numbers)
    result = json.loads(numbers.read_text())
    assert (result["operating_point"], result["threshold"], result["sensitivity"]) == ("specific", 0.75, 0.5)
    assert result["triage"]["error"] == 3 / 8
    done = run("predict", film, "--operating-point", "careful")
    assert done.exit_code == 2
    assert "screening" in done.stderr


def test_external_suggests_operating_points_and_saves_them_as_a_profile(greys, grey, tmp_path):
    # every pneumonia from 0.2 on: screening; at 0.4001 three of four are right of each label: balanced; every normal
    # below 0.8001: specific, where none is found
    out, profile = tmp_path / "numbers.json", tmp_path / "new" / "ward-3.json"
    done = run("evaluate", greys, "--external", "--profile", profile, "--json", out)
    assert done.exit_code == 0
    suggested = json.loads(out.read_text())["suggested"]
    assert [point["threshold"] for point in suggested.values()] == [0.2, 0.4001, 0.8001]
    for point in suggested.values():  # of eight films nearly any threshold may be chosen
        low, high = point["interval"]
        assert low <= point["threshold"] <= high
        assert low < high
    assert (suggested["balanced"]["sensitivity"], suggested["balanced"]["specificity"]) == (0.75, 0.75)
    assert (suggested["screening"]["sensitivity"], suggested["specific"]["specificity"]) == (1, 1)
    assert f"profile: {profile}" in done.stdout
    written = json.loads(profile.read_text())
    assert written["name"] == "ward-3"
    assert written["model"] == {"name": "mean-grey", "version": "1", "sha256": "0" * 64}
    assert written["operating_points"] == suggested
    assert "These are too few" in written["note"]
    assert written["note"] in done.output
    assert written["films"] == {"n": 8, "NORMAL": 4, "PNEUMONIA": 4, "patients": 8}
    assert apply_profile(grey.card, profile).rule_in == 0.8001


def test_external_needs_both_labels_and_no_part_of_the_split(greys, tmp_path):
    assert run("evaluate", greys, "--profile", tmp_path / "x.json").exit_code == 2
    assert run("evaluate", greys, "--external", "--part", "validation").exit_code == 2
    for path in (greys / "NORMAL").iterdir():
        path.write_bytes(b"")
    done = run("evaluate", greys, "--external", "--profile", tmp_path / "x.json")
    assert done.exit_code == 2
    assert "both labels" in done.stderr
    assert not (tmp_path / "x.json").exists()


def test_evaluate_runs_the_shipped_model_on_one_part_of_its_split(predictor, chest_xray, tmp_path, capsys):
    folder = chest_xray / "train"
    out = tmp_path / "numbers.json"
    done = run("evaluate", folder, "--part", "internal_test", "--json", out, "--report", tmp_path / "report")
    assert done.exit_code == 0
    result = json.loads(out.read_text())
    examples = scan(folder)
    part = split(examples, content_hashes(examples))["internal_test"]
    assert "The files of internal_test are not those behind the figures of the model card." in done.stderr
    told = {"data": {"parts": {"internal_test": {"fingerprint": fingerprint(content_hashes(part))}}}}
    card = replace(predictor.card, contents=told)
    assert part_of(examples, content_hashes(examples), "internal_test", card) == part
    assert capsys.readouterr().err == ""
    assert result["n"] == len(part)
    probability = np.array([predictor.predict(example.path.read_bytes()).probability for example in part])
    target = np.array([example.target for example in part])
    assert result["brier"] == pytest.approx(np.mean((probability - target) ** 2), abs=1e-4)
    assert result["threshold"] == predictor.card.threshold
    assert result["model"]["sha256"] == predictor.card.sha256
    assert json.loads((tmp_path / "report" / "metrics.json").read_text()) == result
    found = (probability >= predictor.card.threshold) & (target == 1)
    assert result["faithfulness"]["films"] == found.sum() > 0


def test_evaluate_with_one_readable_class_leaves_the_rest_undefined(grey, chest_xray, tmp_path):
    for path in (chest_xray / "train" / "PNEUMONIA").iterdir():
        path.write_bytes(b"")
    out = tmp_path / "numbers.json"
    done = run("evaluate", chest_xray / "train", "--json", out)
    assert done.exit_code == 0
    result = json.loads(out.read_text())
    assert result["n"] == 20
    assert result["auc"] is result["sensitivity"] is result["intervals"]["auc"] is None
    assert len(result["unreadable"]) == 20
    assert "AUC               undefined" in done.stdout


def test_evaluate_of_no_folder_of_one_class_and_of_nothing_readable_is_one_sentence(grey, chest_xray, tmp_path):
    done = run("evaluate", tmp_path / "nowhere")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"Error: Expected films in {tmp_path / 'nowhere' / 'NORMAL'}, found none.\n"
    for path in (chest_xray / "train").rglob("*.jpeg"):
        path.write_bytes(b"")
    done = run("evaluate", chest_xray / "train")
    assert done.exit_code == 2
    assert "could read none of 40" in done.stderr
    shutil.rmtree(chest_xray / "train" / "PNEUMONIA")
    done = run("evaluate", chest_xray / "train")
    assert done.exit_code == 2
    assert done.stderr.startswith("Error: Expected films in")


def test_serve_hands_over_to_gunicorn_where_it_is_called(monkeypatch, tmp_path):
    called = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", "5000")
    monkeypatch.setattr("os.execv", lambda path, arguments: called.append((arguments[1:], Path.cwd())))
    assert run("serve", "--port", 8123).exit_code == 0
    there = ["--config", "python:pneumo.web.server", "--pythonpath", str(ROOT)]
    assert called == [(["-m", "gunicorn", *there], tmp_path)], "settings may be paths from here"
    assert os.environ["PORT"] == "8123"
    assert run("serve", "--port", 0).exit_code == 2


def test_check_says_whether_the_server_could_start(monkeypatch, tmp_path):
    card = read_card()
    done = run("check")
    assert (done.exit_code, done.stdout) == (0, f"{card.name} {card.version} can be served.\n")
    for name, value, words in (
        ("PNEUMO_KEYS", "none", "Expected PNEUMO_KEYS to be SHA-256 hashes or their file"),
        ("PNEUMO_MODEL", str(tmp_path / "no.json"), "Expected a model card at"),
        ("PNEUMO_PROFILE", str(tmp_path / "no.json"), "Expected a site profile at"),
        ("PNEUMO_WAITING", "0", "Expected PNEUMO_WAITING to be a whole number from 1 on"),
    ):
        with monkeypatch.context() as changed:
            changed.setenv(name, value)
            done = run("check")
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith(f"Error: {words}")
