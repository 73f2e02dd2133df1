"""What a film's header says, as far as the results repeat it: patient, study, series, instance.

Only the beginning of a data set is parsed, and no value that the Standard does not allow is taken over.
"""

import io
import re

from highdicom import SpecificCharacterSetValues
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import UID
from pydicom.valuerep import DA, TM

from pneumo.errors import UnreadableError

# Elements up to group 0020 stand before the pixels. Real headers take some kilobytes; a megabyte of empty items would
# cost pydicom some hundred megabytes.
MOST_BYTES = 2**19
_LAST_GROUP = 0x20
NEEDED = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
# PS3.3 C.7.1.1 and C.7.2.1: type 2 in every result, so empty where the film does not say them
PATIENT_AND_STUDY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
OPTIONAL = ("SpecificCharacterSet", "IssuerOfPatientID", "PatientAge", "StudyDescription")
_KEYWORDS = (*NEEDED, *PATIENT_AND_STUDY, *OPTIONAL, "ImageType", "Laterality", "PatientOrientation")
_READ = [Tag(keyword) for keyword in _KEYWORDS]
_FORMS = {
    "PatientSex": re.compile("[MFO]"),
    "PatientAge": re.compile(r"\d{3}[DWMY]"),
    "Laterality": re.compile("[RLBU]"),
}
_TYPES = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}
_CHARACTER_SETS = {"", *(known.value for known in SpecificCharacterSetValues)}
_UTF_8 = "ISO_IR 192"
_AXES = re.compile("[APRLHF]{1,3}")
# What pydicom raises on damaged data
_DAMAGE = (
    AttributeError,
    BytesLengthException,
    EOFError,
    KeyError,
    LookupError,
    NotImplementedError,
    OSError,
    TypeError,
)


def read_header(data: bytes) -> Dataset:
    """Read the beginning of a DICOM file as the node writes it, with preamble and file meta information.

    The result has the SOP class of the file meta information and every element of NEEDED and PATIENT_AND_STUDY; of the
    latter those are empty that the film lacks, or has in a form that the Standard does not allow (PS3.5 6.2).

    Raises:
        UnreadableError: the file is damaged, or lacks one of NEEDED.
    """
    try:
        with config.disable_value_validation():
            stream = io.BytesIO(data[:MOST_BYTES])
            stream.seek(132)  # PS3.10 7.1
            meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
            syntax = meta.TransferSyntaxUID
            found = read_dataset(
                stream,
                syntax.is_implicit_VR,
                syntax.is_little_endian,
                stop_when=lambda tag, vr, length: tag >> 16 > _LAST_GROUP,
                specific_tags=_READ,
            )
            header = _keep_allowed(found)
            header.SOPClassUID = meta.MediaStorageSOPClassUID
    except (*_DAMAGE, ValueError, OverflowError, RecursionError):
        raise UnreadableError("Expected a DICOM file, received one that is damaged.") from None
    if missing := [keyword for keyword in NEEDED if not header.get(keyword)]:
        raise UnreadableError(f"Expected a film with {', '.join(missing)}, received one without.")
    return header


def _keep_allowed(found: Dataset) -> Dataset:
    """Copy what is allowed; what is not stays out, or empty where results need the element."""
    header = Dataset()
    for keyword in PATIENT_AND_STUDY:
        setattr(header, keyword, None)
    for keyword in _KEYWORDS:
        value = found.get(keyword)
        if value is not None and _is_allowed(keyword, value):
            setattr(header, keyword, value)
    if "SpecificCharacterSet" in found and "SpecificCharacterSet" not in header:
        header.SpecificCharacterSet = _UTF_8  # it holds whatever pydicom made of the texts
    return header


def _is_allowed(keyword: str, value: object) -> bool:
    """Check a value's form; text is taken as it is."""
    if keyword == "PatientOrientation":
        axes = value if isinstance(value, MultiValue) else ()
        return len(axes) == 2 and all(_AXES.fullmatch(str(axis)) for axis in axes)
    if keyword == "SpecificCharacterSet":
        return {value} <= _CHARACTER_SETS if isinstance(value, str) else set(value) <= _CHARACTER_SETS
    if keyword == "ImageType":
        return True
    if isinstance(value, MultiValue):
        return False
    if isinstance(value, UID):
        return value.is_valid
    if keyword in _TYPES:
        try:
            return _TYPES[keyword](str(value)) is not None
        except ValueError:
            return False
    return keyword not in _FORMS or bool(_FORMS[keyword].fullmatch(str(value)))
