"""Receive by C-ECHO and C-STORE. A film is acknowledged when it is on the disk, any other object at once.

Every storage class is accepted, since a sender of whole studies gives up at the first object that is not taken. Only
original CR and DX films are kept; the others are counted and forgotten, so that results which come back start nothing.
"""

import errno
import logging
import sqlite3
from collections.abc import Callable
from ssl import SSLContext

from pydicom import uid
from pynetdicom import AE, _config, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import Verification

from pneumo.errors import SettingError, UnreadableError
from pneumo.node.header import read_header
from pneumo.node.store import Store

log = logging.getLogger("pneumo.node")
FILMS = (
    uid.ComputedRadiographyImageStorage,
    uid.DigitalXRayImageStorageForPresentation,
    uid.DigitalXRayImageStorageForProcessing,
)
SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND, PROCESSING_FAILURE = 0x0000, 0xA700, 0xC000, 0x0110  # PS3.4 B.2.3
DUPLICATE, DERIVED, OTHER = "duplicate that waits", "derived picture", "no CR or DX film"
_FULL = (errno.ENOSPC, errno.EDQUOT)


def limit_silence(event: Event) -> None:
    """Let no read of a new connection wait longer than its network timeout.

    pynetdicom sets no limit within a message, and a thread that waits there keeps its place for ever.
    """
    event.assoc.dul.socket.socket.settimeout(event.assoc.network_timeout)


class Receiver:
    """Listens on a port and puts films into the store; `notify` is called after each of them.

    `callers` are the AE titles that may call; without any, everybody may. An association that says nothing for `idle`
    seconds is ended, also in the middle of a message, so that `most` of them at a time are enough.
    """

    def __init__(
        self,
        store: Store,
        notify: Callable[[], None],
        title: str = "PNEUMO",
        callers: tuple[str, ...] = (),
        idle: float = 60,
        most: int = 32,
    ) -> None:
        self._store, self._notify = store, notify
        _config.UNRESTRICTED_STORAGE_SERVICE = True  # every storage class there is, private ones included
        self._entity = AE(title)
        self._entity.require_called_aet = True
        self._entity.require_calling_aet = list(callers)
        self._entity.maximum_associations = most
        self._entity.maximum_pdu_size = 2**17
        self._entity.network_timeout = idle
        self._entity.acse_timeout = min(idle, 10)  # a connection that does not say who it is
        self._entity.add_supported_context(Verification)

    def start(self, host: str, port: int, tls: SSLContext | None = None) -> int:
        """Listen, with TLS where it is given; returns the port.

        Raises:
            SettingError: the port is not free, or the host is none of this machine.
        """
        handlers = [
            (evt.EVT_CONN_OPEN, limit_silence),
            (evt.EVT_C_ECHO, lambda event: SUCCESS),
            (evt.EVT_C_STORE, self.take),
        ]
        try:
            self._server = self._entity.start_server((host, port), block=False, ssl_context=tls, evt_handlers=handlers)
        except OSError as error:
            raise SettingError(
                f"Expected an address and port that are free, received {host}:{port}: {error.strerror}. "
                "Choose others with --host and --port."
            ) from None
        return self._server.server_address[1]

    def stop(self) -> None:
        """Listen no more, and end the associations there are; when this returns, none uses the store any more."""
        self._server.shutdown()
        associations = self._entity.active_associations
        self._entity.shutdown()
        for association in associations:
            if association.requestor.primitive:  # the others never said who they are, and hold no film
                association.join()

    def take(self, event: Event) -> int:
        """Take one object and return the status of the answer."""
        caller = event.assoc.requestor.ae_title
        try:
            return self._take(event, caller)
        except UnreadableError as error:
            log.warning("not kept, from %s: %s", caller, error)
            return CANNOT_UNDERSTAND
        except OSError as error:
            log.error("not kept, from %s: %s", caller, error.strerror)
            return OUT_OF_RESOURCES if error.errno in _FULL else PROCESSING_FAILURE
        except sqlite3.Error as error:
            log.error("not kept, from %s: %s", caller, error)
            return OUT_OF_RESOURCES if error.sqlite_errorcode == sqlite3.SQLITE_FULL else PROCESSING_FAILURE

    def _take(self, event: Event, caller: str) -> int:
        """Keep a film, or count why it is not kept. Raises as `read_header` and `Store.receive`."""
        told = str(event.request.AffectedSOPInstanceUID)
        if event.request.AffectedSOPClassUID not in FILMS:
            return self._drop(OTHER, caller, told)
        data = event.encoded_dataset()
        header = read_header(data)
        if "DERIVED" in header.get("ImageType", ()):
            return self._drop(DERIVED, caller, told)
        if not self._store.receive(data, header, caller):
            return self._drop(DUPLICATE, caller, told)
        self._notify()
        return SUCCESS

    def _drop(self, reason: str, caller: str, film: str) -> int:
        self._store.drop(reason, caller, film)
        return SUCCESS
