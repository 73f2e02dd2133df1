"""Results -> the archive. Whatever it answers but that it has them now is a failure, and is tried again later.

A report is made as Comprehensive 3D SR. Its content is allowed in Comprehensive and Enhanced SR, too (PS3.3 A.35.2,
A.35.3), and many archives know only these: it is sent as the first class that the archive takes.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from ssl import SSLContext
from typing import Protocol

import pydicom
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE

from pneumo.errors import PneumoError
from pneumo.node.results import RESULTS

REPORTS = (Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage)  # in the order of preference
TAKEN = (0x0000, 0x0111, 0xB000, 0xB006, 0xB007)  # success, duplicate instance, warnings (PS3.7 C, PS3.4 B.2.3)
NOT_SUPPORTED = 0x0122  # SOP class not supported (PS3.7 C.5.6)
SECONDS = 30


class NotTakenError(PneumoError):
    """The archive has not taken a result; the message names no patient."""

    error = "not_taken"
    title = "The archive has not taken a result"


class Sender(Protocol):
    """Where results go."""

    def send(self, results: Mapping[str, bytes]) -> None:
        """Send the DICOM files of RESULTS and return when the archive has them.

        Raises:
            NotTakenError: it has not taken one of them.
        """


@dataclass(frozen=True)
class StoreSender:
    """Sends by C-STORE, from the AE `title` to `peer` on host and port; with TLS where it is given."""

    title: str
    peer: str
    host: str
    port: int
    tls: SSLContext | None = None

    def send(self, results: Mapping[str, bytes]) -> None:
        """Send results. Raises as `Sender.send`."""
        entity = AE(self.title)
        entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = SECONDS
        for kind in (*REPORTS, SecondaryCaptureImageStorage):
            entity.add_requested_context(kind, ExplicitVRLittleEndian)
        tls = (self.tls, self.host) if self.tls else None
        association = entity.associate(self.host, self.port, ae_title=self.peer, tls_args=tls)
        if not association.is_established:
            raise NotTakenError(f"{self.peer} at {self.host}:{self.port} is not there, or refuses {self.title}.")
        try:
            taken = {context.abstract_syntax for context in association.accepted_contexts}
            for name in RESULTS:
                dataset = _read(results[name])
                if name == "report":
                    _set_class(dataset, self._choose(taken))
                elif dataset.SOPClassUID not in taken:
                    raise NotTakenError(f"{self.peer} takes no secondary captures.")
                status = association.send_c_store(dataset).get("Status")
                if status not in TAKEN:
                    raise NotTakenError(f"{self.peer} answered {_name_status(status)} to the {name}.")
        finally:
            association.release()

    def _choose(self, taken: set[str]) -> str:
        """Choose the class of the report among those that the archive takes."""
        for kind in REPORTS:
            if kind in taken:
                return kind
        raise NotTakenError(f"{self.peer} takes no structured reports.")


@dataclass(frozen=True)
class WebSender:
    """Sends by STOW-RS to a DICOMweb service; user and password come from its URL or from ~/.netrc."""

    url: str

    def send(self, results: Mapping[str, bytes]) -> None:
        """Send results. Raises as `Sender.send`."""
        client = DICOMwebClient(self.url, timeout=SECONDS)
        client.set_http_retry_params(retry=False)  # the store tries again, and says so
        for name in RESULTS:
            dataset = _read(results[name])
            for kind in REPORTS if name == "report" else (dataset.SOPClassUID,):
                _set_class(dataset, kind)
                reason = _store(client, dataset)
                if reason != NOT_SUPPORTED:
                    break
            if reason not in TAKEN:
                raise NotTakenError(f"The DICOMweb service answered {_name_status(reason)} to the {name}.")


def _store(client: DICOMwebClient, dataset: Dataset) -> int:
    """Send one object; returns 0, or the FailureReason of the answer (PS3.18 10.5.3)."""
    try:
        answer = client.store_instances([dataset])
    except requests.HTTPError as error:
        if error.response.status_code != requests.codes.conflict:
            raise NotTakenError(f"The DICOMweb service answered {error.response.status_code}.") from None
        try:
            answer = Dataset.from_json(error.response.json())
        except ValueError:
            raise NotTakenError("The DICOMweb service refused a result without a reason.") from None
    except requests.RequestException as error:
        raise NotTakenError(f"The DICOMweb service is not there ({type(error).__name__}).") from None
    failed = answer.get("FailedSOPSequence")
    return int(failed[0].FailureReason) if failed else 0


def _read(data: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def _set_class(dataset: Dataset, kind: str) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = kind


def _name_status(status: int | None) -> str:
    return "nothing" if status is None else f"0x{status:04X}"
