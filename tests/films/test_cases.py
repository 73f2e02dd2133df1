"""Films of real systems that were read wrongly: each is read as its plain PNG, in doubt, or refused for the reason."""

from pathlib import Path

import pytest

from pneumo.errors import PneumoError

CASES = Path(__file__).with_name("cases")

MARKED = "D45_nowin_marker4095_10bit_N.dcm"
BLACK_UNSAID = "does not say which value is black"
HARDLY = "hardly looks like a frontal chest film"
# file, the plain PNG of the film, and what the one warning says; "" where nothing needs to be said
AS_PLAIN = [
    ("D43_lut16_data14_N.dcm", "REF_N.png", "says 16 bits and uses 14"),  # VOI LUT of Agfa CR
    ("D44b_win16_on14bit_N.dcm", "REF_N.png", "fills 25% of the range"),  # window four times as wide as the values
    ("P03c_png16_14bit_hot1_N.png", "REF_N.png", BLACK_UNSAID),  # one pixel at 65535
    ("P03f_png16_max8300.png", "REF_P.png", BLACK_UNSAID),  # the maximum is no power of two
    ("D33b_adult0.dcm", "REF_P.png", "adult"),  # PatientAge 65Y
    ("D19c_ov_bit12_j2k.dcm", "REF_P.png", "Bits above BitsStored"),  # overlay in JPEG 2000
    ("D09_ww0.dcm", "REF_P.png", "WindowWidth would show nothing"),  # window of width 0
    ("D12b_comma.dcm", "REF_P.png", "WindowWidth would show nothing"),  # decimal commas
    ("D30_highbit15_stored12.dcm", "REF_P.png", ""),  # HighBit 15 of 12 bits
    ("D24c_nf0.dcm", "REF_P.png", "0 pictures (NumberOfFrames)"),
    ("D17c_jls_signed12_prec12.dcm", "REF_P.png", ""),  # signed JPEG-LS
    ("D35_UNKNOWN.dcm", "REF_P.png", "UNKNOWN is not known here (BodyPartExamined)"),
]
REFUSED = [
    ("D29b_float.dcm", "floating point"),
    ("D69_no_pixeldata.dcm", "without PixelData"),
]


@pytest.mark.parametrize(("file", "plain", "words"), AS_PLAIN)
def test_a_film_is_read_as_its_plain_picture_is(predictor, file, plain, words):
    film = predictor.predict((CASES / file).read_bytes())
    whose = film.population["name"] if film.population["by"] == "age" else None  # a picture has no PatientAge
    reference = predictor.predict((CASES / plain).read_bytes(), population=whose)
    assert film.probability == pytest.approx(reference.probability, abs=0.02)
    assert (film.label, film.triage) == (reference.label, reference.triage)
    assert reference.warnings == [] or whose
    assert [words in warning for warning in film.warnings] == ([True] if words else [])


def test_a_burned_in_bright_letter_changes_no_label(predictor):
    """The film's darkest and brightest are the letter's, too: where that leaves the gate in doubt, nothing is ruled."""
    film = predictor.predict((CASES / MARKED).read_bytes())
    reference = predictor.predict((CASES / "REF_N.png").read_bytes())
    assert film.probability == pytest.approx(reference.probability, abs=0.02)
    assert film.label == reference.label == "NORMAL"
    assert BLACK_UNSAID in film.warnings[0]
    doubted = any(HARDLY in warning for warning in film.warnings[1:])
    assert film.triage == ("uncertain" if doubted else reference.triage)
    assert len(film.warnings) == 1 + doubted


@pytest.mark.parametrize(("file", "words"), REFUSED)
def test_what_is_no_picture_is_refused_by_name(predictor, file, words):
    with pytest.raises(PneumoError, match=words):
        predictor.predict((CASES / file).read_bytes())


def test_a_film_of_two_greys_is_in_doubt(predictor):
    film = predictor.predict((CASES / "P13_1bit_U.png").read_bytes(), force=True)
    assert film.triage == "uncertain"
    assert any("pure white" in warning for warning in film.warnings)


def test_every_case_is_tried():
    tried = {file for file, *_ in AS_PLAIN + REFUSED} | {plain for _, plain, _ in AS_PLAIN}
    tried |= {MARKED, "P13_1bit_U.png", "REF_U.png"}
    assert tried == {path.name for path in CASES.iterdir()} - {"README.md"}
