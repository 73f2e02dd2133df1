"""Settings: their numbers, what means nothing among them, and what a server says of that and of its senders."""

import subprocess
import sys

import pytest

from pneumo.errors import SettingError
from pneumo.web.settings import NUMBERS, read_numbers
from tests.support.server import ROOT, environment, free_port


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in NUMBERS:
        monkeypatch.delenv(name, raising=False)


def test_what_is_not_set_or_empty_is_the_default(monkeypatch):
    assert read_numbers() == {name: default for name, (default, *_) in NUMBERS.items()}
    for name in NUMBERS:
        monkeypatch.setenv(name, "")
    assert read_numbers() == {name: default for name, (default, *_) in NUMBERS.items()}


def test_what_is_set_is_read(monkeypatch):
    for name, text in (("PNEUMO_WAITING", "5"), ("PNEUMO_PROXIES", "0")):
        monkeypatch.setenv(name, text)
    chosen = read_numbers()
    assert (chosen["PNEUMO_WAITING"], chosen["PNEUMO_PROXIES"]) == (5, 0)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("PNEUMO_PROXIES", "-1", "a whole number from 0 to 9"),
        ("PNEUMO_PROXIES", "many", "a whole number from 0 to 9"),
        ("PNEUMO_WAITING", "0", "a whole number from 1 on"),
        ("PORT", "70000", "a whole number from 1 to 65535"),
        ("PNEUMO_MAX_MB", "1.5", "a whole number from 1 on"),
        ("PNEUMO_MAX_MB", "nan", "a whole number from 1 on"),
    ],
)
def test_what_means_nothing_is_refused_by_name(monkeypatch, name, text, expected):
    monkeypatch.setenv(name, text)
    with pytest.raises(SettingError, match=rf"Expected {name} to be {expected}, received '{text}'\."):
        read_numbers()


GUNICORN = ("-m", "gunicorn")


@pytest.mark.parametrize(
    ("command", "settings", "words"),
    [
        (
            GUNICORN,
            {"PNEUMO_PROXIES": "abc"},
            "Expected PNEUMO_PROXIES to be a whole number from 0 to 9, received 'abc'.",
        ),
        (GUNICORN, {"PNEUMO_LOG": "xml"}, "Expected PNEUMO_LOG to be text or json, received 'xml'."),
        (
            ["app.py"],
            {"PNEUMO_OPERATING_POINT": "typo"},
            "Expected one of screening, balanced, specific, received 'typo'.",
        ),
        (GUNICORN, {"PNEUMO_PROFILE": "nowhere.json"}, "Expected a site profile at nowhere.json, found none."),
    ],
)
def test_a_server_that_nobody_could_use_does_not_start_and_says_why_in_one_sentence(command, settings, words):
    variables = environment(PORT=free_port(), **settings)
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
