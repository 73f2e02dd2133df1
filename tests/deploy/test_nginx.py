"""nginx in front of gunicorn, with the files that users start: what it holds back, and what it lets through."""

import json
import re
import select
import ssl
import subprocess
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.support.films import SAMPLES
from tests.support.proxy import TEMPLATES, VARIABLE, Proxy, compose
from tests.support.server import HOST, ROOT, Server, open_files, until, workers

FILM = SAMPLES[0].read_bytes()
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
WORDS = "Expected at most 32 MB in one request, received more."


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """gunicorn as in compose.yaml."""
    with Server(tmp_path_factory.mktemp("app") / "log", PNEUMO_PROXIES=1) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(server):
    """nginx as in compose.yaml."""
    with Proxy(server.port) as proxy:
        yield proxy


def label(body):
    """The label in an answer of /predict."""
    return json.loads(body)["label"]


def closed(connections):
    """How many connections the other side has closed."""
    ended = 0
    for connection in connections:
        try:
            ended += bool(select.select([connection], [], [], 0)[0]) and connection.recv(4096) == b""
        except ConnectionResetError:
            ended += 1
    return ended


def test_compose_sets_what_the_templates_need():
    found = compose()["services"]["proxy"]
    used = {name for path in TEMPLATES.iterdir() for name in VARIABLE.findall(path.read_text())}
    assert used == set(found["environment"]) - {"NGINX_ENVSUBST_OUTPUT_DIR"}


def test_compose_keeps_the_app_to_itself_and_off_the_disk():
    found = compose()
    app, proxy = found["services"]["app"], found["services"]["proxy"]
    assert found["networks"]["inside"] == {"internal": True}
    assert (app["networks"], "ports" in app) == (["inside"], False)
    assert proxy["ports"] == ["127.0.0.1:8080:8080"]
    assert all(service["read_only"] and service["cap_drop"] == ["ALL"] for service in (app, proxy))
    writable = proxy["tmpfs"][0].partition(":")[0]
    assert {proxy["environment"][name] for name in ("PROXY_TEMP", "PROXY_FILES")} == {writable}
    assert proxy["environment"]["NGINX_ENVSUBST_OUTPUT_DIR"] == writable
    assert proxy["command"] == ["nginx", "-e", "stderr", "-c", f"{writable}/nginx.conf"]
    assert (ROOT / proxy["volumes"][0].partition(":")[0]).samefile(TEMPLATES)
    assert proxy["depends_on"] == {"app": {"condition": "service_healthy"}}
    assert "\nHEALTHCHECK " in (ROOT / "Dockerfile").read_text()
    assert set(found) == {"services", "networks"}


def test_compose_takes_its_settings_from_the_environment():
    text = (ROOT / "compose.yaml").read_text()
    raw = yaml.safe_load(text)["services"]
    for name in set(raw["app"]["environment"]) - {"PNEUMO_PROXIES"}:
        assert raw["app"]["environment"][name].startswith(f"${{{name}:-"), name


def test_a_film_is_read_behind_the_proxy_as_before_it(server, proxy):
    direct, behind = (json.loads(one.post("/predict", "image/jpeg", FILM)[1]) for one in (server, proxy))
    assert direct | {"request_id": ""} == behind | {"request_id": ""}
    assert proxy.get("/health/ready")[0] == 200


def test_500_slow_connections_hold_up_nobody_and_are_closed(server, proxy):
    beginnings = [b"GET / HTTP/1.1\r\nX: ", HEAD + b"Content-Length: 900000\r\n\r\nbeginning"]
    asked = server.counted()
    slow = [proxy.connect(f"127.0.{1 + number // 10}.{1 + number % 10}") for number in range(500)]
    try:
        for number, connection in enumerate(slow):
            connection.sendall(beginnings[number % 2])
        assert closed(slow) == 0
        for _ in range(3):
            assert label(proxy.post("/predict", "image/jpeg", FILM)[1]) == "NORMAL"
        assert closed(slow[1::2]) == 0
        assert len(list(Path(f"/proc/{server.worker()}/task").iterdir())) < 40  # no thread waits for them
        until(lambda: closed(slow[::2]) == 250, "headers that are cut off after 5 s", 8)
        until(lambda: closed(slow[1::2]) == 250, "bodies that are cut off after 10 s", 12)
    finally:
        for connection in slow:
            connection.close()
    assert server.counted() == asked + 3


def test_a_body_that_is_too_large_is_refused_in_a_sentence(proxy):
    large = bytes(33 * 2**20)
    answer, body = proxy.ask("POST", "/predict", large, Content_Type="image/jpeg")
    assert (answer.status, answer.headers["Content-Type"]) == (413, "application/problem+json")
    problem = json.loads(body)
    assert (problem["status"], problem["error"], problem["detail"]) == (413, "too_large", WORDS)
    answer, body = proxy.ask("POST", "/", large, Accept="text/html,*/*;q=0.8")
    assert (answer.status, answer.headers["Content-Type"]) == (413, "text/html")
    assert f'<p class="reason">{WORDS}</p>' in body.decode()


