"""The numbers among the settings: what the environment says, or the default; for gunicorn and for the app."""

import math
import os
from pathlib import Path

from pneumo.errors import SettingError
from pneumo.web.admission import WAITING


def cores() -> int:
    """Return how many processors this process may use: its affinity, cut by the container's quota (cgroup v2)."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        count = os.process_cpu_count() or 1
    elif hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:  # macOS
        count = os.cpu_count() or 1
    limit = Path("/sys/fs/cgroup/cpu.max")  # "max 100000" or "150000 100000": microseconds in each period
    quota, period = limit.read_text().split() if limit.is_file() else ("max", "1")
    return count if quota == "max" else max(1, min(count, int(quota) // int(period)))


# name: default, whose type it has, least and greatest value
NUMBERS: dict[str, tuple[int | float, int, float]] = {
    "PORT": (5000, 1, 65535),
    "WEB_CONCURRENCY": (cores(), 1, math.inf),
    "PNEUMO_THREADS": (2, 1, math.inf),
    "PNEUMO_WAITING": (WAITING, 1, math.inf),
    "PNEUMO_MAX_MB": (32, 1, math.inf),
    "PNEUMO_UPLOAD_SECONDS": (60.0, 1, math.inf),
    "PNEUMO_UPLOAD_RATE": (4000.0, 0, math.inf),
    "PNEUMO_RATE": (0, 0, math.inf),
}


def numbers() -> dict[str, int | float]:
    """All of NUMBERS as the environment has them; one that is empty there is not set.

    Raises:
        SettingError: one is no number, too small or too large.
    """
    return {name: _number(name, *known) for name, known in NUMBERS.items()}


def _number(name: str, default: int | float, least: int, greatest: float) -> int | float:
    text = os.environ.get(name)
    if not text:
        return default
    kind = type(default)
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not (least <= value <= greatest and value < math.inf):
        expected = "a whole number" if kind is int else "a number"
        span = f"from {least} on" if greatest == math.inf else f"from {least} to {greatest}"
        raise SettingError(f"Expected {name} to be {expected} {span}, received {text!r}.")
    return value
