"""Reports and captures: what stands in them, and that they are the same every time."""

import io
from dataclasses import replace
from datetime import datetime

import numpy as np
import pydicom
import pytest
from highdicom.sr import Comprehensive3DSR

from pneumo.errors import OtherFilmError
from pneumo.model.heatmap import BLENDED_SIDE
from pneumo.node.capture import draw
from pneumo.node.header import read_header
from pneumo.node.outcome import Outcome, make_outcome, make_refusal
from pneumo.node.results import make_results, make_uids
from tests.support.hospital import film

MADE = datetime(2026, 11, 28, 3, 4, 5)
FILM = film(7)
HEADER = read_header(FILM)


@pytest.fixture
def prediction(mean_grey):
    return mean_grey.predict(FILM)


def results(outcome, prediction=None):
    return {name: pydicom.dcmread(io.BytesIO(data)) for name, data in
            make_results(outcome, prediction, HEADER, MADE).items()}  # fmt: skip


def contents(dataset):
    """What a report says: name -> values, in the order of the tree; a code as value, scheme and meaning."""
    found = {}

    def walk(items):
        for item in items:
            name = item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else item.ValueType
            match item.ValueType:
                case "TEXT":
                    value = item.TextValue
                case "CODE":
                    code = item.ConceptCodeSequence[0]
                    value = (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning)
                case "NUM":
                    value = float(item.MeasuredValueSequence[0].NumericValue)
                case "IMAGE":
                    value = item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
                case _:
                    value = None
            found.setdefault(name, []).append(value)
            walk(item.get("ContentSequence", ()))

    walk(dataset.ContentSequence)
    return found


def test_a_report_by_hand(mean_grey, prediction):
    report = results(make_outcome(prediction), prediction)["report"]
    told = contents(report)
    assert told["Probability"] == [pytest.approx(prediction.probability, abs=1e-9)]
    assert told["Finding"] == [("233604007", "SCT", "Pneumonia")]
    assert told["Pneumonia"] == [("82334004", "SCT", "Indeterminate")]  # grey 0.25 to 0.75: uncertain
    assert (told["Algorithm Name"], told["Algorithm Version"]) == (["mean-grey"], ["1"])
    assert told["Algorithm Parameters"][0] == "SHA-256 " + "0" * 64
    assert told["Algorithm Parameters"][2:] == [
        "operating point balanced",
        "threshold 0.5",
        "population child, told by model",
    ]
    assert told["Source of Measurement"] == ["1.2.3.4.7.3"]
    label = "PNEUMONIA" if prediction.probability >= 0.5 else "NORMAL"
    assert told["Comment"][0] == f"{label} at the operating point balanced; triage uncertain."
    assert (report.VerificationFlag, report.CompletionFlag) == ("UNVERIFIED", "COMPLETE")
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert Comprehensive3DSR.from_dataset(report).content[0].name.meaning == "Imaging Measurement Report"


@pytest.mark.parametrize(
    ("triage", "finding"), [("rule-out", "Absent"), ("uncertain", "Indeterminate"), ("rule-in", "Present")]
)
def test_the_triage_says_whether_pneumonia_is_present(prediction, triage, finding):
    outcome = make_outcome(replace(prediction, triage=triage))
    assert contents(results(outcome, prediction)["report"])["Pneumonia"][0][2] == finding


def test_results_belong_to_the_film_s_patient_and_study(prediction):
    for name, made in results(make_outcome(prediction), prediction).items():
        assert (made.PatientID, made.PatientName, made.PatientAge) == ("P7", "Müller^Jörg", "003Y"), name
        assert (made.StudyInstanceUID, made.AccessionNumber) == ("1.2.3.4.7.1", "A7"), name
        assert made.SeriesInstanceUID != "1.2.3.4.7.2", name
        assert (made.ContentDate, made.ContentTime) == ("20261128", "030405"), name


def test_warnings_are_in_the_report_in_ascii(prediction):
    warning = "The picture is small (100 × 90 pixels). Turn it by 180°."
    outcome = make_outcome(replace(prediction, warnings=[warning]))
    comments = contents(results(outcome, prediction)["report"])["Comment"]
    assert comments[1] == "Warning: The picture is small (100 x 90 pixels). Turn it by 180 degrees."


@pytest.mark.parametrize("why", ["refused", "unfamiliar"])
def test_a_film_that_was_not_read_gets_the_reason_and_no_number(mean_grey, prediction, why):
    refused = make_refusal(OtherFilmError("Expected a chest, received HAND."), mean_grey.card)
    outcome = refused if why == "refused" else make_outcome(replace(prediction, triage="unfamiliar"))
    told = contents(results(outcome, None if why == "refused" else prediction)["report"])
    reasons = {
        "refused": "Not read: This is not a frontal chest film. Expected a chest, received HAND.",
        "unfamiliar": "Not read: The film is unlike those that the model learned from: nothing is ruled in or out.",
    }
    assert told["Comment"][0] == reasons[why]
    assert "Probability" not in told
    assert told["Pneumonia"] == [("82334004", "SCT", "Indeterminate")]


def test_the_same_film_gives_the_same_bytes(prediction):
    first, second = (make_results(make_outcome(prediction), prediction, HEADER, MADE) for _ in range(2))
    assert first == second


def test_uids_depend_on_film_model_and_profile():
    model = {"name": "a", "version": "1", "sha256": "0" * 64}
    uids = [
        make_uids("1.2", model),
        make_uids("1.3", model),
        make_uids("1.2", model | {"sha256": "1" * 64}),
        make_uids("1.2", model | {"profile": "site"}),
    ]
    assert make_uids("1.2", model | {"version": "2"}) == uids[0]
    for name in ("report", "report_series", "capture", "capture_series"):
        assert len({one[name] for one in uids}) == 4
    assert len(set(uids[0].values())) == len(uids[0])
    assert all(value.startswith("2.25.") and len(value) <= 64 for one in uids for value in one.values())


def test_the_capture_shows_the_film_and_the_text_below(prediction):
    outcome = make_outcome(prediction)
    capture = results(outcome, prediction)["capture"]
    pixels = capture.pixel_array
    assert pixels.shape[1] == capture.Columns == BLENDED_SIDE
    height, width = prediction.film.pixels.shape
    film_height = round(BLENDED_SIDE * height / width)
    assert pixels[: film_height - 5].mean() > 50
    text = pixels[film_height + 2 :]
    assert text.max() == 255
    assert np.array_equal(text[..., 0], text[..., 1])  # white on black
    assert (capture.Modality, capture.BurnedInAnnotation, capture.ImageLaterality) == ("OT", "NO", "U")
    assert list(capture.PatientOrientation) == ["L", "F"]


def test_a_refused_film_is_not_shown(mean_grey):
    refused = make_refusal(OtherFilmError("Expected a chest, received HAND."), mean_grey.card)
    picture = np.asarray(draw(refused, None))
    assert picture.shape[1] == BLENDED_SIDE
    assert picture.shape[0] < 200
    assert (picture == 0).mean() > 0.7


def test_an_outcome_survives_the_store(prediction):
    outcome = make_outcome(prediction)
    assert Outcome.from_json(outcome.to_json()) == outcome
