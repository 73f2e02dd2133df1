"""How many requests with films a worker takes: who is let in, who is refused, and that everybody leaves again."""

import re
import threading
from pathlib import Path

import pytest

from app import create_app
from pneumo.errors import BusyError
from pneumo.films import dicom
from pneumo.web import admission
from pneumo.web.admission import FilmQueue
from tests.support.films import SAMPLES, MeanGrey

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


def test_the_bound_lets_the_last_one_in_be_answered_in_time():
    script = Path(__file__).parents[2].joinpath("static", "page.js").read_text(encoding="utf-8")
    assert int(re.search(r"const PATIENCE = (\d+);", script)[1]) == admission.PATIENCE == 120
    assert dicom.SECONDS == admission.SLOWEST == 20
    assert admission.WAITING == 18  # 3 at a time, 20 s each, 120 s: six turns of three


def test_one_more_than_the_bound_is_refused_until_one_has_left():
    queue = FilmQueue(limit=2)
    queue.enter()
    queue.enter()
    with pytest.raises(BusyError, match=r"at most 2 requests at a time, received more: try again in 2 s\.") as refusal:
        queue.enter()
    assert refusal.value.headers == {"Retry-After": "2"}
    queue.leave()
    queue.enter()


def test_films_are_read_in_the_order_they_came_one_at_a_time_and_every_change_is_told():
    seen, order, go = [], [], threading.Event()
    queue = FilmQueue(limit=9, at_once=1, watch=lambda *now: seen.append(now))
    begun = threading.Event()

    def read(name):
        begun.set()
        assert go.wait(PATIENCE)
        order.append(name)

    threads = []
    for number, name in enumerate("abc", start=1):
        queue.enter()
        threads.append(threading.Thread(target=queue.read, args=(read, name)))
        threads[-1].start()
        assert begun.wait(PATIENCE)
        while queue._readers._work_queue.qsize() < number - 1:  # until its turn is behind the others'
            threading.Event().wait(0.01)
    assert seen == [(1, 0), (0, 1), (1, 1), (2, 1)]  # (waiting, reading)
    go.set()
    for thread in threads:
        thread.join(PATIENCE)
        queue.leave()
    assert order == ["a", "b", "c"]
    assert seen[-1] == (0, 0)
    assert max(reading for _, reading in seen) == 1


def test_a_film_that_fails_gives_its_turn_back_and_says_why():
    queue = FilmQueue(at_once=1)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            queue.read(lambda: 1 / 0)
    assert queue.read(lambda a, b: a - b, 3, b=1) == 2


def test_a_full_server_refuses_films_and_answers_everything_else():
    predictor, film = Held(), SAMPLES[0].read_bytes()
    app = create_app({"PREDICTOR": predictor, "TESTING": True, "WAITING": 2})
    answers, body = [], {"data": film, "content_type": "image/jpeg"}

    def post():
        answers.append(app.test_client().post("/predict", **body).status_code)

    threads = [threading.Thread(target=post) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert predictor.begun.acquire(timeout=PATIENCE)
    client = app.test_client()
    refused = client.post("/predict", **body)
    assert (refused.status_code, refused.json["error"], refused.headers["Retry-After"]) == (503, "busy", "2")
    page = client.post("/", **body, headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["Retry-After"]) == (503, "2")
    assert "The server is busy" in page.text
    assert "Send yours again a little later" in page.text
    fragment = client.post("/", **body, headers={"Accept": "text/html", "X-Fragment": "1"})
    assert 'data-error="busy"' in fragment.text
    for path in ("/", "/health/live", "/health/ready", "/openapi.json", "/static/page.js"):
        assert client.get(path).status_code == 200
    counted = client.get("/metrics").text
    assert 'pneumo_refusals_total{error="busy"} 3.0' in counted
    assert 'pneumo_requests_inside{state="reading"} 2.0' in counted
    predictor.go.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert answers == [200, 200]
    assert client.post("/predict", **body).status_code == 200


def test_refused_and_failed_requests_leave_too(mean_grey):
    client = create_app({"PREDICTOR": mean_grey, "WAITING": 1}).test_client()
    for _ in range(3):
        assert client.post("/predict").status_code == 400
        assert client.post("/predict?operating_point=none", data=b"x").status_code == 400
        assert client.post("/", data={"sample": "../app.py"}).status_code == 400
    mean_grey.look = None
    film = SAMPLES[0].read_bytes()
    for _ in range(3):
        assert client.post("/predict", data=film, content_type="image/jpeg").status_code == 500
