"""An outcome -> a secondary capture: the film under its heat map with the figures burnt in, for viewers without SR.

A film that was not read gives a picture of the reason alone.
"""

import textwrap
from datetime import datetime

import numpy as np
from highdicom.sc import SCImage
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from pneumo import __version__
from pneumo.model.heatmap import BLENDED_SIDE, blend
from pneumo.model.predictor import Prediction
from pneumo.node.outcome import Outcome
from pneumo.node.report import list_comments, list_parameters

_SIZE, _LINE, _MARGIN = 15, 20, 12  # pixels
_CHARACTERS = 78  # of _SIZE in BLENDED_SIDE pixels
_UPRIGHT = ("L", "F")  # of a frontal film whose header does not say it; the gate refuses turned ones


def make_capture(
    outcome: Outcome, prediction: Prediction | None, header: Dataset, uids: dict[str, str], made: datetime
) -> SCImage:
    """Make the picture for the film of `header`; `prediction` is None where the film was refused.

    `uids` has the UIDs `capture_series` and `capture`; `made` becomes its date and time.
    """
    capture = SCImage.from_ref_dataset(
        header,
        pixel_array=np.asarray(draw(outcome, prediction)),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=tuple(header.get("PatientOrientation") or _UPRIGHT),
        series_instance_uid=uids["capture_series"],
        series_number=9002,
        sop_instance_uid=uids["capture"],
        instance_number=1,
        manufacturer="pneumo",
        manufacturer_model_name=outcome.model["name"],
        software_versions=__version__,
        series_description="pneumo: heat map and figures" if outcome.was_read else "pneumo: film not read",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_date=made.date(),
        content_time=made.time(),
    )
    capture.copy_patient_and_study_information(header)
    if laterality := header.get("Laterality"):
        capture.Laterality = laterality  # of a paired part of the body (PS3.3 C.7.3.1)
    else:
        capture.ImageLaterality = "U"  # unpaired, as a chest is (PS3.3 C.7.6.1)
    capture.BurnedInAnnotation = "NO"  # figures, and nothing that names the patient
    capture.DateOfSecondaryCapture, capture.TimeOfSecondaryCapture = capture.ContentDate, capture.ContentTime
    return capture


def draw(outcome: Outcome, prediction: Prediction | None) -> Image.Image:
    """Draw the film under its heat map, and the text below; BLENDED_SIDE pixels wide."""
    lines = _write_text(outcome)
    text_height = _LINE * len(lines) + 2 * _MARGIN
    film = None
    if prediction is not None and outcome.was_read:
        film = blend(prediction.film.pixels, prediction.overlay())
    top = film.height if film else 0
    picture = Image.new("RGB", (BLENDED_SIDE, top + text_height))
    if film:
        picture.paste(film, ((BLENDED_SIDE - film.width) // 2, 0))
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(_SIZE)
    for number, line in enumerate(lines):
        pen.text((_MARGIN, top + _MARGIN + number * _LINE), line, "white", font)
    return picture


def _write_text(outcome: Outcome) -> list[str]:
    """Write the lines below the film."""
    told = []
    if outcome.was_read:
        probability = outcome.answer["probability"]
        number = "above 0.99" if probability > 0.99 else "below 0.01" if probability < 0.01 else f"{probability:.2f}"
        told.append(f"Probability of pneumonia {number}: pneumonia {outcome.finding}.")
    told += list_comments(outcome)
    if outcome.was_read:
        told.append("Colours: regions that raised the probability, not the place of a pneumonia.")
    told.append(f"Model {outcome.model['name']} {outcome.model['version']}, " + ", ".join(list_parameters(outcome)))
    return [line for paragraph in told for line in textwrap.wrap(paragraph, _CHARACTERS)]
