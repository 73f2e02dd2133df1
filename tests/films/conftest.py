"""Every sample film as DICOM: as img2dcm wraps it (JPEG baseline, the same code stream), and uncompressed."""

import pytest

from tests.support.dicom import dcmtk
from tests.support.films import SAMPLES


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dcmtk")
    films = []
    for path in SAMPLES:
        wrapped, plain = folder / f"{path.stem}.jpeg.dcm", folder / f"{path.stem}.dcm"
        dcmtk("img2dcm", path, wrapped, "-k", "Modality=CR", "-k", "PatientAge=003Y")
        dcmtk("dcmdjpeg", wrapped, plain)
        films.append((path, wrapped, plain))
    return films