def test_who_asks_too_often_is_told_when_to_come_again(server):
    with Proxy(server.port, PROXY_RATE=1, PROXY_BURST=3) as proxy:
        answers = [proxy.ask("POST", "/predict", b"x", Content_Type="image/jpeg") for _ in range(6)]
        assert [answer.status for answer, _ in answers] == [415] * 4 + [429] * 2
        answer, body = answers[-1]
        assert answer.headers["Retry-After"] == "10"
        assert json.loads(body)["error"] == "too_many_requests"
        assert proxy.get("/health/live")[0] == 200
        with proxy.connect("127.0.0.2") as other:
            other.sendall(HEAD + b"Content-Length: 1\r\n\r\nx")
            assert other.recv(12) == b"HTTP/1.1 415"


def test_one_address_gets_so_many_connections(server):
    with Proxy(server.port, PROXY_CONNECTIONS=2) as proxy:
        mine = [proxy.connect() for _ in range(3)]
        for connection in mine:
            connection.sendall(HEAD + b"Content-Length: 9\r\n\r\nbegun")
        until(lambda: select.select(mine, [], [], 0)[0], "an answer to the third")
        (refused,), *_ = select.select(mine, [], [], 0)
        assert refused.recv(12) == b"HTTP/1.1 429"
        for connection in mine:
            connection.close()


def test_a_prefix(server):
    with Proxy(server.port, PROXY_PREFIX="/pneumo") as proxy:
        status, page = proxy.get("/pneumo/")
        assert status == 200
        links = set(re.findall(r'(?:href|src|action)="(/[^"]*)"', page))
        assert len(links) > 6
        assert all(link.startswith("/pneumo/") for link in links)
        assert {proxy.ask("GET", link)[0].status for link in links} == {200}
        assert label(proxy.post("/pneumo/predict", "image/jpeg", FILM)[1]) == "NORMAL"
        assert proxy.get("/pneumo/health/ready")[0] == 200
        answer, _ = proxy.ask("GET", "/pneumo")
        assert (answer.status, answer.headers["Location"]) == (301, "/pneumo/")
        assert proxy.get("/predict")[0] == 404


def test_tls(server, tmp_path):
    key, certificate = tmp_path / "tls.key", tmp_path / "tls.crt"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=pneumo"]
    command += ["-addext", f"subjectAltName=IP:{HOST}", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    with Proxy(server.port, PROXY_SCHEME="https", PROXY_CERTIFICATES=tmp_path) as proxy:
        headers = {"Content-Type": "image/jpeg", "Origin": f"https://{HOST}:{proxy.port}"}
        request = urllib.request.Request(f"https://{HOST}:{proxy.port}/predict", FILM, headers)
        with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=certificate)) as answer:
            assert label(answer.read()) == "NORMAL"
            assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert proxy.get("/")[0] == 400  # plain HTTP on the port of TLS


def test_no_film_reaches_a_disk(server, proxy):
    large = FILM + bytes(20 * 2**20)

    def files(process):
        """Files of its own that a server's workers have open."""
        names = [name for pid in workers(process) for name in open_files(pid).values() if name.startswith("/")]
        return [name for name in names if not name.startswith("/dev/") or name.startswith("/dev/shm/")]

    with proxy.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(large) + large[: len(large) // 2])
        until(lambda: any(f"{proxy.folder}/body/" in name for name in files(proxy.process)), "an upload on its way")
        connection.sendall(large[len(large) // 2 :])
        assert connection.recv(12) == b"HTTP/1.1 200"
    assert str(proxy.folder).startswith("/dev/shm/")
    logs = {str(server.log), str(proxy.folder / "log")}
    for process in (server.process, proxy.process):
        assert [name for name in files(process) if not name.startswith("/dev/shm/") and name not in logs] == []
    assert not [name for name in files(proxy.process) if "/body/" in name]


def test_a_server_that_is_not_there(tmp_path):
    with Proxy(9) as proxy:
        answer, body = proxy.ask("POST", "/predict", FILM, Content_Type="image/jpeg")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
    assert json.loads(body)["detail"] == "The server is starting or overloaded: try again in 10 s."


def test_nobody_is_named(server, proxy):
    proxy.ask("POST", "/predict?patient=Miller", b"x" * 100, Content_Type="image/jpeg")
    with proxy.connect("127.0.0.77") as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        connection.recv(100)
    told = proxy.log() + server.log.read_text()
    assert not re.search(r"127\.0\.[01]\.\d|Miller", told.replace(f"{HOST}:{server.port}", ""))
