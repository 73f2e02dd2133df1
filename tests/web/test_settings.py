"""Settings: their numbers, what means nothing among them, and what a server says of that and of its senders."""

import socket
import subprocess
import sys

import pytest

from pneumo.errors import SettingError
from pneumo.web.settings import NUMBERS, numbers
from tests.support.server import ROOT, Server, environment, free_port, until


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in NUMBERS:
        monkeypatch.delenv(name, raising=False)


def test_what_is_not_set_or_empty_is_the_default(monkeypatch):
    assert numbers() == {name: default for name, (default, *_) in NUMBERS.items()}
    for name in NUMBERS:
        monkeypatch.setenv(name, "")
    assert numbers() == {name: default for name, (default, *_) in NUMBERS.items()}


def test_what_is_set_is_a_number_of_the_defaults_kind(monkeypatch):
    for name, text in (("PNEUMO_WAITING", "5"), ("PNEUMO_UPLOAD_RATE", "250.5"), ("PNEUMO_RATE", "0")):
        monkeypatch.setenv(name, text)
    chosen = numbers()
    assert (chosen["PNEUMO_WAITING"], chosen["PNEUMO_UPLOAD_RATE"], chosen["PNEUMO_RATE"]) == (5, 250.5, 0)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("PNEUMO_RATE", "-1", "a whole number from 0 on"),
        ("PNEUMO_RATE", "many", "a whole number from 0 on"),
        ("PNEUMO_WAITING", "0", "a whole number from 1 on"),
        ("PORT", "70000", "a whole number from 1 to 65535"),
        ("PNEUMO_MAX_MB", "1.5", "a whole number from 1 on"),
        ("PNEUMO_UPLOAD_SECONDS", "nan", "a number from 1 on"),
        ("PNEUMO_UPLOAD_RATE", "inf", "a number from 0 on"),
    ],
)
def test_what_means_nothing_is_refused_by_name(monkeypatch, name, text, expected):
    monkeypatch.setenv(name, text)
    with pytest.raises(SettingError, match=rf"Expected {name} to be {expected}, received '{text}'\."):
        numbers()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"PNEUMO_RATE": "abc"}, "Expected PNEUMO_RATE to be a whole number from 0 on, received 'abc'."),
        ({"PNEUMO_LOG": "xml"}, "Expected PNEUMO_LOG to be text or json, received 'xml'."),
        ({"PNEUMO_OPERATING_POINT": "typo"}, "Expected one of screening, balanced, specific, received 'typo'."),
        ({"PNEUMO_PROFILE": "nowhere.json"}, "Expected a site profile at nowhere.json, found none."),
    ],
)
@pytest.mark.parametrize("command", [["-m", "gunicorn"], ["app.py"]])
def test_a_server_that_nobody_could_use_does_not_start_and_says_why_in_one_sentence(command, settings, words):
    variables = environment(PORT=free_port(), **settings)
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_of_a_malformed_request_the_log_says_only_that_there_was_one(tmp_path):
    log = tmp_path / "log"
    with Server(log) as server:
        for sent in (b"GET /patients/Jane Doe HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nX-Jane Doe: 1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
                connection.sendall(sent)
                assert b" 400 " in connection.recv(4096)
        until(lambda: log.read_text().count("Invalid request") == 2, "two lines")
    text = log.read_text()
    assert "Jane" not in text
    assert "127.0.0.1" not in text
