"""The node between real peers: dcmtk's storescu, Debian's Orthanc with the rules that users get, dicom3tools."""

import json
import re
import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from benchmarks import hospital
from pneumo.errors import NotChestFilmError
from pneumo.node.header import read_header
from pneumo.node.outcome import make_outcome, make_refusal
from pneumo.node.results import make_results
from pneumo.node.senders import REPORTS, WebSender
from tests.support.films import MeanGrey
from tests.support.hospital import NORMAL, Archive, NodeProcess, film, send_to_peer, storescu
from tests.support.server import HOST, ROOT, free_port, until

REPORT = ROOT / "reports" / "hospital.json"


def check(*files):
    """What dciodvfy (of one file) or dcentvfy (of several) finds wrong; warnings about a DICOMDIR do not count."""
    program = "dciodvfy" if len(files) == 1 else "dcentvfy"
    assert shutil.which(program), f"{program} is missing: install dicom3tools"
    told = subprocess.run([program, *files], capture_output=True, text=True, errors="replace").stderr
    return [line for line in told.splitlines() if line.startswith("Error") or "Abort" in line]


@pytest.fixture(scope="module")
def hospital_of(tmp_path_factory):
    """An archive that routes films to a node, and the node, which sends its results back."""
    folder, port = tmp_path_factory.mktemp("hospital"), free_port()
    with (
        Archive(folder / "archive", port) as archive,
        NodeProcess(folder / "node", *send_to_peer(archive), port=port) as node,
    ):
        yield archive, node, folder


def counts(node):
    store = node.store()
    try:
        return store.count()
    finally:
        store.close()


@pytest.fixture(scope="module")
def came_back(hospital_of):
    """The files of three studies after their results came back: one read as pneumonia, one as normal, one refused."""
    archive, _, folder = hospital_of
    films = [film(1), film(2, NORMAL), film(3, ViewPosition="LL")]
    paths = [folder / f"{number}.dcm" for number in range(1, 4)]
    for path, data in zip(paths, films, strict=True):
        path.write_bytes(data)
    assert storescu(archive.dicom_port, *paths).returncode == 0
    found = archive.wait_for_results([hospital.study_of(number) for number in range(1, 4)], 120)
    files = []
    for number, kinds in enumerate(found.values(), 1):
        assert {kind: len(ids) for kind, ids in kinds.items()} == {"CR": 1, "SR": 1, "OT": 1}
        files.append({})
        for kind, (identifier,) in kinds.items():
            files[-1][kind] = folder / f"{number}.{kind}.dcm"
            files[-1][kind].write_bytes(archive.file(identifier))
    return files


def test_results_come_back_into_the_study_of_their_film(came_back):
    words = [
        ('"PNEUMONIA at the operating point balanced; triage rule-in."', '(52101004,SCT,"Present")'),
        ('"NORMAL at the operating point balanced; triage rule-out."', '(2667000,SCT,"Absent")'),
        ('"Not read: This is not a frontal chest film.', '(82334004,SCT,"Indeterminate")'),
    ]
    for files, expected in zip(came_back, words, strict=True):
        dump = subprocess.run(["dsrdump", "+Pl", files["SR"]], capture_output=True, text=True, errors="replace")
        assert dump.returncode == 0
        assert dump.stdout.startswith("Comprehensive 3D SR Document")
        assert all(word in dump.stdout for word in (*expected, "Verification Flag   : UNVERIFIED"))


def test_the_archive_s_files_are_valid_and_of_one_patient_and_study(came_back):
    for files in came_back:
        assert [check(path) for path in files.values()] == [[]] * 3
        assert check(*files.values()) == []


def test_a_whole_study_goes_through_with_our_results_in_it_and_nothing_goes_round(hospital_of, came_back):
    archive, node, _ = hospital_of
    before = counts(node)["dropped"].get("no CR or DX film", 0)
    study = archive.json("/studies")[0]
    status, text = archive.post("/modalities/pneumo/store", "text/plain", study.encode())
    assert (status, json.loads(text)["FailedInstancesCount"], json.loads(text)["InstancesCount"]) == (200, 0, 3)
    assert counts(node)["dropped"]["no CR or DX film"] == before + 2
    until(lambda: counts(node)["films"]["sent"] == 3, "the film that came again", 60)
    assert len(archive.json("/instances")) == 9
    assert before == 0  # the rules send films, and no result


def test_the_node_s_log_names_nobody(hospital_of, came_back):
    log = hospital_of[1].log()
    assert "PNEUMO listens" in log
    assert not re.search(r"Müller|P1\b|1\.2\.3\.4", log)


def test_wrong_titles_are_refused(hospital_of, came_back):
    _, node, folder = hospital_of
    answer = storescu(node.port, folder / "1.dcm", called="OTHER")
    assert (answer.returncode != 0, "Called AE Title Not Recognized" in answer.stderr) == (True, True)


def test_results_go_to_dicomweb_too(hospital_of):
    archive, _, _ = hospital_of
    data = film(50)
    prediction = MeanGrey().predict(data)
    results = make_results(make_outcome(prediction), prediction, read_header(data), datetime(2026, 1, 2))
    for _ in range(2):
        WebSender(f"http://{HOST}:{archive.port}/dicom-web").send(results)
    found = archive.instances(hospital.study_of(50))
    assert {kind: len(ids) for kind, ids in found.items()} == {"SR": 1, "OT": 1}


