"""deploy/hospital: archive, node and worklist find each other by what the files say."""

import json
import re

import yaml

from pneumo.cli.main import main
from pneumo.cli.node import read_peer
from pneumo.node.senders import SECONDS
from tests.support.server import ROOT

FOLDER = ROOT / "deploy" / "hospital"
DEFAULT = re.compile(r"\$\{(\w+):[-?](.*?)\}")  # ${NAME:-default}, of Compose and of Orthanc
COMPOSE = yaml.safe_load(DEFAULT.sub(r"\2", (FOLDER / "compose.yaml").read_text()))
SERVICES = COMPOSE["services"]
COMMAND = SERVICES["node"]["command"]
NODE = main.commands["node"].make_context("node", COMMAND[4:]).params  # ends here where an option is unknown
ROUTES = (FOLDER / "routing.lua").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def read_orthanc():
    """What Orthanc reads in its configuration, with the variables of compose.yaml."""
    values = SERVICES["orthanc"]["environment"] | {"ORTHANC_PASSWORD": "secret"}
    text = re.sub(r"^//.*", "", (FOLDER / "orthanc.json").read_text())
    return json.loads(DEFAULT.sub(lambda found: values.get(found[1], found[2]), text))


ORTHANC = read_orthanc()


def mounts(service):
    """Where a service has its volumes: target -> source."""
    return {volume.split(":")[1]: volume.split(":")[0] for volume in SERVICES[service]["volumes"]}


def test_the_archive_sends_films_to_the_node():
    (modality,) = re.findall(r"SendToModality\(instance, '(\w+)'\)", ROUTES)
    assert ORTHANC["DicomModalities"] == {modality: [NODE["title"], "node", NODE["port"]]}
    assert set(SERVICES["orthanc"]["networks"]) & set(SERVICES["node"]["networks"])
    assert NODE["callers"] == (ORTHANC["DicomAet"],)
    assert f"('127.0.0.1', {NODE['port']})" in SERVICES["node"]["healthcheck"]["test"][-1]


def test_the_node_sends_results_to_the_archive():
    assert COMMAND[:4] == ["python", "-m", "pneumo", "node"]
    assert read_peer(NODE["to"]) == (ORTHANC["DicomAet"], "orthanc", ORTHANC["DicomPort"])
    assert int(SERVICES["node"]["stop_grace_period"].removesuffix("s")) > SECONDS  # an archive that hangs


def test_the_page_s_rules_are_those_of_the_file():
    (block,) = re.findall(r"^```lua\n(.*?)^```$", (ROOT / "docs" / "hospital.md").read_text(), re.DOTALL | re.MULTILINE)
    assert block == ROUTES.partition("\n")[2]
    assert ROUTES.startswith("-- ")


def test_only_this_machine_is_let_in_and_the_node_meets_the_archive_alone():
    served = re.search(r"PORT=(\d+)", DOCKERFILE)[1]
    ports = {"orthanc": [ORTHANC["DicomPort"], ORTHANC["HttpPort"]], "worklist": [served]}
    for name, service in SERVICES.items():
        assert service.get("ports", []) == [f"127.0.0.1:{port}:{port}" for port in ports.get(name, [])]
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert SERVICES["node"]["networks"] == ["inside"]
    assert (ORTHANC["RemoteAccessAllowed"], ORTHANC["AuthenticationEnabled"]) == (True, True)
    assert ORTHANC["RegisteredUsers"] == {"hospital": "secret"}


def test_what_is_kept_is_on_a_volume():
    assert set(COMPOSE["volumes"]) == {"archive", "state"}
    found = mounts("orthanc")
    assert found[ORTHANC["StorageDirectory"]] == found[ORTHANC["IndexDirectory"]] == "archive"
    for name in ("orthanc.json", *ORTHANC["LuaScripts"]):
        assert (FOLDER / found[f"/etc/orthanc/{name}"]).samefile(FOLDER / name)
    assert mounts("node")[str(NODE["state"])] == "state"
    assert mounts("worklist")[SERVICES["worklist"]["environment"]["PNEUMO_NODE_STATE"]] == "state"
    assert re.search(rf"mkdir -m 700 {NODE['state']} && chown (\S+) .*^USER \1$", DOCKERFILE, re.DOTALL | re.MULTILINE)


def test_node_and_worklist_are_one_image_that_may_do_little():
    node, worklist = SERVICES["node"], SERVICES["worklist"]
    assert node["image"] == worklist["image"]
    assert (FOLDER / node["build"]["context"]).samefile(ROOT)
    assert "pynetdicom==" in (ROOT / node["build"]["args"]["REQUIREMENTS"]).read_text()
    for service in (node, worklist):
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_settings_are_those_of_the_table():
    table = (ROOT / "docs" / "deploying.md").read_text()
    names = {name for service in ("node", "worklist") for name in SERVICES[service]["environment"]}
    assert names
    assert {name for name in names if f"| `{name}` |" not in table} == set()
    assert mounts("worklist")["/site"] == mounts("node")["/site"] == "../site"
    assert SERVICES["worklist"]["environment"]["PNEUMO_KEYS"].startswith("/site/")
