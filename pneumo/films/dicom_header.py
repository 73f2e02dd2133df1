"""Does a DICOM file say that it is a frontal film of a chest? What is another film is refused by name.

What a file says and nobody understands here is named in a warning, by the Standard's name of the element. Free text is
compared, never repeated: it may name a patient.
"""

import re
from dataclasses import dataclass, field

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from pneumo.errors import OtherFilmError

_FILMS = ("CR", "DX", "DR", "RG")  # PS3.3 C.7.3.1.1.1; DR is in no edition, but in files
_UNTOLD = ("", "OT", "SC")  # what converters from other pictures write
_INTENTS = ("", "FOR PRESENTATION", "FOR PROCESSING")  # PS3.3 C.8.11.1.1.1
_FRONTAL = ("", "AP", "PA")  # PS3.3 C.8.1.1
_FRONTAL_MEANINGS = re.compile("AP|PA|FRONTAL|ANTERO.?POSTERIOR|POSTERO.?ANTERIOR")  # PS3.16 CID 4010
_OTHER_VIEWS = re.compile("LL|RL|[LR]L?[DO]|[LR][AP]O|.*LAT.*|.*OBL.*|.*DECUB.*")
_AXIS = "[APRLHF]{1,3}"  # PS3.3 C.7.6.1.1.1
_CHEST = re.compile("CHEST|THORAX|TORAX|LUNGS?")
# Other parts of the body in PS3.16, table L-1, with the spellings of devices
_OTHER_PARTS = re.compile(
    "ABD(OMEN)?(PELVIS)?|ANKLE|(UPPER|LOWER)? ?(ARM|LEG|EXTREMITY|LIMB)|BREAST|BRAIN|CALF|CALCANEUS|CAROTID|CLAVICLE|"
    "COCCYX|COLON|CRANIUM|EAR|ELBOW|ESOPHAGUS|EYE|FACE|FEET|FEMUR|FIBULA|FINGERS?|FOOT|FOREARM|HANDS?|HEAD(NECK)?|HEEL|"
    "HIPS?|HUMERUS|IAC|JAW(REGION)?|KIDNEY|KNEES?|KUB|LIVER|MANDIBLE|MAXILLA|NASAL ?BONE|NECK|ORBITS?|PATELLA|PELVIS|"
    "(CORONAL|DENTAL|PANORAMIC|DENTITION|TOOTH|TEETH)|RADIUS(ULNA)?|SACRUM|SCAPULA|SHOULDERS?|SIJOINTS?|SINUS(ES)?|"
    "SKULL|(C|L|S|T|TL|LS|CERVICAL|LUMBAR|SACRAL|THORACIC|WHOLE)? ?SPINE|STERNUM|TARSUS|THIGH|THUMB|TIBIA(FIBULA)?|TMJ|"
    "TOES?|ULNA|WRISTS?|ZYGOMA"
)
# Codes of postero-anterior and chest in older editions of PS3.16, which pydicom does not lead to those of today
_TODAY = {"R-10214": "272479007", "T-D3000": "816094009", "51185008": "816094009"}
_AGE = re.compile(r"0*(\d{1,3}) *(?:([DWMY])[A-Z]*)?")  # PS3.5 6.2, AS: three digits and a unit; files have 65 YRS
_OLDEST = 125  # years; what is older stands for an unknown age, as 999Y does
_DAYS = {"D": 1.0, "W": 7.0, "M": 365.25 / 12, "Y": 365.25, None: 365.25}


@dataclass
class Judgement:
    """What a header says: warnings, why the film is none to be read, and the patient's age in years, if it is told."""

    notes: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    age: float | None = None


def judge(ds: Dataset, force: bool = False) -> Judgement:
    """Judge whether a file is of a frontal film of a chest; with `force` a refusal becomes a warning.

    Raises:
        OtherFilmError: another modality, view or part of the body, without `force`.
    """
    found = Judgement()
    _judge_modality(ds, found)
    _judge_view(ds, found)
    _judge_part(ds, found)
    _judge_age(ds, found)
    if found.refusals and not force:
        raise OtherFilmError(found.refusals[0])
    found.notes[:0] = [f"Read because it was asked for. {refusal}" for refusal in found.refusals]
    return found


def read_code(ds: Dataset, keyword: str) -> str:
    """Read a code string's first value, if it is one (PS3.5 6.2): where lengths lie, a name may have run into it."""
    value = ds.get(keyword, "")
    value = str(value[0] if isinstance(value, MultiValue) else value).strip().upper()[:16]
    return value if re.fullmatch("[A-Z0-9_ /-]*", value) else "something else"


