"""What the environment says: the numbers and words among the settings, or their defaults; for gunicorn and the app."""

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


# whole numbers; name: default, least and greatest value
NUMBERS: dict[str, tuple[int, int, float]] = {
    "PORT": (5000, 1, 65535),
    "WEB_CONCURRENCY": (cores(), 1, math.inf),
    "PNEUMO_THREADS": (2, 1, math.inf),
    "PNEUMO_WAITING": (WAITING, 1, math.inf),
    "PNEUMO_MAX_MB": (32, 1, math.inf),
    "PNEUMO_PROXIES": (0, 0, 9),
}


def read_numbers() -> dict[str, int]:
    """Return all of NUMBERS as the environment has them; one that is empty there is not set.

    Raises:
        SettingError: one is no whole number, too small or too large.
    """
    return {name: _read_number(name, *known) for name, known in NUMBERS.items()}


def read_host() -> str:
    """Return the address to listen on: PNEUMO_HOST, or all IPv4 addresses; "::" is all addresses of both kinds."""
    return os.environ.get("PNEUMO_HOST") or "0.0.0.0"


def read_flask_settings() -> dict[str, object]:
    """Return what `create_app` is configured with, unless its caller says otherwise.

    Raises:
        SettingError: see `read_numbers`.
    """
    numbers = read_numbers()
    return {
        "MAX_CONTENT_LENGTH": numbers["PNEUMO_MAX_MB"] * 2**20,
        "MAX_FORM_PARTS": 64,
        "SEND_FILE_MAX_AGE_DEFAULT": 3600,
        "THREADS": numbers["PNEUMO_THREADS"],
        "WAITING": numbers["PNEUMO_WAITING"],
        "PROXIES": numbers["PNEUMO_PROXIES"],
        "NODE_STATE": os.environ.get("PNEUMO_NODE_STATE"),
        "KEYS": os.environ.get("PNEUMO_KEYS"),
        "ORIGINS": os.environ.get("PNEUMO_ORIGINS"),
        "LOG": os.environ.get("PNEUMO_LOG"),
    }


def _read_number(name: str, default: int, least: int, greatest: float) -> int:
    text = os.environ.get(name)
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not least <= value <= greatest:
        span = f"from {least} on" if greatest == math.inf else f"from {least} to {greatest}"
        raise SettingError(f"Expected {name} to be a whole number {span}, received {text!r}.")
    return value