@pytest.mark.parametrize("kind", ["read", "refused", "unfamiliar", "forced", "bare"])
def test_every_kind_of_result_is_valid(tmp_path, kind):
    model = MeanGrey()
    bare = {"PatientAge": None, "StudyID": "", "PatientOrientation": None, "SpecificCharacterSet": None}
    bare |= {"PatientName": "Doe", "PatientSex": None, "PatientBirthDate": None}
    data = film(1, **bare) if kind == "bare" else film(1, ViewPosition="LL" if kind == "forced" else "PA")
    header = read_header(data)
    prediction = model.predict(data, force=True)
    outcome = make_outcome(prediction)
    if kind == "unfamiliar":
        outcome = type(outcome)(outcome.model, "unfamiliar", "The film is unlike the others.", outcome.answer)
    if kind == "refused":
        prediction, outcome = None, make_refusal(NotChestFilmError("received a photograph"), model.card)
    study = {"film": data} | make_results(outcome, prediction, header, datetime(2026, 1, 2))
    paths = {name: tmp_path / f"{name}.dcm" for name in study}
    for name, path in paths.items():
        path.write_bytes(study[name])
        assert name == "film" or check(path) == []
    assert check(*paths.values()) == []
    dump = subprocess.run(["dsrdump", paths["report"]], capture_output=True, text=True, errors="replace")
    assert (dump.returncode, dump.stderr) == (0, "")
    assert ("Not read: " in dump.stdout) == (kind in ("refused", "unfamiliar"))


def test_a_study_of_two_patients_is_found(tmp_path):
    paths = [tmp_path / "1.dcm", tmp_path / "2.dcm"]
    paths[0].write_bytes(film(1))
    paths[1].write_bytes(film(1, SOPInstanceUID="1.2.3.4.1.4", PatientID="P2"))
    assert any("Different PatientID for same StudyInstanceUID" in line for line in check(*paths))


@pytest.mark.parametrize("kind", REPORTS[1:], ids=["Comprehensive", "Enhanced"])
def test_a_report_is_valid_in_the_classes_of_older_archives(tmp_path, mean_grey, kind):
    data = film(1)
    prediction = mean_grey.predict(data)
    report = make_results(make_outcome(prediction), prediction, read_header(data), datetime(2026, 1, 2))["report"]
    path = tmp_path / "report.dcm"
    path.write_bytes(report.replace(REPORTS[0].encode(), kind.encode().ljust(len(REPORTS[0]), b"\0")))
    assert check(path) == []
    assert subprocess.run(["dsrdump", path], capture_output=True).returncode == 0


def test_killed_at_every_state_nothing_is_lost_and_nothing_doubled(tmp_path):
    found = hospital.run(tmp_path, kills=5, films=2)
    killed = found["kill"]
    assert [killed[name] for name in ("films", "reports", "captures", "lost", "doubled")] == [5, 5, 5, 0, 0]
    assert sum(killed["found"].values()) == 5
    # right after it was received a film may have been read already
    assert all(killed["found"][state] for state in hospital.STATES if state != "received")
    assert found["repeat"] == {"films": 3, "reports": 3, "captures": 3, "lost": 0, "doubled": 0}
    assert found["dropped"] == {"duplicate that waits": found["dropped"]["duplicate that waits"]}
    assert found["pace"]["through_a_second"] > 0


def test_the_report_of_the_kills_is_what_was_measured():
    found = json.loads(REPORT.read_text())
    assert (found["kill"]["times"], found["kill"]["lost"], found["kill"]["doubled"]) == (20, 0, 0)
    assert found["formats"]["met"]
    assert REPORT.with_suffix(".md").read_text() == hospital.page(found)


def test_page_by_hand():
    counts = {"films": 4, "reports": 3, "captures": 5, "lost": 1, "doubled": 2}
    pace = {"films": 8, "megabytes": 1.5, "acknowledged_a_second": 20.5, "through_a_second": 4.5}
    found = {"kill": counts | {"times": 4, "found": {"received": 3, "sent": 1}}, "repeat": counts, "pace": pace}
    found["formats"] = {"median_ms": {"JPEG": 10.0, "DICOM": 15.0}, "rounds": 2, "times": 1.5, "most": 3, "met": True}
    model = {"name": "m", "version": "1"}
    page = hospital.page(found | {"command": "c", "machine": "x", "load": 0.1, "model": model, "program": "2"})
    assert "| `kill -9` 4 times, then started again | 4 | 3 | 5 | 1 | 2 |" in page
    assert "States of the film in the database of the killed node: `received` 3, `sent` 1.\n" in page
    assert "**20.5** a second are acknowledged" in page
    assert "**1.5** times as long. The bar is 3 times: met." in page


def test_dicom_beside_jpeg(tmp_path):
    found = hospital.measure_formats(tmp_path, rounds=1)
    assert found["times"] == pytest.approx(found["median_ms"]["DICOM"] / found["median_ms"]["JPEG"], rel=0.05)
    assert found["met"] == (found["times"] <= 3)


def test_the_rules_are_ten_lines():
    text = Path(ROOT / "deploy" / "hospital" / "routing.lua").read_text()
    assert len(text.splitlines()) <= 10
