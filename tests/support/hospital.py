"""An archive (Debian's Orthanc) and the node, as processes of their own, each on ports and in a folder of its own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pneumo.node.store import DATABASE, Store
from tests.support.dicom import dicom
from tests.support.films import SAMPLES
from tests.support.server import HOST, ROOT, Endpoint, environment, free_port, until

SETTINGS = ROOT / "deploy" / "hospital"
PNEUMONIA, NORMAL = SAMPLES[2], SAMPLES[1]


def film(number: int, path: Path = PNEUMONIA, **elements: object) -> bytes:
    """A sample film as a CR image of patient `number`; its UIDs end in that number."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("L"))
    facts = {
        "SOPInstanceUID": f"1.2.3.4.{number}.3",
        "SeriesInstanceUID": f"1.2.3.4.{number}.2",
        "StudyInstanceUID": f"1.2.3.4.{number}.1",
        "SpecificCharacterSet": "ISO_IR 100",
        "PatientName": "Müller^Jörg",
        "PatientID": f"P{number}",
        "PatientBirthDate": "20230101",
        "PatientSex": "M",
        "PatientAge": "003Y",
        "AccessionNumber": f"A{number}",
        "StudyID": f"S{number}",
        "StudyDate": "20260102",
        "StudyTime": "101112",
        "ReferringPhysicianName": "",
        "SeriesNumber": 1,
        "InstanceNumber": 1,
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "PatientOrientation": ["L", "F"],
        "Manufacturer": "",
    }
    return dicom(pixels, **facts | elements)


def storescu(
    port: int, *paths: Path, called: str = "ORTHANC", caller: str = "XRAY", options: Sequence[object] = ()
) -> subprocess.CompletedProcess:
    """Send files with dcmtk and more of its options; what it said is in `stderr`."""
    command = ["storescu", "-R", "-aec", called, "-aet", caller, *map(str, options), HOST, str(port)]
    return subprocess.run([*command, *map(str, paths)], capture_output=True, text=True, timeout=120)


class Archive(Endpoint):
    """An Orthanc with the settings and rules that users get. `with Archive(...) as archive:` ends it.

    It sends every film to the node on `node_port`, unless `route` is False.
    """

    def __init__(self, folder: Path, node_port: int, route: bool = True) -> None:
        super().__init__(free_port())
        self.dicom_port, self.folder = free_port(), folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "orthanc.json").write_text((SETTINGS / "orthanc.json").read_text())
        (folder / "routing.lua").write_text((SETTINGS / "routing.lua").read_text() if route else "")
        self._variables = {
            "ORTHANC_DICOM_PORT": self.dicom_port,
            "ORTHANC_HTTP_PORT": self.port,
            "ORTHANC_STORAGE": folder / "db",
            "NODE_HOST": HOST,
            "NODE_PORT": node_port,
        }

    def start(self) -> "Archive":
        """Start it, also after `stop`, and wait until it answers."""
        program = shutil.which("Orthanc", path=f"{os.environ['PATH']}:/usr/sbin")
        with (self.folder / "log").open("a") as log:
            command, variables = [program, self.folder / "orthanc.json"], environment(**self._variables)
            self.process = subprocess.Popen(command, env=variables, stdout=log, stderr=log)
        until(lambda: self.get("/system")[0] == 200, "Orthanc to answer", 60)
        return self

    def stop(self) -> None:
        """End it; what it has stays."""
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(60)

    def __enter__(self) -> "Archive":
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()

    def json(self, path: str) -> object:
        """What the REST interface answers."""
        status, text = self.get(path)
        assert status == 200, text
        return json.loads(text)

    def instances(self, study: str) -> dict[str, list[str]]:
        """Orthanc's identifiers of the instances of a study, by modality."""
        query = json.dumps({"Level": "Instance", "Query": {"StudyInstanceUID": study}, "Expand": True})
        found: dict[str, list[str]] = {}
        for one in json.loads(self.post("/tools/find", "application/json", query.encode())[1]):
            modality = self.json(f"/instances/{one['ID']}/simplified-tags")["Modality"]
            found.setdefault(modality, []).append(one["ID"])
        return found

    def file(self, identifier: str) -> bytes:
        """The DICOM file of an instance."""
        return self.ask("GET", f"/instances/{identifier}/file")[1]

    def wait_for_results(self, studies: Sequence[str], seconds: float = 60) -> dict[str, dict[str, list[str]]]:
        """The instances of each study by modality, as soon as each has its report and its capture."""

        def find() -> dict | None:
            found = {study: self.instances(study) for study in studies}
            return found if all({"SR", "OT"} <= set(kinds) for kinds in found.values()) else None

        return until(find, f"results of {len(studies)} films", seconds)


class NodeProcess:
    """`pneumo node` on a port of its own, with its state in a folder. `with NodeProcess(...) as node:` ends it."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        self.folder, self.port = folder, port or free_port()
        self._options = options
        self._log = folder.with_suffix(".log")

    def start(self) -> "NodeProcess":
        """Start it, also after a kill, and wait until it listens."""
        where = ["--state", str(self.folder), "--host", HOST, "--port", str(self.port)]
        command = [sys.executable, "-m", "pneumo", "node", *where, *self._options]
        with self._log.open("a") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=log, stderr=log)
        until(self._listens, "a node that listens", 60)
        return self

    def _listens(self) -> bool:
        if self.process.poll() is not None:
            raise TimeoutError(f"Expected a node that goes on, received: {self.log()[-2000:]}")
        with socket.create_connection((HOST, self.port), 5):
            return True

    def kill(self) -> None:
        """End it at once, as a power cut does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def log(self) -> str:
        """What it said."""
        return self._log.read_text()

    def store(self) -> Store:
        """Its store, to look into."""
        assert (self.folder / DATABASE).exists()
        return Store(self.folder)

    def __enter__(self) -> "NodeProcess":
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)


def send_to_peer(archive: Archive) -> tuple[str, str]:
    """The node's options that send results to an archive by C-STORE."""
    return "--to", f"ORTHANC@{HOST}:{archive.dicom_port}"
