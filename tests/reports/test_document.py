"""README and MODEL_CARD.md: their figures are the measured ones, the README's commands work."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from pneumo.cli.main import main
from pneumo.errors import RunError
from pneumo.model.card import read_card
from pneumo.reports import document, model_card
from pneumo.reports.model_card import NAME
from pneumo.web.settings import NUMBERS

README = document.ROOT / "README.md"


def commands():
    """Every line of the README's shell blocks, without its comment."""
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_figures_are_current():
    done = CliRunner().invoke(main, ["document", "--check"])
    assert done.exit_code == 0, done.output


def test_measurements_are_of_the_shipped_model():
    card = read_card()
    for name in ("serving", "sizes", "batch"):
        measured = json.loads((document.ROOT / "benchmarks" / f"{name}.json").read_text())
        assert measured["model"] == {"name": card.name, "version": card.version}
    for name in ("internal_test/metrics", "audit/metrics", "audit_internal_test/metrics", "reliability"):
        measured = json.loads((document.ROOT / "reports" / f"{name}.json").read_text())
        assert measured["model"]["sha256"] == card.sha256


def test_fill_replaces_between_marks_and_refuses_without():
    assert document.fill("a\n<!-- x -->\nold\n<!-- /x -->\nb", {"x": "new"}) == "a\n<!-- x -->\nnew\n<!-- /x -->\nb"
    with pytest.raises(ValueError, match="Expected one pair"):
        document.fill("nothing", {"x": "new"})


def test_every_pneumo_command_and_make_target_named_exists():
    text = README.read_text(encoding="utf-8")
    makefile = (document.ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for name in set(re.findall(r"(?:bin/|`)pneumo ([a-z]+)", text)):
        assert name in main.commands, name


def test_every_setting_stands_in_the_readme_with_its_default():
    told = dict(re.findall(r"^\| `([A-Z_]+)` \| (.+?) \|", README.read_text(encoding="utf-8"), re.MULTILINE))
    files = [document.ROOT / "app.py", document.ROOT / "gunicorn.conf.py", *document.ROOT.glob("pneumo/*.py")]
    words = {found for file in files for found in re.findall(r"environ\.get\(\"(PNEUMO_\w+)\"", file.read_text())}
    assert len(words) > 4
    assert words | set(NUMBERS) == set(told)
    for name in NUMBERS:
        default = {"WEB_CONCURRENCY": "cores", "PNEUMO_RATE": "none"}.get(name, f"{NUMBERS[name][0]:.0f}")
        assert told[name] == default, name


def test_files_named_exist():
    for page in (README, document.ROOT / NAME):
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"\]\(([^)#:]+)\)|`(tests/\w+\.py)`", text):
            assert (document.ROOT / "".join(name)).is_file(), name


def test_the_card_tells_how_long_training_waited_for_films_where_it_was_measured():
    ends = [{"seconds": 100, "waiting": 0.04}, {"seconds": 300, "waiting": 0.0}]
    assert model_card._waiting(ends) == "; 1.0 % of the epochs' time spent waiting for films"
    assert model_card._waiting([{"seconds": 100, "waiting": None}, {"seconds": 300}]) == ""


def test_check_names_what_is_not_current(monkeypatch):
    monkeypatch.setattr(model_card, "model_card", lambda: "another text")
    monkeypatch.setattr(document, "documented", lambda path: path.read_text(encoding="utf-8"))
    done = CliRunner().invoke(main, ["document", "--check"])
    assert done.exit_code == 1
    assert "Not current: MODEL_CARD.md. Run `pneumo document`." in done.stderr
    assert (document.ROOT / NAME).read_text(encoding="utf-8") != "another text"


@pytest.mark.parametrize("key", ["faithfulness", "coloured", "subgroups", "refused", "intervals"])
def test_a_report_of_an_older_version_is_one_sentence_with_the_command(key, monkeypatch):
    whole = document.measured("test")
    monkeypatch.setattr(document, "documented", lambda path: path.read_text(encoding="utf-8"))

    def older(name):
        found = document.measured(name)
        if name == "test":
            del found[key]
        return found

    monkeypatch.setattr(model_card, "measured", older)
    done = CliRunner().invoke(main, ["document"])
    assert done.exit_code == 2
    assert f"Expected '{key}' in reports/internal_test/metrics.json, found none: run `{whole.command}`." in done.stderr
    assert "pneumo evaluate data/chest_xray/train --part internal_test" in whole.command


def test_a_measurement_that_lacks_something_says_so_at_any_depth(tmp_path):
    file, command = document.SOURCES["audit"]
    with pytest.raises(RunError, match=f"Expected {file}, found none: run `{command}`"):
        document.measured("audit", tmp_path)
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text('{"a": [{"b": 1}]}')
    found = document.measured("audit", tmp_path)
    assert found == {"a": [{"b": 1}]}
    with pytest.raises(RunError, match=f"Expected 'c' in {file}, found none: run `{command}`"):
        found["a"][0]["c"]


