"""The result files of a film: a structured report and a secondary capture, each in a series of its own.

Their UIDs depend on the film, the model and the site's profile, and on nothing else: whoever sends a film again, or is
killed in between, gets the same objects, and the archive keeps one of each.
"""

import io
import uuid
from datetime import datetime

from pydicom import config
from pydicom.dataset import Dataset

from pneumo.model.predictor import Prediction
from pneumo.node.capture import make_capture
from pneumo.node.outcome import Outcome
from pneumo.node.report import make_report

_NAMESPACE = uuid.UUID("6f0c6c0e-6d1c-5d54-9a6b-0f6b0a3f2b51")  # of this program's UIDs; drawn once
RESULTS = ("report", "capture")


def make_uid(*parts: str) -> str:
    """Make a UID from texts, the same from the same (PS3.5 B.2: 2.25 and a UUID)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(0).join(parts)).int}"


def make_uids(film: str, model: dict[str, str]) -> dict[str, str]:
    """Make the UIDs of a film's results, by what each is for; `film` is its SOP Instance UID, `model` `Card.model`."""
    origin = film, model["sha256"], model.get("profile", "")
    names = ("report_series", "report", "capture_series", "capture", "tracking")
    uids = {name: make_uid(name, *origin) for name in names}
    return uids | {"device": make_uid("device", model["sha256"])}


def make_results(outcome: Outcome, prediction: Prediction | None, header: Dataset, made: datetime) -> dict[str, bytes]:
    """Make the bytes of the DICOM files of RESULTS; with the same `made` they are the same every time.

    `prediction` is None where the film was refused; `made` is the date and time that they carry.
    """
    uids = make_uids(header.SOPInstanceUID, outcome.model)
    with config.disable_value_validation():  # what the header says stays as it is
        report = make_report(outcome, header, uids, made)
        capture = make_capture(outcome, prediction, header, uids, made)
        return {name: _to_bytes(made_of, made) for name, made_of in zip(RESULTS, (report, capture), strict=True)}


def _to_bytes(dataset: Dataset, made: datetime) -> bytes:
    """Write a DICOM file in which every time that highdicom takes from the clock is `made`."""
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = made.strftime("%Y%m%d"), made.strftime("%H%M%S")
    for equipment in dataset.ContributingEquipmentSequence:
        equipment.ContributionDateTime = made.strftime("%Y%m%d%H%M%S")
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
