"""The README: its figures are the measured ones, its commands work."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from pneumo import document
from pneumo.card import read_card
from pneumo.cli import main

README = document.ROOT / "README.md"


def commands():
    """Every line of the README's shell blocks, without its comment."""
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_figures_are_current():
    assert CliRunner().invoke(main, ["document", "--check"]).exit_code == 0


def test_measurements_are_of_the_shipped_model():
    card = read_card()
    for name in ("serving", "sizes"):
        measured = json.loads((document.ROOT / "benchmarks" / f"{name}.json").read_text())
        assert measured["model"] == {"name": card.name, "version": card.version}
    for name in ("internal_test", "audit"):
        measured = json.loads((document.ROOT / "reports" / name / "metrics.json").read_text())
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
