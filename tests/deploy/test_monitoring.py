"""deploy/prometheus and deploy/grafana: every query asks for what the real /metrics has."""

import json
import re

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pneumo import errors
from tests.support.films import SAMPLES
from tests.support.server import ROOT, Server

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "pneumo.json").read_text())
SCALER = re.search(r"query: (.*)", (ROOT / "deploy" / "kubernetes" / "serve.yaml").read_text())[1]
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
# Values that a short run of a healthy server does not show
KNOWN = {
    ("error", "busy"): errors.BusyError.error == "busy",
    ("outcome", "failed"): '"failed"' in (ROOT / "pneumo" / "web" / "metrics.py").read_text(),
}


@pytest.fixture(scope="module")
def exposed(tmp_path_factory):
    """What /metrics says after a film, a refusal and a film from the page: name -> label -> values."""
    with Server(tmp_path_factory.mktemp("metrics") / "log") as server:
        assert server.post("/predict", "image/jpeg", SAMPLES[0].read_bytes())[0] == 200
        assert server.post("/predict", "image/jpeg", b"no film")[0] == 415
        body = (
            b"--x\r\nContent-Disposition: form-data; name=file; filename=f\r\n\r\n%b\r\n--x--"
            % SAMPLES[-1].read_bytes()
        )
        assert server.post("/", "multipart/form-data; boundary=x", body)[0] == 200
        text = server.get("/metrics")[1]
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            for label, value in sample.labels.items():
                found.setdefault(sample.name, {}).setdefault(label, set()).add(value)
    return found


def parse(query):
    """The selectors of a query, and the labels by which it groups; Grafana's variables filled in."""
    selectors, groups = [], set()

    def look(node):
        if isinstance(node, promql_parser.VectorSelector):
            selectors.append(node)
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            groups.update(node.modifier.labels)
        return True

    promql_parser.walk(promql_parser.parse(query.replace("$__rate_interval", "1m")), look)
    return selectors, groups


@pytest.mark.parametrize("query", [*QUERIES, SCALER])
def test_a_query_asks_for_what_there_is(exposed, query):
    selectors, groups = parse(query)
    assert selectors
    for selector in selectors:
        labels = exposed[selector.name]
        assert groups <= set(labels)
        for matcher in selector.matchers.matchers:
            for value in matcher.value.split("|"):
                assert value in labels[matcher.name] or KNOWN[matcher.name, value]


def test_a_query_for_something_else_is_found(exposed):
    for query in ("sum(pneumo_nothing)", 'sum(pneumo_films_total{label="HEALTHY"})', "sum by (x) (pneumo_films_total)"):
        with pytest.raises((KeyError, AssertionError)):
            test_a_query_asks_for_what_there_is(exposed, query)


def test_the_dashboard_names_its_source_by_a_variable_and_overlaps_nowhere():
    (variable,) = DASHBOARD["templating"]["list"]
    assert (variable["name"], variable["type"]) == ("datasource", "datasource")
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {"${datasource}"}
    places = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) == 23  # Grafana's grid is 24 wide


def test_prometheus_scrapes_the_pods_that_serve():
    (job,) = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    keep, name = job["relabel_configs"]
    serve = next(yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "serve.yaml").read_text()))
    labels = serve["spec"]["template"]["metadata"]["labels"]
    sources = [re.sub(r"\W", "_", f"__meta_kubernetes_pod_label_{label}") for label in labels]
    assert keep["source_labels"] == sources
    assert keep["regex"] == ";".join(labels.values())
    assert name["target_label"] == "pod"
    assert "metrics_path" not in job  # the default, /metrics
