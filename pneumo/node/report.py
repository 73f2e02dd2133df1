"""An outcome -> a structured report: TID 1500, "Measurement Report" (PS3.16), unverified.

A finding is a code, whether it is present another, the probability a number: a program can read them. What a person
must know beside them, warnings and the reason why a film was not read, stands as text.
"""

from datetime import datetime

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from highdicom.sr.enum import RelationshipTypeValues
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from pneumo import __version__
from pneumo.node.outcome import ABSENT, INDETERMINATE, PRESENT, Outcome

PNEUMONIA = CodedConcept("233604007", "SCT", "Pneumonia")
CHEST_FILM = CodedConcept("399208008", "SCT", "Plain X-ray of chest")
FINDINGS = {
    PRESENT: CodedConcept("52101004", "SCT", "Present"),
    ABSENT: CodedConcept("2667000", "SCT", "Absent"),
    INDETERMINATE: CodedConcept("82334004", "SCT", "Indeterminate"),
}
NOT_READ = "Not read"
_ASCII = str.maketrans({"×": "x", "°": " degrees", "…": "...", "“": '"', "”": '"', "’": "'"})
_COMMENT = codes.DCM.Comment  # 121106


def make_report(outcome: Outcome, header: Dataset, uids: dict[str, str], made: datetime) -> Comprehensive3DSR:
    """Make the report about the film of `header`.

    `uids` has the UIDs `report_series`, `report`, `device` and `tracking`; `made` becomes its date and time.
    """
    report = Comprehensive3DSR(
        evidence=[header],
        content=_make_content(outcome, header, uids),
        series_instance_uid=uids["report_series"],
        series_number=9001,
        sop_instance_uid=uids["report"],
        instance_number=1,
        is_complete=True,
        manufacturer="pneumo",
        manufacturer_model_name=outcome.model["name"],
        software_versions=__version__,
        device_serial_number=outcome.model["sha256"],
        series_description=_describe(outcome),
        content_date=made.date(),
        content_time=made.time(),
    )
    return report


def _describe(outcome: Outcome) -> str:
    """Describe the series in the 64 characters that viewers show in their lists."""
    return f"pneumo: pneumonia {outcome.finding}" if outcome.was_read else "pneumo: film not read"


def _make_content(outcome: Outcome, header: Dataset, uids: dict[str, str]) -> MeasurementReport:
    """Make the tree of the report: who observed, what was observed, by which algorithm, in which film."""
    device = DeviceObserverIdentifyingAttributes(
        uid=uids["device"],
        name="pneumo",
        manufacturer_name="pneumo",
        model_name=outcome.model["name"],
        serial_number=outcome.model["sha256"],
    )
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uids["tracking"], "pneumonia"),
        finding_type=PNEUMONIA,
        algorithm_id=AlgorithmIdentification(
            outcome.model["name"], outcome.model["version"], list(list_parameters(outcome))
        ),
        measurements=_measure(outcome),
        qualitative_evaluations=[QualitativeEvaluation(PNEUMONIA, FINDINGS[outcome.finding])],
        source_images=[SourceImageForMeasurementGroup(header.SOPClassUID, header.SOPInstanceUID)],
    )
    for comment in list_comments(outcome):
        group[0].ContentSequence.append(TextContentItem(_COMMENT, comment, RelationshipTypeValues.CONTAINS))
    observer = ObserverContext(codes.DCM.Device, device)
    return MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=CHEST_FILM,
        imaging_measurements=[group],
        title=codes.DCM.ImagingMeasurementReport,
    )


def _measure(outcome: Outcome) -> list[Measurement] | None:
    """The probability of pneumonia as a number without a unit; None where the film was not read."""
    if not outcome.was_read:
        return None
    return [Measurement(codes.DCM.Probability, outcome.answer["probability"], codes.UCUM.NoUnits)]


def list_parameters(outcome: Outcome) -> list[str]:
    """List what the algorithm was, and what it was told: hash, profile, and for an answer its points and population."""
    told = [f"SHA-256 {outcome.model['sha256']}", f"pneumo {__version__}"]
    if profile := outcome.model.get("profile"):
        told.append(f"site profile {profile}")
    if outcome.was_read:
        answer = outcome.answer
        told += [
            f"operating point {answer['operating_point']}",
            f"threshold {answer['threshold']}",
            f"population {answer['population']['name']}, told by {answer['population']['by']}",
        ]
    return told


def list_comments(outcome: Outcome) -> list[str]:
    """List what a person must know: label and triage or the reason why there are none, warnings, and what this is."""
    if outcome.was_read:
        answer = outcome.answer
        first = f"{answer['label']} at the operating point {answer['operating_point']}; triage {answer['triage']}."
    else:
        first = f"{NOT_READ}: {outcome.reason}"
    warnings = [f"Warning: {warning}" for warning in outcome.answer.get("warnings", ())]
    last = "By a program, verified by nobody. Not a medical device; it replaces no reader."
    return [_to_ascii(comment) for comment in (first, *warnings, last)]


def _to_ascii(text: str) -> str:
    """Write a text in the characters that every character set has: results keep that of their film (PS3.5 6.1)."""
    return text.translate(_ASCII).encode("ascii", "replace").decode("ascii")
