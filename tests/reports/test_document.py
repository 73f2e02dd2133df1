"""README, docs/results.md and MODEL_CARD.md: their figures are the measured ones."""

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import replace

import pytest
from click.testing import CliRunner

from pneumo.cli.main import main
from pneumo.errors import RunError
from pneumo.model.card import read_card
from pneumo.reports import card_tables, document
from pneumo.reports.document import ROOT, SOURCES, read_measured
from pneumo.reports.pages import render
from tests.support.cards import write_card_of_two
from tests.support.server import free_port, until


def test_figures_are_current():
    done = CliRunner().invoke(main, ["document", "--check"])
    assert done.exit_code == 0, done.output


def test_measurements_are_of_the_shipped_model():
    card = read_card()
    for name in ("serving", "sizes"):
        measured = json.loads((ROOT / "benchmarks" / f"{name}.json").read_text())
        assert measured["model"] == {"name": card.name, "version": card.version}
    for name in ("internal_test/metrics", "audit/metrics", "audit_internal_test/metrics", "reliability"):
        measured = json.loads((ROOT / "reports" / f"{name}.json").read_text())
        assert measured["model"]["sha256"] == card.sha256


def test_fill_replaces_between_marks_and_refuses_without():
    assert document.fill("a\n<!-- x -->\nold\n<!-- /x -->\nb", {"x": "new\n"}) == "a\n<!-- x -->\nnew\n<!-- /x -->\nb"
    with pytest.raises(ValueError, match="Expected one pair"):
        document.fill("nothing", {"x": "new"})


def test_every_command_in_the_table_of_numbers_exists():
    table = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").split("## Every number again")[1]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets, commands = (set(re.findall(rf"`{word} ([a-z]+)", table)) for word in ("make", "pneumo"))
    assert {"benchmark", "reliability", "recipes"} == targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    assert {"predict", "evaluate", "audit", "train", "compare", "document"} == commands <= set(main.commands)


def test_pages_are_written_from_what_was_measured(monkeypatch):
    texts = {path.name: text for path, text in document.write_pages().items()}
    test, auc = read_measured("test"), read_card().contents["metrics"]["internal_test"]["auc"]
    assert f"| AUC | {auc:.3f} (" in texts["README.md"].split("<!-- numbers -->")[1].split("<!-- /numbers -->")[0]
    for page in ("results.md", "MODEL_CARD.md"):
        assert f"| AUC | {auc:.4f} | " in texts[page]
        assert "{{" not in texts[page]
        assert "undefined" not in texts[page].lower()
    refused = f"Of the {test['n']} films of children behind the results above {len(test['refused'])} would"
    assert refused in texts["MODEL_CARD.md"]
    assert (
        f"| recipes compared | `make recipes`; from what the runs left: `{SOURCES['comparison'][1]}` |"
        in (texts["results.md"])
    )


def test_pages_tell_of_each_population_of_a_card(tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES, "card", (str(write_card_of_two(tmp_path)), "pneumo train"))
    texts = {path.name: text for path, text in document.write_pages().items()}
    numbers = texts["README.md"].split("<!-- numbers -->")[1].split("<!-- /numbers -->")[0]
    assert " films of children | 40 films of adults |" in numbers
    assert "| AUC against films labelled NORMAL alone | no others | 1.000 (1.000 to 1.000) |" in numbers
    assert "radiologist's box | not measured | 0.750 (0.301 to 0.954), chance 0.250 |" in numbers
    children, adults = texts["results.md"].split("## Children\n")[1].split("## Adults\n")
    assert " PNEUMONIA), threshold " in children
    assert "(12 NORMAL, 20 PNEUMONIA, 8 OTHER), threshold " in adults
    assert "0 of 20 pneumonias were missed, 2 of 20 films without one called PNEUMONIA." in adults
    assert "| all films | 40 | 20 | 0.990 (" in adults
    assert "| view AP | 2 | 1.000 (0.342 to 1.000) | 0.250 | 1.000 (1.000 to 1.000) | 0.250 |" in adults
    assert "borders masked 80.0 % (37.6 to 96.4)" in adults
    assert "AUC 0.8750 against 0.9000, the same label on 97.5 %" in adults
    card = texts["MODEL_CARD.md"]
    assert "of a child or an adult for pneumonia" in card
    assert "those of 1 to 5 years, and those of 18 years and older; newborns above all" in card
    assert "|  | films | NORMAL | PNEUMONIA | OTHER | patients |" in card
    assert "| as they are | 98.0 % of 150, 94.3 % to 99.3 % (4.0 %) | 90.0 % of 150, 84.2 % to 93.8 % (4.0 %) |" in card
    assert "one of children alone, 25.0 % of 40 films of adults (AUROC of the distance 0.750)" in card
    assert "- Films of adults: Wang et al. 2017" in card


def test_check_names_what_is_not_current(monkeypatch):
    texts = document.write_pages()
    stale = ROOT / document.RESULTS
    monkeypatch.setattr(document, "write_pages", lambda: texts | {stale: "another text"})
    done = CliRunner().invoke(main, ["document", "--check"])
    assert done.exit_code == 1
    assert "Not current: docs/results.md. Run `pneumo document`." in done.stderr
    assert stale.read_text(encoding="utf-8") == texts[stale]


