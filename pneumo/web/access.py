"""Who may ask, and how often: pages of other sites, API keys, a rate for each client. Knows no Flask."""

import hashlib
import hmac
import ipaddress
import math
import re
import threading
import time
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

from pneumo.errors import CrossSiteError, KeyRequiredError, RateError, SettingError

CLIENTS = 10_000  # that are remembered: about 2 MB
_HASH = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)


def check_site(headers: Mapping[str, str], host: str) -> None:
    """Refuse what a page of another site has a browser send; programs, which send neither header, pass.

    Browsers say where a request comes from (Fetch Metadata, Sec-Fetch-Site), but over plain HTTP to localhost only;
    elsewhere there is Origin, which must then name the host that was asked.

    Raises:
        CrossSiteError: it comes from another site.
    """
    site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
    if site is not None:
        same = site in ("same-origin", "none")
    else:
        same = origin is None or origin.lower().partition("://")[1:] == ("://", host.lower())
    if not same:
        raise CrossSiteError("Expected a request of this server's own page or of a program, received another page's.")


def read_keys(setting: str | None) -> frozenset[bytes]:
    """SHA-256 hashes of keys, as PNEUMO_KEYS has them or the file that it names; without it none, which asks for none.

    A file has one in each line (what follows it, and lines that begin with #, are for people).

    Raises:
        SettingError: there is no such file, a line of it is no hash, or there is none.
    """
    if not setting:
        return frozenset()
    words = setting.replace(",", " ").split()
    if not all(_HASH.fullmatch(word) for word in words):
        try:
            lines = Path(setting).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            raise SettingError("Expected PNEUMO_KEYS to be SHA-256 hashes or their file, received neither.") from None
        words = [line.split()[0] for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not words or not all(_HASH.fullmatch(word) for word in words):
        raise SettingError("Expected PNEUMO_KEYS to hold SHA-256 hashes of 64 hexadecimal digits, received others.")
    return frozenset(bytes.fromhex(word) for word in words)


def check_key(keys: frozenset[bytes], authorization: str | None) -> str | None:
    """Refuse who has none of the keys; returns which one it was, as a name for `Rate`.

    A program sends `Bearer KEY`; a browser asks its user and sends `Basic`, with the key as the password.

    Raises:
        KeyRequiredError: there is no key, or another one.
    """
    if not keys:
        return None
    scheme, _, value = (authorization or "").partition(" ")
    key = value.strip()
    if scheme.lower() == "basic":
        try:
            key = b64decode(key, validate=True).decode().partition(":")[2]
        except ValueError:
            key = ""
    elif scheme.lower() != "bearer":
        key = ""
    received = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
    # All are compared, and each in constant time: how long it takes tells nothing.
    matches = [hmac.compare_digest(received, known) for known in keys]
    if not any(matches):
        raise KeyRequiredError("Expected a key of this server, received " + ("another." if key else "none."))
    return received.hex()


def client(address: str | None) -> str:
    """Name who asks from an address; an IPv6 network counts as one, since whoever has it has all its addresses."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    return str(parsed if parsed.version == 4 else ipaddress.ip_network((parsed, 64), strict=False))


class Rate:
    """At most `per_minute` requests a minute of each client, which may come at once; 0 is no limit.

    A bucket of that many tokens for each client fills steadily; a request takes one. Those that did not ask for longest
    are forgotten first. Nothing is shared between workers: with N of them a client gets up to N times as much.
    """

    def __init__(self, per_minute: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> (tokens, at)
        self._lock = threading.Lock()

    def take(self, name: str) -> None:
        """Count one request.

        Raises:
            RateError: it is one too many; it says when the next one may come.
        """
        if not self._per_minute:
            return
        with self._lock:
            now = self._clock()
            tokens, at = self._buckets.pop(name, (float(self._per_minute), now))
            tokens = min(self._per_minute, tokens + (now - at) * self._per_minute / 60)
            refused = tokens < 1
            self._buckets[name] = (tokens if refused else tokens - 1, now)
            if len(self._buckets) > CLIENTS:
                self._buckets.popitem(last=False)
        if refused:
            seconds = math.ceil((1 - tokens) * 60 / self._per_minute)
            raise RateError(
                f"Expected at most {self._per_minute} requests a minute, received more: try again in {seconds} s.",
                seconds,
            )
