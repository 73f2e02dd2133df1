"""deploy/kubernetes: manifests that Kubernetes takes as they are, and that ask for nothing they do not need."""

import re

import kubernetes_validate
import pytest
import yaml

from pneumo.cli.main import main
from tests.support.server import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
VERSION = "1.32"  # the oldest that has everything used here
SERVE, ARCHIVE = (list(yaml.safe_load_all((FOLDER / name).read_text())) for name in ("serve.yaml", "archive.yaml"))
KINDS = {one["kind"]: one for one in (*SERVE, *ARCHIVE)}
PODS = {kind: KINDS[kind]["spec"]["template"]["spec"] for kind in ("Deployment", "Job")}


@pytest.mark.parametrize("version", [VERSION, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("kind", KINDS)
def test_a_manifest_is_valid_and_has_nothing_unknown(kind, version):
    kubernetes_validate.validate(KINDS[kind], version, strict=True)


def test_validation_finds_a_misspelt_member():
    wrong = KINDS["Service"] | {"spec": KINDS["Service"]["spec"] | {"port": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


@pytest.mark.parametrize("kind", PODS)
def test_a_pod_may_do_nothing_that_it_does_not_need(kind):
    pod = PODS[kind]
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert [pod["securityContext"][key] for key in ("runAsUser", "runAsGroup")] == [*map(int, user.groups())]
    assert pod["automountServiceAccountToken"] is False
    (memory,) = [volume for volume in pod["volumes"] if volume["name"] == "memory"]
    assert memory["emptyDir"]["medium"] == "Memory"
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts["memory"]["mountPath"] == "/dev/shm"
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    assert {"cpu", "memory"} == set(container["resources"]["limits"]) == set(container["resources"]["requests"])


def test_probes_ask_routes_that_need_no_key_at_the_port_of_the_image():
    (container,) = PODS["Deployment"]["containers"]
    (port,) = container["ports"]
    assert f"PORT={port['containerPort']}" in (ROOT / "Dockerfile").read_text()
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert {name: probe["path"].rpartition("/")[2] for name, probe in probes.items()} == {
        "startup": "ready",
        "readiness": "ready",
        "liveness": "live",
    }
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    routes = (ROOT / "pneumo" / "web" / "routes" / "health.py").read_text()
    assert all(f'"/{word}"' in routes for word in ("ready", "live"))


def test_everything_points_at_the_pods():
    labels = KINDS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert KINDS["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert KINDS["Service"]["spec"]["selector"] == labels
    assert KINDS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert KINDS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert KINDS["NetworkPolicy"]["spec"]["egress"] == []
    target = KINDS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", KINDS["Deployment"]["metadata"]["name"])
    assert "replicas" not in KINDS["Deployment"]["spec"], "the autoscaler's number would be overwritten at each apply"
    assert KINDS["Job"]["spec"]["template"]["metadata"]["labels"] != labels


def test_the_scaler_in_comments_is_of_the_same_deployment():
    text = (FOLDER / "serve.yaml").read_text()
    lines = text[text.index("# ---") :].splitlines()
    scaler = yaml.safe_load("\n".join(line.removeprefix("# ") for line in lines[1:]))
    assert scaler["spec"]["scaleTargetRef"]["name"] == KINDS["Deployment"]["metadata"]["name"]
    found = KINDS["HorizontalPodAutoscaler"]["spec"]
    expected = [found["minReplicas"], found["maxReplicas"]]
    assert [scaler["spec"][f"{end}ReplicaCount"] for end in ("min", "max")] == expected


def test_the_job_has_as_many_shards_as_completions():
    job = KINDS["Job"]["spec"]
    (container,) = PODS["Job"]["containers"]
    assert container["command"] == ["python", "-m", "pneumo", "predict"]
    arguments = [str(job["completions"] - 1) if "INDEX" in one else one for one in container["args"]]
    assert container["args"][-1] == f"$(JOB_COMPLETION_INDEX)/{job['completions']}"
    arguments[-1] = f"{arguments[-1]}/{job['completions']}"
    predict = main.commands["predict"]
    context = predict.make_context("predict", arguments)
    assert context.params["shard"] == (99, 100)
    assert {context.params["parts"], *context.params["sources"]} <= {
        mount["mountPath"] for mount in container["volumeMounts"]
    }
