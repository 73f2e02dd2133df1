"""TLS of associations: what callers meet at the node, and what the node meets at the archive."""

import ssl
from pathlib import Path
from socket import socket

from pneumo.errors import SettingError


class _ServerContext(ssl.SSLContext):
    """Leaves the handshake to the first read, in a thread of the caller's own.

    pynetdicom would do it in the thread that listens, where one silent caller holds up all others.
    """

    def wrap_socket(self, sock: socket, **options: object) -> ssl.SSLSocket:
        """Wrap a caller's socket."""
        return super().wrap_socket(sock, do_handshake_on_connect=False, **options)


def make_server_tls(certificate: Path, trust: Path | None) -> ssl.SSLContext:
    """Make what callers meet; with `trust` they need a certificate of one of the authorities in that file.

    Raises:
        SettingError: a file holds something else.
    """
    context = _ServerContext(ssl.PROTOCOL_TLS_SERVER)
    _load_certificate(context, certificate)
    if trust:
        _load_authorities(context, trust)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def make_client_tls(certificate: Path | None, trust: Path | None) -> ssl.SSLContext:
    """Make what the archive meets: it needs a certificate of one of the authorities in `trust`, or of the system's.

    Raises:
        SettingError: a file holds something else.
    """
    context = ssl.create_default_context() if trust is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if trust:
        _load_authorities(context, trust)
    if certificate:
        _load_certificate(context, certificate)
    return context


def _load_certificate(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_cert_chain(path)
    except ssl.SSLError:
        raise SettingError(
            f"Expected a certificate and its key in one PEM file, received {path}. "
            "Make it with: cat CERTIFICATE KEY > FILE"
        ) from None


def _load_authorities(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise SettingError(f"Expected a PEM file with the certificates of authorities, received {path}.") from None
