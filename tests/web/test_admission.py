"""How much a worker takes on: what is let in, what is refused unread, and that everything leaves again."""

import re
import threading
from pathlib import Path

import pytest

from app import create_app
from pneumo.errors import BusyError
from pneumo.films import dicom
from pneumo.web import admission
from pneumo.web.admission import Admission
from tests.support.films import SAMPLES, MeanGrey
from tests.support.web import Clock

PATIENCE = 30  # seconds a test waits for a thread before it fails





class Held(MeanGrey):
    """Reads nothing before it is let go."""

    def __init__(self):
        super().__init__()
        self.begun, self.go = threading.Semaphore(0), threading.Event()

    def predict(self, *arguments):
        self.begun.release()
        assert self.go.wait(PATIENCE)
        return super().predict(*arguments)


class Unread:
    """A body that nobody may read."""

    def read(self, *_):
        raise AssertionError("the body was read")

    readline = readinto = read


def test_the_bound_lets_the_last_one_in_be_answered_in_time():
    script = Path(__file__).parents[2].joinpath("static", "page.js").read_text(encoding="utf-8")
    assert int(re.search(r"const PATIENCE = (\d+);", script)[1]) == admission.PATIENCE == 120
    assert dicom.SECONDS == admission.SLOWEST == 20
    assert admission.WAITING == 18  # 3 at a time, 20 s each, 120 s: six turns of three


def test_one_more_than_the_bound_is_refused_until_one_has_left():
    gate = Admission(limit=2, clock=Clock())
    first = gate.enter()
    gate.enter()
    with pytest.raises(BusyError, match=r"at most 2 requests at a time, received more: try again in 1 s\."):
        gate.enter()
    gate.leave(first)
    gate.enter()


def test_when_to_come_again_follows_how_long_requests_stay():
    clock = Clock()
    gate = Admission(limit=1, clock=clock)

    def stay(seconds):
        entered = gate.enter()
        clock.now += seconds
        gate.leave(entered)

    def told():
        entered = gate.enter()
        with pytest.raises(BusyError) as refusal:
            gate.enter()
        gate.leave(entered)  # a stay of 0 s
        return refusal.value.headers["Retry-After"]

    assert told() == "1"
    stay(16)
    assert told() == "2"  # 16 / 8
    stay(18.25)  # after the 0 s before it: 2 x 7/8 = 1.75; 1.75 + (18.25 - 1.75) / 8 = 3.8125
    assert told() == "4"
    stay(1000)
    assert told() == "30"


def test_bodies_on_their_way_take_no_place_and_are_bounded_themselves(monkeypatch):
    monkeypatch.setattr(admission, "ARRIVING", 2)
    seen = []
    gate = Admission(limit=1, watch=lambda *now: seen.append(now))
    with gate.arriving():
        with gate.arriving():
            with pytest.raises(BusyError, match=r"at most 2 uploads at a time"), gate.arriving():
                pass
            place = gate.enter()
        with pytest.raises(BusyError, match=r"at most 1 requests at a time"), gate.arriving():
            pass  # it would be refused when it is there
        gate.leave(place)
        with gate.arriving():
            pass
    assert seen == [(1, 0, 0), (2, 0, 0), (2, 1, 0), (1, 1, 0), (1, 0, 0), (2, 0, 0), (1, 0, 0), (0, 0, 0)]


def test_a_body_that_fails_to_arrive_is_no_longer_on_its_way(monkeypatch):
    monkeypatch.setattr(admission, "ARRIVING", 1)
    gate = Admission()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), gate.arriving():
            _ = 1 / 0


def test_bodies_have_so_much_room_and_give_it_back():
    gate = Admission(room=2**20)
    gate.hold(2**20 - 1)
    gate.hold(1)
    for _ in range(2):
        with pytest.raises(BusyError, match=r"at most 1 MB at a time"):
            gate.hold(1)
    gate.hold(-5)
    gate.hold(5)


def test_only_so_many_are_read_at_a_time_and_all_is_told_to_who_watches():
    seen, gone = [], threading.Event()
    gate = Admission(limit=9, at_once=1, watch=lambda *now: seen.append(now))
    first, second = gate.enter(), gate.enter()

    def read():
        with gate.reading():
            gone.set()

    with gate.reading():
        other = threading.Thread(target=read)
        other.start()
        assert not gone.is_set()
        assert seen == [(0, 1, 0), (0, 2, 0), (0, 1, 1)]
    assert gone.wait(PATIENCE)
    other.join(PATIENCE)
    gate.leave(first)
    gate.leave(second)
    assert seen[3:] == [(0, 2, 0), (0, 1, 1), (0, 2, 0), (0, 1, 0), (0, 0, 0)]


def test_a_film_that_fails_gives_its_turn_back():
    gate = Admission(at_once=1)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), gate.reading():
            _ = 1 / 0


def test_a_full_server_refuses_unread_and_answers_everything_else():
    predictor, film = Held(), SAMPLES[0].read_bytes()
    app = create_app({"PREDICTOR": predictor, "TESTING": True, "WAITING": 2})
    answers = []

    def post(path):
        answers.append(app.test_client().post(path, data=film, content_type="image/jpeg").status_code)

    threads = [threading.Thread(target=post, args=("/predict",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert predictor.begun.acquire(timeout=PATIENCE)
    client = app.test_client()
    unread = {"wsgi.input": Unread(), "CONTENT_LENGTH": str(len(film))}
    body = {"environ_overrides": unread, "content_type": "image/jpeg"}
    refused = client.post("/predict", **body)
    assert (refused.status_code, refused.json["error"], refused.headers["Retry-After"]) == (503, "busy", "1")
    page = client.post("/", **body, headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["Retry-After"]) == (503, "1")
    assert "The server is busy" in page.text
    assert "Send yours again a little later" in page.text
    fragment = client.post("/", **body, headers={"Accept": "text/html", "X-Fragment": "1"})
    assert 'data-error="busy"' in fragment.text
    for path in ("/", "/health/live", "/health/ready", "/metrics", "/openapi.json", "/static/page.js"):
        assert client.get(path).status_code == 200
    predictor.go.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert answers == [200, 200]
    assert client.post("/predict", data=film, content_type="image/jpeg").status_code == 200


def test_refused_and_failed_requests_leave_too(mean_grey):
    app = create_app({"PREDICTOR": mean_grey, "WAITING": 1})
    client = app.test_client()
    for _ in range(3):
        assert client.post("/predict").status_code == 400
        assert client.post("/predict?operating_point=none", data=b"x").status_code == 400
        assert client.post("/", data={"sample": "../app.py"}).status_code == 400
    mean_grey.look = None
    film = SAMPLES[0].read_bytes()
    for _ in range(3):
        assert client.post("/predict", data=film, content_type="image/jpeg").status_code == 500