@pytest.mark.parametrize("key", ["faithfulness", "coloured", "subgroups", "refused"])
def test_a_report_of_an_older_version_is_one_sentence_with_the_command(key, monkeypatch):
    file, command = SOURCES["test"]

    def read_older(name):
        found = read_measured(name)
        if name == "test":
            del found[key]
        return found

    monkeypatch.setattr(document, "read_measured", read_older)
    done = CliRunner().invoke(main, ["document"])
    assert done.exit_code == 2
    assert f"Expected '{key}' in {file}, found none: run `{command}`." in done.stderr


def test_a_measurement_that_lacks_something_says_so_at_any_depth(tmp_path):
    file, command = SOURCES["audit"]
    with pytest.raises(RunError, match=f"Expected {file}, found none: run `{command}`"):
        read_measured("audit", tmp_path)
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text('{"a": [{"b": 1}]}')
    found = read_measured("audit", tmp_path)
    assert found == {"a": [{"b": 1}]}
    with pytest.raises(RunError, match=f"Expected 'c' in {file}, found none: run `{command}`"):
        found["a"][0]["c"]


def test_what_a_label_is_worth_by_hand():
    # of 100 films 10 show one: 9 of them found, and 18 of the 90 others called so
    assert card_tables.compute_predictive_value(0.1, 0.9, 0.8) == pytest.approx(9 / 27)
    assert card_tables.compute_missed(0.1, 0.9, 0.8) == pytest.approx(1 / 73)
    metrics = {
        "sensitivity": 0.9,
        "specificity": 0.8,
        "intervals": {"sensitivity": [0.8, 1.0], "specificity": [0.5, 1.0]},
    }
    part = {"n": 4, "PNEUMONIA": 3}
    contents = {"metrics": {"internal_test": metrics}, "data": {"parts": {"internal_test": part}}}
    rows = card_tables.tabulate_prevalence(contents)
    assert ("10 in 100", "33 (15 to 100)", "1.4 (0.0 to 4.3)") in rows
    assert rows[0][0] == "75 in 100 (these films)"
    assert rows[0][1].startswith("93 (")


def test_what_seeds_reached_and_how_far_apart_they_lie():
    reached = {
        "seed-0": {"val_calibrated": 0.3, "val_AUC_child": 0.99},
        "seed-1": {"val_calibrated": 0.5, "val_AUC_child": 0.97},
    }
    assert card_tables.tabulate_reached(reached) == [
        ("", "loss of calibrated logits", "children: AUC"),
        ("seed-0", "0.3000", "0.9900"),
        ("seed-1", "0.5000", "0.9700"),
        ("mean ± standard deviation", "0.4000 ± 0.1414", "0.9800 ± 0.0141"),  # 0.1 · √2, 0.01 · √2
    ]
    assert card_tables.tabulate_reached({}) == []


def test_refusals_by_hand():
    found = {"n": 200, "refused": 0.01, "doubtful": 0.03, "taken_for": {}}
    measured = {"internal_test": found, "other pictures": found | {"refused": 1.0, "doubtful": 1.0}, "fish": found}
    gate = {"measured": measured, "taught": {"other": 9}, "of folders": {"other pictures": 7}}
    first, second, third = card_tables.tabulate_refusals(gate)
    assert first == ("films of the internal test", 200, "1.0 %", "0.3 % to 3.6 %", "2.0 %", "nothing")
    assert second[2:5] == ("100.0 %", "98.1 % to 100.0 %", "0.0 %")
    assert third[:3] == ("fish", 200, "1.0 %")


def test_open_films_are_told_where_all_have_one_label():
    card = read_card()
    films = {"internal_test": {"films": {"uncertain": {"NORMAL": 7, "PNEUMONIA": 6}}}}
    low = replace(card, contents={"triage": films}, thresholds={"screening": 0.2, "balanced": 0.2, "specific": 0.8})
    assert card_tables.count_open_films(low) == {"NORMAL": 7, "PNEUMONIA": 6, "count": 13, "label": "PNEUMONIA"}
    assert card_tables.count_open_films(replace(low, thresholds=low.thresholds | {"balanced": 0.5})) is None


def test_the_groups_read_worst_by_hand():
    def group(sensitivity, specificity):
        intervals = dict.fromkeys(("sensitivity", "specificity"))
        return {"n": 9, "sensitivity": sensitivity, "specificity": specificity, "intervals": intervals}

    groups = {"aetiology": {"normal": group(None, 0.9), "virus": group(0.7, None)}, "age": {"1": group(0.8, 0.6)}}
    worst = document.find_worst(groups)
    assert worst["sensitivity"][:3] == ("Aetiology: virus", "9", "0.7000")
    assert worst["specificity"] == ("Age: 1", "9", "0.8000", "0.6000")


def test_a_page_that_lacks_a_value_is_not_written():
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError, match="'answer' is undefined"):
        render("answer", sample="x")


def test_the_package_contains_its_templates():
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '"pneumo.reports" = ["templates/*.jinja"]' in pyproject


def test_python_app_py_serves():
    port = free_port()
    environment = os.environ | {"PORT": str(port)}
    server = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/health/ready"
    try:
        answer = until(lambda: urllib.request.urlopen(address, timeout=5), "an answer from Flask's own server")
        assert json.load(answer)["ready"] is True
    finally:
        server.terminate()
        server.wait()


def test_every_target_of_the_makefile_is_there_once():
    told = subprocess.run(["make", "-n", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stderr == ""
    wanted = re.search(r"\.PHONY: (.*)\n\.PHONY: (.*)\n", (ROOT / "Makefile").read_text())
    for target in " ".join(wanted.groups()).split():
        recipe = subprocess.run(["make", "-nB", target], cwd=ROOT, capture_output=True, text=True, check=True)
        assert "Nothing to be done" not in recipe.stdout, target