def _judge_modality(ds: Dataset, found: Judgement) -> None:
    """Judge how the picture was made, and whether to be looked at."""
    modality, intent = read_code(ds, "Modality"), read_code(ds, "PresentationIntentType")
    if modality in _UNTOLD:
        found.notes.append("The file does not say that it is an X-ray (Modality).")
    elif modality not in _FILMS:
        found.refusals.append(f"Expected a chest X-ray (Modality CR or DX), received {modality}.")
    if ds.get("SOPClassUID") == uid.DigitalXRayImageStorageForProcessing or intent == "FOR PROCESSING":
        found.notes.append("The film is raw (FOR PROCESSING): the model has only seen films made to be looked at.")
    elif intent not in _INTENTS:
        found.notes.append("The file does not say in a known word whether it is raw (PresentationIntentType).")


def _judge_view(ds: Dataset, found: Judgement) -> None:
    """Judge from where the picture was taken."""
    view, (known, own) = read_code(ds, "ViewPosition"), _read_meanings(ds, "ViewCodeSequence", "CID4010")
    views = known + own
    axes = ds.get("PatientOrientation", "")  # of rows and columns; PS3.3 C.7.6.1.1.1
    told = isinstance(axes, MultiValue) and len(axes) == 2 and all(re.fullmatch(_AXIS, str(axis)) for axis in axes)
    lateral = told and axes[0][0] in "AP"
    other = lateral or any(map(_OTHER_VIEWS.fullmatch, views))
    if _OTHER_VIEWS.fullmatch(view) or (other and view not in ("AP", "PA")):
        found.refusals.append(f"Expected a frontal film (ViewPosition PA or AP), received {view or 'another view'}.")
    elif view not in _FRONTAL:
        found.notes.append(f"The view {view} is not known here: is it a frontal film?")
    elif other or (views and not view and not any(map(_FRONTAL_MEANINGS.fullmatch, views))):
        found.notes.append("The view is not known here: is it a frontal film?")
    if axes and not told:
        found.notes.append("How the patient lay is not understood (PatientOrientation): is it a frontal film, upright?")


def _judge_part(ds: Dataset, found: Judgement) -> None:
    """Judge which part of the body it is."""
    part, (known, own) = read_code(ds, "BodyPartExamined"), _read_meanings(ds, "AnatomicRegionSequence", "CID4009")
    for told in [part, *known] if part else known:
        words = [told, *re.split("[^A-Z]+", told)]  # devices write KNEE_LEFT and C-SPINE, too
        other = not _CHEST.search(told) and (told in known or any(map(_OTHER_PARTS.fullmatch, words)))
        if other:
            found.refusals.append(f"Expected a film of the chest (BodyPartExamined), received {told}.")
        elif not _CHEST.search(told):
            found.notes.append(f"The body part {told} is not known here (BodyPartExamined): is it a film of the chest?")
        elif not _CHEST.fullmatch(told):
            found.notes.append(f"The body part is {told}: the model has only seen chests.")
    if own and not part and not known and not any(map(_CHEST.search, own)):
        found.notes.append("The body part is not known here: is it a film of the chest?")


def _judge_age(ds: Dataset, found: Judgement) -> None:
    """Find the patient's age; `model.population` says where the model has seen nobody of it."""
    told = str(ds.get("PatientAge", "")).strip().upper()
    if not told:
        return
    age = _AGE.fullmatch(told)
    if not age or (years := int(age[1]) * _DAYS[age[2]] / _DAYS["Y"]) > _OLDEST:
        found.notes.append("The patient's age is not understood (PatientAge).")
        return
    found.age = years
    if not age[2]:
        found.notes.append(f"The patient's age has no unit (PatientAge): {int(age[1])} is taken for years.")


def _read_meanings(ds: Dataset, keyword: str, group: str) -> tuple[list[str], list[str]]:
    """Read what coded items mean: in the words of a context group of PS3.16, where it has them, and in the file's own.

    The latter are free text in any language, so they are compared, never repeated.
    """
    if not ds.get(keyword):
        return [], []
    from pydicom.sr.codedict import Collection  # here, because loading its tables takes a tenth of a second
    from pydicom.sr.coding import Code

    known, own = [], []
    for item in ds[keyword]:
        value, meaning = (str(item.get(name) or "").strip().upper() for name in ("CodeValue", "CodeMeaning"))
        if not (value or meaning):
            continue
        value = _TODAY.get(value, value)
        codes = Code(value, "SCT", ""), Code(value, "SRT", "")  # which is also called SNM3 or 99SDM
        concepts = Collection(group).concepts.values()
        known += [each.meaning.upper() for each in concepts if each in codes or each.meaning.upper() == meaning]
        own.append(meaning)
    return known, own
