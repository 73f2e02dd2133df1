"""Who may ask: not the pages of other sites, and with keys only those who have one. Knows no Flask."""

import hashlib
import hmac
import re
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path

from pneumo.errors import CrossSiteError, KeyRequiredError, SettingError

_ORIGIN = re.compile(r"https?://[a-z0-9.\-_]+(:\d{1,5})?|https?://\[[0-9a-f:]+\](:\d{1,5})?")
_HASH = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)


def read_origins(setting: str | None) -> frozenset[str]:
    """Return the origins in PNEUMO_ORIGINS, whose pages may ask as this server's own may; none where it is not set.

    Raises:
        SettingError: one is no origin, `*` and `null` included: any page could ask then.
    """
    origins = [word.lower().rstrip("/") for word in (setting or "").replace(",", " ").split()]
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise SettingError(
                f"Expected PNEUMO_ORIGINS to hold origins such as https://ward.example:8443, received {origin!r}."
            )
    return frozenset(origins)


def share(headers: Mapping[str, str], origins: frozenset[str]) -> dict[str, str]:
    """Return the headers by which a browser lets a page of one of the `origins` ask and read the answer (CORS)."""
    if not origins:
        return {}
    if (origin := headers.get("Origin", "")).lower() not in origins:
        return {"Vary": "Origin"}
    return {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Headers": "Authorization, Content-Type",
        "Access-Control-Expose-Headers": "Retry-After, X-Request-ID",
        "Access-Control-Max-Age": "600",
    }


def check_site(headers: Mapping[str, str], host: str, origins: frozenset[str] = frozenset()) -> None:
    """Refuse a request that a page of another site had a browser send, unless it is one of the `origins`.

    Programs send neither header and pass. Browsers name the site in Sec-Fetch-Site (Fetch Metadata), but over plain
    HTTP only to localhost. Elsewhere they send Origin, which must then name the `host` that was asked.

    Raises:
        CrossSiteError: the request comes from another site's page.
    """
    site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
    if origin is not None and origin.lower() in origins:
        return
    if site is not None:
        same = site in ("same-origin", "none")
    else:
        same = origin is None or origin.lower().partition("://")[1:] == ("://", host.lower())
    if not same:
        raise CrossSiteError("Expected a request of this server's own page or of a program, received another page's.")


def read_keys(setting: str | None) -> frozenset[bytes]:
    """Return the SHA-256 hashes (32 bytes each) in PNEUMO_KEYS, or in the file it names; empty where it is not set.

    A file has one hash in each line; what follows it, and lines that begin with #, are for people.

    Raises:
        SettingError: there is no such file, a line of it is no hash, or it holds none.
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


def check_key(keys: frozenset[bytes], authorization: str | None) -> None:
    """Check the request's API key against the hashes in `keys`; without any, every request passes.

    A program sends `Bearer KEY`; a browser asks its user and sends `Basic`, with the key as the password.

    Raises:
        KeyRequiredError: the request has no key, or another one.
    """
    if not keys:
        return
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
