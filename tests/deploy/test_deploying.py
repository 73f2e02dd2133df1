"""docs/deploying.md names every setting that there is, with its default, and every metric."""

import re

import pytest

from pneumo.web.settings import NUMBERS
from tests.support.server import ROOT

PAGE = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
ROWS = {name: default.strip("`") for name, default in re.findall(r"^\| `([A-Z_]+)` \| (.*?) \|", PAGE, re.MULTILINE)}
SOURCES = [ROOT / "app.py", *(ROOT / "pneumo").rglob("*.py")]


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_has_its_default(name):
    assert ROWS[name] == ("cores" if name == "WEB_CONCURRENCY" else str(NUMBERS[name][0]))


def test_every_variable_of_the_app_is_there_and_no_other():
    read = {name for path in SOURCES for name in re.findall(r'"(PNEUMO_[A-Z_]+)"', path.read_text(encoding="utf-8"))}
    assert {name for name in ROWS if name.startswith("PNEUMO_")} == read


def test_every_variable_of_compose_is_there_with_its_default():
    found = dict(re.findall(r"\$\{((?:PROXY|SITE)_\w+):-(.*?)\}", (ROOT / "compose.yaml").read_text()))
    documented = {name: value for name, value in ROWS.items() if name.startswith(("PROXY_", "SITE_"))}
    assert documented == {name: value or "none" for name, value in found.items()}


def test_every_metric_is_there():
    source = (ROOT / "pneumo" / "web" / "metrics.py").read_text(encoding="utf-8")
    counters = re.findall(r'Counter\(\s*"(\w+)"', source)
    others = re.findall(r'(?:Gauge|Histogram)\(\s*"(\w+)"', source)
    documented = set(re.findall(r"^\| `(pneumo_\w+)` \|", PAGE, re.MULTILINE))
    assert documented == {*(f"{name}_total" for name in counters), *others}
