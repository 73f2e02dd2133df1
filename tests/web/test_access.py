"""Who may ask: not the pages of other sites, and where keys are set only those who have one."""

from base64 import b64encode

import pytest

from app import create_app
from pneumo.errors import KeyRequiredError, SettingError
from pneumo.web import access
from tests.support.films import SAMPLES, MeanGrey
from tests.support.web import HASH, KEY

FILM = {"data": SAMPLES[0].read_bytes(), "content_type": "image/jpeg"}


def client_of(**config):
    return create_app({"PREDICTOR": MeanGrey(), "TESTING": True} | config).test_client()


def basic(password):
    return {"Authorization": "Basic " + b64encode(f"anyone:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),  # curl
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://other.example"}, True),  # a proxy has its own Host
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, False),
        ({"Sec-Fetch-Site": "something new"}, False),
        ({"Origin": "http://localhost"}, True),  # plain HTTP, where browsers send no Sec-Fetch-Site
        ({"Origin": "http://LOCALHOST"}, True),
        ({"Origin": "http://localhost:81"}, False),
        ({"Origin": "https://other.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://[bad"}, False),
    ],
)
def test_pages_of_other_sites_send_nothing(headers, allowed):
    client = client_of()
    for path in ("/predict", "/"):
        answer = client.post(path, **FILM, headers=headers)
        if path == "/" and allowed:  # the form is no raw body, but that is all that is wrong
            assert answer.status_code in (200, 400, 415)
            continue
        assert answer.status_code == (200 if allowed else 403)
        assert allowed or answer.json["error"] == "cross_site"
    for path in ("/", "/health/live", "/static/page.js"):  # links from elsewhere work
        assert client.get(path, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("host", "origin", "allowed"),
    [
        ("my_server:5000", "http://my_server:5000", True),  # Werkzeug knows no such name
        ("my_server:5000", "http://other_server:5000", False),
        ("my_server:5000", "null", False),
        ("lan.example:80", "http://lan.example", True),  # as some proxies pass it on
    ],
)
def test_over_plain_http_the_page_is_known_by_any_name(host, origin, allowed):
    answer = client_of().post("/predict", **FILM, headers={"Host": host, "Origin": origin})
    assert answer.status_code == (200 if allowed else 403)


WARD = "https://ward.example:8443"


def test_pages_of_named_origins_ask_and_read_the_answer():
    client = client_of(ORIGINS=f"{WARD.upper()}/, http://[::1]", KEYS=HASH)
    theirs = {"Origin": WARD, "Sec-Fetch-Site": "cross-site"}
    asked = client.options("/predict", headers=theirs | {"Access-Control-Request-Headers": "authorization"})
    assert asked.status_code == 200  # a browser asks first, and without the key
    assert asked.headers["Access-Control-Allow-Origin"] == WARD
    assert "Authorization" in asked.headers["Access-Control-Allow-Headers"]
    answer = client.post("/predict", **FILM, headers=theirs | {"Authorization": f"Bearer {KEY}"})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, WARD)
    refused = client.post("/predict", **FILM, headers=theirs)
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, WARD)  # it may read why
    assert client.get("/health/ready", headers=theirs).headers["Access-Control-Allow-Origin"] == WARD
    # the page is this server's own
    assert client.post("/", **FILM, headers=theirs | {"Authorization": f"Bearer {KEY}"}).status_code == 403
    assert "Access-Control-Allow-Origin" not in client.get("/metrics", headers=theirs).headers


@pytest.mark.parametrize(("origins", "vary"), [(None, None), (WARD, "Origin")])
def test_other_origins_stay_outside(origins, vary):
    client = client_of(ORIGINS=origins)
    for origin in ("https://other.example", "https://ward.example", "http://ward.example:8443", "null"):
        headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
        for answer in (client.options("/predict", headers=headers), client.post("/predict", **FILM, headers=headers)):
            assert "Access-Control-Allow-Origin" not in answer.headers
            assert answer.headers.get("Vary") == vary
        assert (answer.status_code, answer.json["error"]) == (403, "cross_site")


@pytest.mark.parametrize(
    "origin", ["*", "null", "ward.example", "https://", "https://ward.example/x", "ftp://ward.example"]
)
def test_what_is_no_origin_is_refused(origin):
    with pytest.raises(SettingError, match="PNEUMO_ORIGINS to hold origins such as"):
        access.read_origins(f"{WARD} {origin}")


def test_without_keys_nobody_needs_one():
    assert access.read_keys(None) == access.read_keys("") == frozenset()
    access.check_key(frozenset(), None)


def test_keys_come_from_the_variable_or_from_a_file(tmp_path):
    other = "00" * 32
    expected = {bytes.fromhex(HASH), bytes(32)}
    assert access.read_keys(f"{HASH.upper()}, {other}") == expected
    file = tmp_path / "keys"
    file.write_text(f"# ward 3\n{HASH}  -\n\n{other} the archive\n")
    assert access.read_keys(str(file)) == expected


@pytest.mark.parametrize("content", ["", "# nobody\n", KEY, HASH[:-1], f"{HASH}\n{KEY}\n", "\0\xff"])
def test_what_is_no_list_of_hashes_is_refused_and_not_repeated(tmp_path, content):
    file = tmp_path / "keys"
    file.write_text(content, encoding="latin-1")
    for setting in (str(file), str(tmp_path / "missing"), f"{HASH} {KEY}"):
        with pytest.raises(SettingError) as refusal:
            access.read_keys(setting)
        assert KEY not in str(refusal.value)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Token {KEY}"},
        {"Authorization": f"Bearer {HASH}"},  # who reads the file of hashes cannot ask
        {"Authorization": "Basic ?"},
        {"Authorization": "Basic " + b64encode(b"\xff:\xff").decode()},
        basic("wrong"),
    ],
)
def test_without_the_key_nothing_but_health_is_answered(headers):
    client = client_of(KEYS=HASH)
    for answer in (client.post("/predict", **FILM, headers=headers), client.get("/metrics", headers=headers)):
        assert (answer.status_code, answer.json["error"]) == (401, "unauthorized")
        challenges = ['Bearer realm="pneumo"', 'Basic realm="pneumo", charset="UTF-8"']
        assert answer.headers.getlist("WWW-Authenticate") == challenges
    page = client.get("/", headers=headers | {"Accept": "text/html"})
    assert (page.status_code, page.headers.getlist("WWW-Authenticate")) == (401, challenges)
    assert client.get("/health/live").status_code == client.get("/health/ready").status_code == 200


def test_programs_send_the_key_and_browsers_ask_for_it():
    client = client_of(KEYS=f"{'00' * 32},{HASH}")
    for headers in ({"Authorization": f"Bearer {KEY}"}, {"Authorization": f"bearer  {KEY}"}, basic(KEY)):
        assert client.post("/predict", **FILM, headers=headers).status_code == 200
        assert client.get("/", headers=headers).status_code == 200


def test_a_refusal_says_whether_there_was_a_key():
    keys = access.read_keys(HASH)
    access.check_key(keys, f"Bearer {KEY}")
    with pytest.raises(KeyRequiredError, match="received none"):
        access.check_key(keys, None)
    with pytest.raises(KeyRequiredError, match="received another"):
        access.check_key(keys, "Bearer x")
