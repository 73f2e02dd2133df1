"""What results take over from a film's header, and what not."""

import pytest

from pneumo.errors import UnreadableError
from pneumo.node.header import MOST_BYTES, read_header
from tests.support.dicom import RAMP, dicom

UIDS = {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.2", "SOPInstanceUID": "1.2.3"}


def header_of(**elements):
    return read_header(dicom(RAMP, **UIDS | elements))


def test_what_the_film_says_is_taken_over_and_what_it_lacks_is_empty():
    header = header_of(PatientName="Doe^Jane", PatientAge="003Y", StudyDate="20260102")
    assert (header.PatientName, header.PatientAge, header.StudyDate) == ("Doe^Jane", "003Y", "20260102")
    assert [header[keyword].is_empty for keyword in ("PatientID", "PatientSex", "AccessionNumber")] == [True] * 3
    assert "Laterality" not in header
    assert header.SOPClassUID.name == "Computed Radiography Image Storage"


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom quotes what is odd
@pytest.mark.parametrize(
    ("keyword", "odd"),
    [("PatientSex", "X"), ("PatientBirthDate", "last year"), ("StudyTime", "noon"), ("PatientID", ["A", "B"])],
)
def test_what_the_standard_does_not_allow_is_left_empty(keyword, odd):
    assert header_of(**{keyword: odd})[keyword].is_empty


@pytest.mark.parametrize("axes", [["L", "F"], ["L", "X"], ["L"]])
def test_an_orientation_is_two_axes_or_none(axes):
    assert header_of(PatientOrientation=axes).get("PatientOrientation") == (["L", "F"] if axes == ["L", "F"] else None)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_unknown_character_set_becomes_utf_8():
    assert header_of(SpecificCharacterSet="ISO_IR 100", PatientName="Jörg").SpecificCharacterSet == "ISO_IR 100"
    assert header_of(SpecificCharacterSet="LATIN9").SpecificCharacterSet == "ISO_IR 192"


@pytest.mark.parametrize("missing", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_a_film_without_its_uids_cannot_be_answered(missing):
    with pytest.raises(UnreadableError, match=missing):
        header_of(**{missing: None})


def test_damage_is_refused():
    film = dicom(RAMP, **UIDS)
    begin = film.index(b"\x08\x00\x16\x00")  # SOP Class UID, the first element of the data set
    with pytest.raises(UnreadableError):
        read_header(film[:begin] + b"\xff" * 500)
    with pytest.raises(UnreadableError):
        read_header(b"no DICOM at all")


def test_a_large_film_is_not_looked_through():
    film = dicom(RAMP, **UIDS)
    assert read_header(film + bytes(2 * MOST_BYTES)).SOPInstanceUID == "1.2.3"
