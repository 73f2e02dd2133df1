"""A DICOM file that is no frontal film of a chest is refused by name; what is doubtful or not understood is said."""

import numpy as np
import pytest
from pydicom import uid

from pneumo.errors import FormatError, OtherFilmError, TooLargeError, UnreadableError
from tests.support.dicom import RAMP, SHIPPED, coded, dicom, look, quiet


@quiet
@pytest.mark.parametrize(
    ("elements", "error", "words"),
    [
        ({"Modality": "CT"}, OtherFilmError, "Modality CR or DX.*received CT"),
        ({"Modality": "MG"}, OtherFilmError, "received MG"),
        ({"NumberOfFrames": 2}, UnreadableError, "received 2 frames"),
        ({"NumberOfFrames": 7}, UnreadableError, "one picture in the file, received 7"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, UnreadableError, "received PALETTE COLOR"),
        ({"ViewPosition": "LL"}, OtherFilmError, "frontal film.*received LL"),
        ({"ViewPosition": "LATERAL"}, OtherFilmError, "received LATERAL"),
        ({"ViewPosition": "RLD"}, OtherFilmError, "received RLD"),
        ({"BodyPartExamined": "HAND"}, OtherFilmError, "of the chest.*received HAND"),
        ({"BodyPartExamined": "LSPINE"}, OtherFilmError, "received LSPINE"),
        ({"BodyPartExamined": "Abdomen"}, OtherFilmError, "received ABDOMEN"),
        ({"BodyPartExamined": "KNEE"}, OtherFilmError, "received KNEE"),
        ({"BodyPartExamined": "HAND_LEFT"}, OtherFilmError, "received HAND_LEFT"),
        ({"BodyPartExamined": "C-SPINE"}, OtherFilmError, "received C-SPINE"),
        ({"Rows": 8000, "Columns": 4001}, TooLargeError, "at most 32 megapixels, received 4001 × 8000"),
        ({"Rows": 65535, "Columns": 65535}, TooLargeError, "at most 32 megapixels"),
        ({"Rows": 31}, UnreadableError, "at least 32 × 32 pixels"),
    ],
)
def test_what_is_no_chest_film_is_refused_by_name(elements, error, words):
    with pytest.raises(error, match=words):
        look(dicom(np.zeros((32, 32), np.uint8), **elements))


@pytest.mark.parametrize(
    ("view", "part", "axes"),
    [
        (coded("272479007", "postero-anterior"), coded("816094009", "Chest"), ["L", "F"]),
        (coded("399348003", "von vorn"), coded("816094009", "Brustkorb"), ["R", "F"]),
        (coded("R-10206", "de face", "SRT"), coded("T-D3000", "Poitrine", "SRT"), ["LF", "FR"]),
        (coded("R-10214", "de face", "SNM3"), coded("51185008", "Poitrine"), None),
        (coded("R-10202", "", "99SDM"), coded("T-28000", "Lung", "SRT"), None),
        (coded("", "postero-anterior"), coded("", "Thorax"), None),
        (coded("7", "PA", "99ME"), coded("8", "Rx torax", "99ME"), None),
        (coded("", ""), coded("", ""), ""),
    ],
)
def test_a_frontal_chest_film_told_in_codes_has_no_warning(view, part, axes):
    told = {"ViewCodeSequence": view, "AnatomicRegionSequence": part, "PatientOrientation": axes}
    assert look(dicom(RAMP, **told)).warnings == ()
    assert look(dicom(RAMP, **told, ViewPosition="PA", BodyPartExamined="CHEST")).warnings == ()


@pytest.mark.parametrize(
    "elements",
    [
        {"ViewCodeSequence": coded("", "lateral")},
        {"ViewCodeSequence": coded("", "Left Lateral")},
        {"ViewCodeSequence": coded("", "Right oblique")},
        {"ViewCodeSequence": coded("399173006", "seitlich")},
        {"ViewCodeSequence": coded("R-10236", "Profil gauche", "SRT")},
        {"ViewCodeSequence": coded("R-102CD", "", "SNM3")},
        {"ViewCodeSequence": coded("399135007", "LAO")},
        {"ViewCodeSequence": coded("R-10206", "left lateral", "SRT")},  # contradicts itself
        {"PatientOrientation": ["A", "F"]},
        {"PatientOrientation": ["PR", "F"]},
    ],
)
def test_a_lateral_or_oblique_view_may_be_told_without_view_position(elements):
    with pytest.raises(OtherFilmError, match=r"frontal film.*received another view"):
        look(dicom(RAMP, **elements))
    (warning,) = look(dicom(RAMP, **elements, ViewPosition="PA")).warnings  # contradicts itself
    assert "is it a frontal film" in warning