def test_what_a_label_is_worth_by_hand():
    # of 100 films 10 show one: 9 of them found, and 18 of the 90 others called so
    assert document.worth_of_pneumonia(0.1, 0.9, 0.8) == pytest.approx(9 / 27)
    assert document.share_missed(0.1, 0.9, 0.8) == pytest.approx(1 / 73)
    card = read_card(roles=())
    metrics = {
        "sensitivity": 0.9,
        "specificity": 0.8,
        "intervals": {"sensitivity": [0.8, 1.0], "specificity": [0.5, 1.0]},
    }
    part = {"n": 4, "PNEUMONIA": 3}
    contents = {"metrics": {"internal_test": metrics}, "data": {"parts": {"internal_test": part}}}
    table = document.prevalence(replace(card, contents=contents)).splitlines()
    assert "| 10 in 100 | 33 (15 to 100) | 1.4 (0.0 to 4.3) |" in table
    assert table[4].startswith("| 75 in 100 (these films) | 93 (")


def test_refusals_by_hand():
    found = {"n": 200, "refused": 0.01, "doubtful": 0.03, "taken_for": {}}
    measured = {"internal_test": found, "other pictures": found | {"refused": 1.0, "doubtful": 1.0}, "fish": found}
    gate = {"measured": measured, "taught": {"other": 9}, "of folders": {"other pictures": 7}}
    lines = document.refused(replace(read_card(), contents={"gate": gate})).splitlines()
    assert lines[2] == "| films of the internal test | 200 | 1.0 % | 0.3 % to 3.6 % | 2.0 % | nothing |"
    assert (
        lines[3]
        == "| photographs | 200 | 100.0 % | 98.1 % to 100.0 % | 0.0 % | all; measured by gates taught without them |"
    )
    assert lines[4].startswith("| fish | 200 | 1.0 % |")


def test_model_card_tells_what_a_base_was_continued_from():
    stage, end = {"size": 64, "epochs": 18, "rate": 0.1}, {"64": {"seconds": 7200}}
    first = {"command": "pneumo pretrain", "config": {"stages": [stage], "start": None}, "stages": end}
    second = first | {"command": "pneumo pretrain --start a.npz", "stages": {"64": {"seconds": 90}}}
    second["config"] = {"stages": [stage], "start": {"sha256": "abc", "receipt": first}}
    later, origin, earlier = model_card._base(second)
    assert later.startswith("- Base: `pneumo pretrain --start a.npz`, 2 minutes: 18 epochs at 64 pixels;")
    assert "`abc`" in origin
    assert earlier.startswith("- Base: `pneumo pretrain`, 2.0 hours: 18 epochs")
    assert list(model_card._base({"command": "a download"})) == ["- Base: `a download`."]


def test_model_card_tells_what_was_done_beside_the_recipe():
    assert list(model_card._beside_the_recipe({"size": 112, "steps": [], "epochs": 5})) == []
    (line,) = model_card._beside_the_recipe({"size": 112, "steps": ["clahe"], "experts": 1.0, "unheard": 3})
    assert line.startswith("- Beside the recipe `vgg16`: `steps` ['clahe'], `experts` 1.0. What they do")


def test_predict_line_works(tmp_path, monkeypatch):
    (line,) = [c for c in commands() if "pneumo predict" in c]
    arguments = line.split()[1:]
    arguments = [str(tmp_path / a) if a in ("films.csv", "maps/") else a for a in arguments]
    monkeypatch.chdir(document.ROOT)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert len((tmp_path / "films.csv").read_text().splitlines()) == 1 + 4
    assert len(list((tmp_path / "maps").iterdir())) == 4


def test_tree_names_what_is_there():
    tree = README.read_text(encoding="utf-8").split("## The tree")[1].split("```")[1]
    named = set(re.findall(r"(\w+)\.py", tree)) - {"conf"}
    modules = {p.stem for p in Path(document.ROOT, "pneumo").glob("*.py") if not p.stem.startswith(("__init__", "cli"))}
    assert modules - named == set()
    for folder in re.findall(r"^(\w+)/", tree, re.MULTILINE):
        assert (document.ROOT / folder).is_dir(), folder


def test_python_app_py_serves():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"PORT": str(port)}
    server = subprocess.Popen([sys.executable, "app.py"], cwd=document.ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5)
                break
            except urllib.error.URLError:
                time.sleep(0.1)
        assert json.load(answer)["ready"] is True
    finally:
        server.terminate()
        server.wait()


def test_every_target_of_the_makefile_is_there_once():
    told = subprocess.run(["make", "-n", "help"], cwd=document.ROOT, capture_output=True, text=True, check=True)
    assert told.stderr == ""
    wanted = re.search(r"\.PHONY: (.*)\n\.PHONY: (.*)\n", (document.ROOT / "Makefile").read_text())
    for target in " ".join(wanted.groups()).split():
        recipe = subprocess.run(["make", "-nB", target], cwd=document.ROOT, capture_output=True, text=True, check=True)
        assert "Nothing to be done" not in recipe.stdout, target
