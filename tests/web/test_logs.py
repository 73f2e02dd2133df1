"""The log in its two styles, with the same facts."""

import io
import json
import logging
import sys

import pytest

from app import create_app
from pneumo.errors import SettingError
from pneumo.web import logs
from pneumo.web.logs import log


@pytest.fixture
def written(monkeypatch, mean_grey):
    """Serve in a style; what is logged then is in the stream."""
    stream = io.StringIO()

    def serve(style):
        monkeypatch.setattr(log, "handlers", [logging.StreamHandler(stream)])
        return create_app({"PREDICTOR": mean_grey, "LOG": style, "TESTING": True}).test_client(), stream

    yield serve
    monkeypatch.undo()
    create_app({"PREDICTOR": mean_grey})  # the other tests' style


def test_json_has_the_facts_of_the_line(written):
    client, stream = written("json")
    client.post("/predict", data=b"Jane-Doe", content_type="image/jpeg", environ_base={"REMOTE_ADDR": "192.0.2.7"})
    (line,) = stream.getvalue().splitlines()
    facts = json.loads(line)
    assert list(facts) == [
        *("time", "level", "logger", "endpoint", "outcome", "status", "milliseconds", "model", "version", "request_id")
    ]
    assert (facts["endpoint"], facts["outcome"], facts["status"]) == ("predict", "unsupported_format", 415)
    assert (facts["model"], facts["version"], facts["level"]) == ("mean-grey", "1", "INFO")
    assert isinstance(facts["milliseconds"], int)
    assert facts["time"].endswith("+00:00")
    assert not any(word in line for word in ("Jane", "192.0.2.7"))
    text_client, _ = written("text")
    text_client.get("/nowhere")
    assert " INFO none not_found 404 " in stream.getvalue().splitlines()[1]


def test_json_of_a_line_without_facts_and_of_an_exception():
    record = logging.LogRecord("gunicorn.error", logging.WARNING, "", 0, "a %s", ("b\nc",), None)
    facts = json.loads(logs.JsonLines().format(record))
    assert (facts["message"], facts["level"], facts["logger"]) == ("a b\nc", "WARNING", "gunicorn.error")
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        record.exc_info = sys.exc_info()
    line = logs.JsonLines().format(record)
    assert "\n" not in line
    assert "ZeroDivisionError" in json.loads(line)["exception"]


def test_another_style_is_refused():
    with pytest.raises(SettingError, match=r"Expected PNEUMO_LOG to be text or json, received 'xml'\."):
        logs.make_formatter("xml")
    assert not isinstance(logs.make_formatter(None), logs.JsonLines)