@pytest.mark.parametrize(
    ("region", "word"),
    [
        (coded("85562004", "Hand"), "HAND"),
        (coded("T-D8700", "Main", "SRT"), "HAND"),
        (coded("818981001", "Bauch"), "ABDOMEN"),
        (coded("T-D4000", "Abdomen", "SRT"), "ABDOMEN"),
    ],
)
def test_another_part_of_the_body_may_be_told_in_its_code(region, word):
    for elements in ({}, {"BodyPartExamined": "CHEST"}):
        with pytest.raises(OtherFilmError, match=f"film of the chest.*received {word}"):
            look(dicom(RAMP, AnatomicRegionSequence=region, **elements))


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"Modality": None}, ["does not say that it is an X-ray"]),
        ({"Modality": "OT"}, ["does not say that it is an X-ray"]),
        ({"Modality": "DX", "BodyPartExamined": "CHEST", "ViewPosition": "AP", "PatientAge": "004Y"}, []),
        ({"PatientAge": "018M"}, []),
        ({"PatientAge": "005Y"}, []),
        ({"PatientAge": "018Y"}, []),  # whom the model has seen, the model says: tests/model/test_population.py
        ({"PatientAge": "4y"}, []),
        ({"PatientAge": "065"}, ["no unit (PatientAge): 65 is taken for years"]),
        ({"PatientAge": "42"}, ["42 is taken for years"]),
        ({"PatientAge": "003"}, ["3 is taken for years"]),
        ({"PatientAge": "old"}, ["age is not understood (PatientAge)"]),
        ({"PatientAge": "4.5Y"}, ["age is not understood (PatientAge)"]),
        ({"PatientAge": "999Y"}, ["age is not understood (PatientAge)"]),
        ({"PatientOrientation": "AP"}, ["PatientOrientation"]),  # no two directions
        ({"PatientOrientation": ["links", "unten"]}, ["PatientOrientation"]),
        ({"PresentationIntentType": "PRINT"}, ["PresentationIntentType"]),
        ({"NumberOfFrames": 0}, ["0 pictures (NumberOfFrames)"]),
        ({"BodyPartExamined": "UNKNOWN"}, ["body part UNKNOWN is not known here (BodyPartExamined)"]),
        ({"BodyPartExamined": "CHEST/SPINE"}, ["body part is CHEST/SPINE: the model has only seen chests"]),
        ({"BodyPartExamined": "BRUSTKORB"}, ["body part BRUSTKORB is not known here"]),
        ({"BodyPartExamined": "Brustkörbe"}, ["body part something else is not known"]),
        ({"PresentationIntentType": "FOR PROCESSING"}, ["is raw"]),
        ({"SOPClassUID": uid.DigitalXRayImageStorageForProcessing}, ["is raw"]),
        ({"SOPClassUID": uid.DigitalXRayImageStorageForPresentation}, []),
        ({"PresentationIntentType": "FOR PRESENTATION"}, []),
        ({"ViewPosition": "STANDING"}, ["view STANDING is not known"]),
        ({"ViewCodeSequence": coded("399061009", "axial")}, ["view is not known"]),
        ({"ViewCodeSequence": coded("R-10256", "Scheitel", "SRT")}, ["view is not known"]),
        ({"ViewCodeSequence": coded("47", "Doe^Jane", "99ME")}, ["The view is not known here: is it a frontal film?"]),
        ({"ViewCodeSequence": coded("47", "Thorax stehend", "99ME"), "ViewPosition": "AP"}, []),
        ({"AnatomicRegionSequence": coded("47", "Doe^Jane", "99ME")}, ["The body part is not known here: is it"]),
        ({"AnatomicRegionSequence": coded("47", "Brustkorb", "99ME"), "BodyPartExamined": "CHEST"}, []),
        ({"AnatomicRegionSequence": coded("416550000", "Babygramm")}, ["body part is CHEST AND ABDOMEN"]),
        ({"BodyPartExamined": "CHESTABDOMEN"}, ["body part is CHESTABDOMEN"]),
        ({"BodyPartExamined": "Thorax"}, []),
    ],
)
@quiet
def test_what_is_doubtful_is_said(elements, words):
    warnings = look(dicom(RAMP, **elements)).warnings
    assert len(warnings) == len(words)
    assert all(expected in said for expected, said in zip(words, warnings, strict=True))


@pytest.mark.parametrize(
    ("file", "error", "words"),
    [
        ("CT_small.dcm", OtherFilmError, "received CT"),
        ("examples_ybr_color.dcm", OtherFilmError, "received US"),
        ("image_dfl.dcm", FormatError, "received Deflated Explicit VR Little Endian"),
        ("reportsi.dcm", FormatError, "without a picture: Basic Text SR Storage"),
        ("rtplan.dcm", FormatError, "without a picture: RT Plan Storage"),
        ("waveform_ecg.dcm", FormatError, "without a picture: 12-lead ECG"),
        ("SC_rgb_rle_2frame.dcm", UnreadableError, "received 2 frames"),
        ("SC_rgb_jpeg_gdcm.dcm", UnreadableError, "received one in colours .RGB"),
    ],
)
def test_files_of_others_are_refused_by_name(file, error, words):
    with pytest.raises(error, match=words):
        look((SHIPPED / file).read_bytes())


def test_a_document_is_refused_by_name():
    with pytest.raises(FormatError, match="without a picture: Encapsulated PDF Storage"):
        look(dicom(RAMP, SOPClassUID=uid.EncapsulatedPDFStorage, PixelData=None, Rows=None))


@quiet
@pytest.mark.parametrize(
    ("elements", "word"),
    [({"BodyPartExamined": "HAND"}, "HAND"), ({"ViewPosition": "LL"}, "LL"), ({"Modality": "CT"}, "CT")],
)
def test_force_leads_round_what_the_header_refuses(elements, word):
    film = look(dicom(RAMP, **elements), force=True)
    np.testing.assert_array_equal(film.pixels, RAMP)
    assert film.refused
    assert film.warnings[0].startswith("Read because it was asked for. Expected")
    assert film.warnings[0].endswith(f"received {word}.")
    assert not look(dicom(RAMP)).refused


@quiet
def test_the_age_is_the_films():
    ages = {"065Y": 65, "65Y": 65, "42": 42, "018M": 1.5, "730D": 730 / 365.25, "003W": 21 / 365.25}
    ages |= {"0042Y": 42, "65 Y": 65, "65YR": 65, "6 MO": 0.5, "000Y": 0, "125Y": 125}
    for told, years in ages.items():
        assert look(dicom(RAMP, PatientAge=told)).age == pytest.approx(years)
    assert look(dicom(RAMP)).age is look(dicom(RAMP, PatientAge="old")).age is None
