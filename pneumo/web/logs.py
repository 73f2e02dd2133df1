"""One line a request, as text or (PNEUMO_LOG=json) as JSON; both say the same. No line names a sender or a path."""

import json
import logging
import os
from contextlib import suppress
from datetime import UTC, datetime

from werkzeug.serving import WSGIRequestHandler

from pneumo.errors import SettingError

log = logging.getLogger("pneumo")
GUNICORN_TEXT = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"


class JsonLines(logging.Formatter):
    """One JSON object a line: the record's `facts`, where it has some, or else its message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname, "logger": record.name}
        line |= getattr(record, "facts", None) or {"message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class NoSender(logging.Filter):
    """Cuts short the lines of gunicorn that have a sender's address or what was sent."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the message; every record is kept."""
        for words in ("Invalid request", "Error handling request"):
            if str(record.msg).startswith(words):
                record.msg, record.args = words, ()
        return True


class QuietHandler(WSGIRequestHandler):
    """Flask's own server without its lines about requests, which have addresses and paths."""

    def log(self, *_: object) -> None:
        """Write nothing."""

    def handle(self) -> None:
        """Hang up where the path is no URL; the server would write who sent it."""
        with suppress(ValueError):
            super().handle()


def make_formatter(style: str | None, text: str = "%(asctime)s %(levelname)s %(message)s") -> logging.Formatter:
    """Return what writes lines in the style that PNEUMO_LOG names, as JSON or like `text`.

    Raises:
        SettingError: it is neither text nor json.
    """
    if style in (None, "", "text"):
        return logging.Formatter(text)
    if style == "json":
        return JsonLines()
    raise SettingError(f"Expected PNEUMO_LOG to be text or json, received {style!r}.")


def configure(style: str | None) -> None:
    """Have the app write its lines to stderr in that style.

    Raises:
        SettingError: see `make_formatter`.
    """
    if not log.handlers:
        log.addHandler(logging.StreamHandler())
        log.setLevel(logging.INFO)
        log.propagate = False
    for handler in log.handlers:
        handler.setFormatter(make_formatter(style))


def configure_gunicorn() -> dict:
    """Return gunicorn's `logconfig_dict`: its messages in the style of PNEUMO_LOG, and nothing of who asked what.

    Raises:
        SettingError: see `make_formatter`.
    """
    style = os.environ.get("PNEUMO_LOG")
    make_formatter(style)
    return {
        "filters": {"no_sender": {"()": NoSender}},
        "formatters": {"lines": {"()": make_formatter, "style": style, "text": GUNICORN_TEXT}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "lines", "filters": ["no_sender"]}},
        "root": {"level": "WARNING", "handlers": []},
        "loggers": {"gunicorn.error": {"level": "INFO", "handlers": ["stderr"], "propagate": False}},
    }
