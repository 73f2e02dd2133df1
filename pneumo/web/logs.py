"""One line a request, for people or (PNEUMO_LOG=json) for programs; both say the same."""

import json
import logging
from datetime import UTC, datetime

from pneumo.errors import SettingError


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


def formatter(style: str | None) -> logging.Formatter:
    """Return what writes lines in the style that PNEUMO_LOG names.

    Raises:
        SettingError: it is neither text nor json.
    """
    if style in (None, "", "text"):
        return logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    if style == "json":
        return JsonLines()
    raise SettingError(f"Expected PNEUMO_LOG to be text or json, received {style!r}.")
