"""The worklist's pages: there only for who has a key, and only where a node's state folder is named."""

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from app import create_app
from pneumo.errors import SettingError
from pneumo.node.header import read_header
from pneumo.node.node import Node
from pneumo.node.store import DATABASE, Store, format_time
from tests.support.films import MeanGrey
from tests.support.hospital import film
from tests.support.web import HASH, KEY

KEYS = {"Authorization": f"Bearer {KEY}"}
FOUR_DAYS_AGO = format_time(datetime.now(UTC) - timedelta(days=4))


@pytest.fixture
def store(tmp_path):
    """One film that was read, one that was refused, one that waits."""
    store, model = Store(tmp_path / "state"), MeanGrey(threshold=0.3)
    node = Node(store, model, sender=None)
    for number, elements in ((1, {}), (2, {"ViewPosition": "LL"}), (3, {"AccessionNumber": ""})):
        data = film(number, **elements)
        store.receive(data, read_header(data), "XRAY")
        if number < 3:
            node.read_next()
    yield store
    store.close()


@pytest.fixture
def client(store, tmp_path):
    config = {"PREDICTOR": MeanGrey(), "TESTING": True, "KEYS": HASH, "NODE_STATE": str(tmp_path / "state")}
    return create_app(config).test_client()


def test_it_is_off_by_default_and_needs_keys(tmp_path):
    plain = {"PREDICTOR": MeanGrey(), "TESTING": True}
    assert create_app(plain).test_client().get("/worklist/").status_code == 404
    with pytest.raises(SettingError, match="Expected PNEUMO_KEYS"):
        create_app(plain | {"NODE_STATE": str(tmp_path)})
    with pytest.raises(SettingError, match="PNEUMO_NODE_STATE"):
        create_app(plain | {"KEYS": HASH, "NODE_STATE": "/dev/null/state"})


@pytest.mark.parametrize(("method", "path"), [("get", ""), ("get", "1.2.3.4.1.3"), ("post", "1.2.3.4.1.3")])
def test_nobody_without_a_key_sees_or_says_anything(client, store, method, path):
    assert getattr(client, method)(f"/worklist/{path}", data={"verdict": "agree"}).status_code == 401
    assert store.find("1.2.3.4.1.3").verdict is None


def test_the_list_links_each_film(client):
    page = client.get("/worklist/", headers=KEYS).text
    assert "3 films waiting" in page
    for words in ('href="/worklist/1.2.3.4.1.3">A1</a> P1', "refused", "not read yet", "no accession number"):
        assert words in page
    assert "1 received, 1 read, 1 refused, 0 sent, 0 failed." in page


def test_older_films_are_a_link_away(client, store, tmp_path):
    database = sqlite3.connect(tmp_path / "state" / DATABASE)
    with database:
        database.execute("UPDATE films SET received = ?, state = 'sent' WHERE uid = '1.2.3.4.1.3'", (FOUR_DAYS_AGO,))
    database.close()
    page = client.get("/worklist/", headers=KEYS).text
    assert "2 films waiting" in page
    assert '<a href="/worklist/?days=30">Show the last 30 days</a>: 1 older film without a verdict.' in page
    page = client.get("/worklist/?days=30", headers=KEYS).text
    assert ("3 films waiting" in page, "older film" in page) == (True, False)


def test_days_are_a_number(client):
    for days in ("0", "-1", "many", "99999999999", ""):
        answer = client.get(f"/worklist/?days={days}", headers=KEYS)
        assert (answer.status_code, "Expected days to be a whole number from 1 to 36500" in answer.text) == (400, True)


def test_a_film_s_page(client):
    page = client.get("/worklist/1.2.3.4.1.3", headers=KEYS).text
    assert "I agree: " in page
    assert 'src="data:image/png;base64,' in page
    assert "mean-grey, version 1" in page
    refused = client.get("/worklist/1.2.3.4.2.3", headers=KEYS).text
    assert "This is not a frontal chest film." in refused
    assert "I agree" not in refused
    assert "Not read yet" in client.get("/worklist/1.2.3.4.3.3", headers=KEYS).text
    assert client.get("/worklist/1.2.3.4.9.3", headers=KEYS).status_code == 404


def test_a_verdict_leaves_the_list_and_enters_the_month(client, store):
    answer = client.post("/worklist/1.2.3.4.1.3", data={"verdict": "disagree"}, headers=KEYS)
    assert (answer.status_code, answer.location) == (303, "/worklist/")
    assert store.find("1.2.3.4.1.3").verdict == "disagree"
    page = client.get("/worklist/", headers=KEYS).text
    assert "2 films waiting" in page
    assert '<th scope="row">PNEUMONIA</th><td>0</td><td>1</td>' in page
    assert "specificity 0.00 (0.00 to 0.79)" in page
    assert store.read_log()[-1]["event"] == "disagree"


def test_a_verdict_of_another_site_or_word_is_refused(client, store):
    path, verdict = "/worklist/1.2.3.4.1.3", {"verdict": "agree"}
    assert client.post(path, data=verdict, headers=KEYS | {"Origin": "https://other.example"}).status_code == 403
    assert client.post(path, data={"verdict": "perhaps"}, headers=KEYS).status_code == 400
    assert client.post("/worklist/1.9", data=verdict, headers=KEYS).status_code == 404
    assert store.find("1.2.3.4.1.3").verdict is None
