"""The RSNA challenge's download becomes a source: films by label, with patients, ages, views and boxes."""

import json

import pytest

from pneumo.data import rsna
from pneumo.data.sources import read_source
from pneumo.errors import PneumoError
from tests.support.cli import run
from tests.support.dicom import RAMP, dicom

FILMS = {  # name in the challenge: name of the NIH, class, age, view
    "a": ("00000001_000", "Normal", "51", "PA"),
    "b": ("00000001_002", "Lung Opacity", "052Y", "AP"),
    "c": ("00000007_000", "No Lung Opacity / Not Normal", "151", "PA"),
}


@pytest.fixture
def download(tmp_path):
    root = tmp_path / "download"
    (root / rsna.IMAGES).mkdir(parents=True)
    for key, (_, _, age, view) in FILMS.items():
        film = dicom(RAMP, PatientAge=age, ViewPosition=view)
        (root / rsna.IMAGES / f"{key}.dcm").write_bytes(film)
    classes = "".join(f"{key},{found}\n" for key, (_, found, _, _) in FILMS.items())
    (root / rsna.CLASSES).write_text("patientId,class\n" + classes + "b,Lung Opacity\n")  # a row for each box
    boxes = "patientId,x,y,width,height,Target\na,,,,,0\nb,256,512,128,64,1\nb,0,0,512,512,1\nc,,,,,0\n"
    (root / rsna.BOXES).write_text(boxes)
    mapping = [{"subset_img_id": key, "img_id": f"{name}.png"} for key, (name, *_) in FILMS.items()]
    (root / rsna.MAPPING).write_text(json.dumps(mapping))
    return root


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom says that 51 is no age
def test_films_are_told_by_their_patients_and_radiologists(download, tmp_path):
    done = run("data", tmp_path / "adults_nih", "--rsna", download)
    assert done.exit_code == 0, done.output
    assert "3 films of 2 patients: 1 NORMAL, 1 PNEUMONIA, 1 OTHER" in done.stdout
    assert "view: 1 AP, 2 PA" in done.stdout
    assert "labelled by: 3 radiologist (RSNA); boxes on 1 films; unreadable: 0" in done.stdout
    normal, ill, other = read_source(tmp_path / "adults_nih", "nih")
    assert (normal.patient, normal.age, normal.view, normal.read_by) == ("00000001", 51, "PA", rsna.READ_BY)
    assert (ill.path.name, ill.patient, ill.age) == ("00000001_002.dcm", "00000001", 52)
    assert ill.boxes == ((0.25, 0.5, 0.375, 0.5625), (0.0, 0.0, 0.5, 0.5))
    assert (other.label, other.age, other.boxes) == ("OTHER", None, None)
    again = run("data", tmp_path / "adults_nih", "--rsna", download)
    assert "to be empty or missing" in again.stderr


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_the_download_lacks_is_named(download, tmp_path):
    (download / rsna.MAPPING).write_text("[]")
    with pytest.raises(PneumoError, match=r"the NIH's name of .*a\.dcm, received 'Normal'"):
        rsna.arrange(download, tmp_path / "adults")
    (download / rsna.MAPPING).unlink()
    with pytest.raises(FileNotFoundError, match=f"Expected {rsna.MAPPING} in"):
        rsna.arrange(download, tmp_path / "new")
