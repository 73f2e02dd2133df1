"""benchmarks/: what makes figures of measurements, by hand; and a short look at the real server, without TensorFlow."""

import copy
import json
import socket
import threading

import pytest

from benchmarks import batch, report
from benchmarks.disk import closure, disk, pinned, served_files
from benchmarks.load import READY, ROOT, Client, film_request, pneumo_server, put_under_load, running, steady
from benchmarks.serving import CLIENTS, configurations, in_turns
from pneumo import __version__
from pneumo.reports import document
from pneumo.reports.pages import render


def load(rates, p95):
    return [
        {"clients": n, "films_a_second": rate, "median_ms": one / 2, "p95_ms": one}
        for n, rate, one in zip(CLIENTS, rates, p95, strict=True)
    ]


def configuration(workers, threads, alone, rate):
    one = {"clients": 1, "films_a_second": 9.0, "median_ms": alone, "p95_ms": alone}
    eight = {"clients": 8, "films_a_second": rate, "median_ms": 90.0, "p95_ms": 99.0}
    return {"workers": workers, "threads": threads, "load": [one, eight], "resident_mb": 100, "peak_mb": 120}


# Every target is just met: 50 / 10 = 5 naive servers at 2 clients, 12 / 10 and 13.5 / 10 of bare, and
# 1.3 × 8 × 20 ms / 2 cores = 104 ms.
RESULT = {
    "machine": "x86_64, 2 cores, 2 threads used",
    "processor": "a processor",
    "cores": 2,
    "default": {"workers": 1, "threads": 2},
    "model": {"name": "a-model", "version": "1.2.3"},
    "films": 4,
    "rounds": 60,
    "plan": {"loads": 3, "seconds": 3, "naive_seconds": 7},
    "median_ms": {"bare invocation": 10.0, "served": 12.0, "served with heat map": 13.5, "naive server": 100.0},
    "p95_ms": {"bare invocation": 11.0, "served": 13.0, "served with heat map": 15.0, "naive server": 120.0},
    "ratio_to_bare": {"bare invocation": 1.0, "served": 1.2, "served with heat map": 1.35, "naive server": 10.0},
    "bare_ms_by_threads": {"1": 16.0, "2": 10.0},
    "ready_seconds": 0.5,
    "first_answer_seconds": {
        "pneumo": {"median": 1.5, "slowest": 1.75, "starts": 5},
        "naive": {"median": 6.5, "slowest": 7.0, "starts": 3},
    },
    "worker_resident_mb": 110,
    "memory": {
        "pneumo": {"resident_mb": 110, "peak_mb": 250},
        "naive": {"resident_mb": 800, "peak_mb": 850},
    },
    "disk": {"pneumo": {"packages_mb": 200, "own_mb": 17}, "naive": {"packages_mb": 2000, "own_mb": 44}},
    "load": {
        "pneumo": load((60, 50, 70, 70, 70), (20, 40, 60, 104, 200)),
        "naive": load((10, 10, 10, 10, 10), (100, 200, 400, 800, 1600)),
    },
    "configurations": [
        configuration(1, 1, 20.0, 40.0),
        configuration(1, 2, 12.0, 60.0),
        configuration(2, 1, 20.0, 80.0),
    ],
}


def worse(*keys, value):
    """RESULT with another value somewhere."""
    result = copy.deepcopy(RESULT)
    place = result
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return result


def test_targets_are_met_at_their_limits():
    assert [words[1:] for words in report.targets(RESULT)] == [
        ("≥ 5", "5.00", True),
        ("≤ 20.0 %", "20.0 %", True),
        ("≤ 35.0 %", "35.0 %", True),
        ("≤ 104 ms", "104 ms", True),
        ("≤ 1.5 s", "1.5 s", True),
        ("≤ 250 MB", "250 MB", True),
    ]


@pytest.mark.parametrize(
    ("number", "keys", "value"),
    [
        (0, ("load", "pneumo", 4, "films_a_second"), 49.0),
        (1, ("ratio_to_bare", "served"), 1.201),
        (2, ("ratio_to_bare", "served with heat map"), 1.36),
        (3, ("load", "pneumo", 3, "p95_ms"), 104.1),
        (3, ("configurations", 0, "load", 0, "median_ms"), 19.9),  # films that cost less must also queue for less
        (3, ("cores",), 4),
        (4, ("first_answer_seconds", "pneumo", "median"), 1.51),
        (5, ("memory", "pneumo", "peak_mb"), 251),
    ],
)
def test_a_target_is_missed(number, keys, value):
    met = [row[-1] for row in report.targets(worse(*keys, value=value))]
    assert met == [index != number for index in range(6)]


def test_page_by_hand():
    page = report.page(RESULT, {})
    for line in (
        "| Overhead over the bare invocation | ≤ 20.0 % | 20.0 % | yes |",
        "| 95th percentile at 8 clients: 1.3 × 8 × 20.0 ms / 2 cores | ≤ 104 ms | 104 ms | yes |",
        "| naive server | 100.0 | 120.0 | 10.00 |",
        "| 2 | 50 | 40 | 10 | 200 | 5.0 |",
        "| installed for serving | 217 MB | 2044 MB |",
        "| the slowest start | 1.75 s of 5 | 7.0 s of 3 |",
        "| 1 × 2, the default | 12.0 | 60.0 | 90.0 | 99.0 | 1 × 100 |",
        "| 16 | 16 × 2 | 1760 |",
    ):
        assert line in page.splitlines(), line
    assert "The default, 1 × 2, reads 75 % of the films a second that the best, 2 × 1, reads" in page
    assert "answers a film that is alone in 12.0 ms; the quickest, 1 × 2, in 12.0 ms." in page
    assert "| 251 MB | **no** |" in report.page(worse("memory", "pneumo", "peak_mb", value=251), {})


def eight(number, **figures):
    """RESULT whose configuration of that number answers eight clients like this; two workers by default."""
    result = worse("default", value={"workers": 2, "threads": 2})
    result["configurations"].append(configuration(2, 2, 11.0, 80.0))
    result["configurations"][number]["load"][1].update(figures)
    return result


def test_page_says_of_threads_what_its_table_says():
    # measured once: 2 × 2 against 2 × 1 was quicker for one client, slower in all three for eight
    result = eight(2, median_ms=390.2, p95_ms=490.0, films_a_second=19.8)
    result["configurations"][3]["load"][1].update(median_ms=413.3, p95_ms=576.0, films_a_second=18.2)
    page = report.page(result, {}).splitlines()
    at = page.index("Measured with 2 worker(s), 2 threads each against one.")
    assert page[at + 1 : at + 3] == [
        "One client: quicker (median 11.0 against 20.0 ms).",
        "Eight clients: slower (median 413.3 against 390.2 ms, 95 % 576.0 against 490.0 ms, "
        "18.2 against 19.8 films a second).",
    ]
    assert "quicker, a lone one too" not in "".join(page)


@pytest.mark.parametrize(
    ("figures", "found"),
    [
        ({}, "the same"),
        ({"median_ms": 91.0}, "quicker"),  # of one thread: so two are quicker
        ({"films_a_second": 81.0}, "slower"),
        ({"films_a_second": 79.0}, "quicker"),
        ({"median_ms": 89.0, "films_a_second": 79.0}, "quicker in part, slower in part"),
    ],
)
def test_eight_clients_with_more_threads(figures, found):
    assert report.what_threads_gain(eight(2, **figures))[2].startswith(f"Eight clients: {found} (median 90.0 against")


def test_threads_that_were_not_measured_beside_one_are_not_spoken_of():
    assert report.what_threads_gain(worse("default", value={"workers": 4, "threads": 2})) == []
    one = report.what_threads_gain(worse("default", value={"workers": 1, "threads": 1}))
    assert one[:2] == [
        "Measured with 1 worker(s), 2 threads each against one.",
        "One client: quicker (median 12.0 against 20.0 ms).",
    ]


def test_missed_targets_are_counted_and_kept(tmp_path):
    assert report.missed(RESULT) == (0, 6)
    report.keep(worse("memory", "pneumo", "peak_mb", value=251), tmp_path)
    assert json.loads((tmp_path / "serving.json").read_text())["targets"] == {"missed": 1, "of": 6}


def pair(films, seconds=0.05, worked=0.1, bare_seconds=0.048, bare_worked=0.096, megabytes=110.0):
    return batch.Pair(films, seconds, worked, bare_seconds, bare_worked, start_seconds=0.5, megabytes=megabytes)


def test_batch_by_hand():
    # shares 0.96, 0.96, 0.9, 0.98: median 0.96; a machine that slows down between the pairs does not matter
    slow = pair(10, 0.1, 0.2, 0.09, 0.192, 112.0), pair(20, 0.1, 0.2, 0.098, 0.192, 111.0)
    found = batch.summary([pair(10), pair(20), *slow])
    assert (found["films"], found["rounds"], found["peak_resident_mb"]) == ([10, 20], 2, [112, 111])
    assert found["share_of_all_cores"] == 0.96
    assert (found["films_a_second"], found["processor_ms_a_film"]) == (13.3, 150.0)  # 1 / 0.075 s
    assert (found["bare_films_a_second"], found["bare_processor_ms_a_film"]) == (14.5, 144.0)  # 1 / 0.069 s


@pytest.mark.parametrize("figures", [{"bare_seconds": 0.0532}, {"bare_worked": 0.1064}])  # 1.064 of what a film took
def test_a_film_that_took_less_than_its_bare_part_is_not_written(figures, tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "ROOT", tmp_path)
    monkeypatch.setattr(batch, "pairs", lambda films: [pair(films, **figures), pair(2 * films, **figures)])
    with pytest.raises(SystemExit, match=r"received .*1\.064 of .*Nothing was written"):
        batch.main(10)
    assert not list(tmp_path.iterdir())


def test_batch_leaves_out_the_start_and_measures_bare_on_both_sides(monkeypatch):
    class Floor:
        bare = iter([9.0, 0.04, 0.06, 0.08])  # the first is for warming up

        def measure(self, films):
            return (seconds := next(self.bare)), 2 * seconds

    monkeypatch.setattr(batch, "Floor", Floor)
    monkeypatch.setattr(batch, "ROUNDS", 1)
    monkeypatch.setattr(batch, "cores", lambda: 2)
    # two films of 0.1 s side by side and a start of half a second; then 0.05 s a film
    monkeypatch.setattr(batch, "predict", lambda films: (0.5 + 0.05 * films, 0.5 + 0.1 * films, 100.0 + films))
    one, two = batch.pairs(10)
    assert (one.films, two.films, one.megabytes, two.megabytes) == (10, 20, 110.0, 120.0)
    values = (one.seconds, one.worked, two.seconds, one.bare_seconds, two.bare_seconds, two.bare_worked)
    assert values == pytest.approx((0.05, 0.1, 0.05, 0.05, 0.07, 0.14))
    assert one.start_seconds == pytest.approx(0.6)


def test_bare_films_and_the_command_over_two():
    seconds, worked = batch.Floor().measure(2)
    assert min(seconds, worked) > 0
    seconds, worked, megabytes = batch.predict(2)
    assert min(seconds, worked) > 0
    assert megabytes > 20


FOLDER_OF_FILMS = {"machine": "m", "model": {"name": "a-model", "version": "1.2.3"}, "program": "4.5.6"} | {
    "films": [10, 20],
    "rounds": 2,
    "films_a_second": 13.3,
    "bare_films_a_second": 14.5,
    "processor_ms_a_film": 150.0,
    "bare_processor_ms_a_film": 144.0,
    "share_of_all_cores": 0.96,
    "target": 0.9,
    "peak_resident_mb": [112, 111],
}


def test_page_has_the_folder_of_films(tmp_path):
    (tmp_path / "serving.json").write_text(json.dumps(RESULT))
    (tmp_path / "batch.json").write_text(json.dumps(FOLDER_OF_FILMS))
    report.write(tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "| films a second | 13.3 | 14.5 |\n| ms of a processor, a film | 150.0 | 144.0 |\n" in page
    assert "model a-model 1.2.3 in pneumo 4.5.6, m. `pneumo predict` read 10 films, and 20, 2 times each" in page
    assert "keeps 96 % of the pace (aimed at: 90 %), the median of all pairs, and held 112 MB and 111 MB at" in page


def test_page_names_the_program_where_it_is_known():
    assert "Model a-model 1.2.3, 2 cores" in report.page(RESULT, {})
    page = report.page(RESULT | {"program": "4.5.6"}, {"other": RESULT})
    assert "Model a-model 1.2.3 in pneumo 4.5.6, 2 cores" in page
    assert "| a processor; model 1.2.3 in pneumo 4.5.6 | 10.0 |" in page
    assert "| a processor; model 1.2.3 | 10.0 |" in page


@pytest.mark.parametrize("name", ["serving", "batch", "sizes"])
def test_committed_figures_are_of_this_program_and_within_reason(name):
    found = json.loads((report.FOLDER / f"{name}.json").read_text())
    if "program" in found:
        assert found["program"].split(".")[:2] == __version__.split(".")[:2]
    if "targets" in found:
        assert (found["targets"]["missed"], found["targets"]["of"]) == report.missed(found)
    if "bare_films_a_second" in found:
        assert found["share_of_all_cores"] <= batch.MOST


def test_page_compares_processors():
    quick = worse("processor", value="quick") | {"median_ms": RESULT["median_ms"] | {"bare invocation": 2.0}}
    lines = report.page(RESULT, {"quick": quick}).splitlines()
    row = next(number for number, line in enumerate(lines) if line.startswith("| processor | bare ms |"))
    assert lines[row + 2 : row + 4] == [
        "| a processor; model 1.2.3 | 10.0 | 12.0 | 13.5 | 1.20 | 1.35 | 3.5 | 5.00 | 104 of 104 ms |",
        "| quick; model 1.2.3 | 2.0 | 12.0 | 13.5 | 1.20 | 1.35 | 11.5 | 5.00 | 104 of 104 ms |",
    ]


def test_the_last_run_of_each_processor_is_kept(tmp_path):
    for processor, cores in (("a", 1), ("b", 2), ("b", 3), ("a", 4), ("c", 5)):
        report.keep(RESULT | {"processor": processor, "cores": cores}, tmp_path)
    assert json.loads((tmp_path / "serving.json").read_text())["cores"] == 5
    assert {name: kept["cores"] for name, kept in report.other_processors(tmp_path).items()} == {"a": 4, "b": 3}


def test_write_makes_page_and_the_same_plot_each_time(tmp_path):
    (tmp_path / "serving.json").write_text(json.dumps(RESULT))
    report.write(tmp_path)
    assert (tmp_path / "README.md").read_text() == report.page(RESULT, {})
    first = (tmp_path / "throughput.svg").read_bytes()
    assert first.lstrip().startswith(b"<?xml")
    report.write(tmp_path)
    assert (tmp_path / "throughput.svg").read_bytes() == first


def test_committed_page_is_of_the_committed_figures():
    assert (report.FOLDER / "README.md").read_text() == report.page(
        document.read_measured("serving"), report.other_processors(), report.folder_figures()
    )


def test_speed_in_the_results():
    section = render("_speed", serving=RESULT | {"targets": {"missed": 3, "of": 6}})
    assert "| served with heat map | 13.5 | 1.35 |" in section.splitlines()
    assert "Eight clients get 70 films a second, 95 % of them within 104 ms; from the naive server" in section
    assert "Ready 0.5 s after the start, a first answer after 1.5 s; a worker holds 110 MB. Of 6 targets" in section
    assert "Of 6 targets 3 are missed: [benchmarks](../benchmarks/README.md)" in section


def test_steady_leaves_out_beginning_and_end():
    # Two clients: 0.5 and 0.75 find a shorter queue; the first client leaves at 2.0; 3.0 has the processor for itself.
    spans = [[(0.0, 0.5), (0.5, 1.25), (1.25, 2.0)], [(0.0, 0.75), (0.75, 1.5), (1.5, 3.0)]]
    took, rate = steady(spans)
    assert took == [0.75, 0.75, 0.75]
    assert rate == 3 / (2.0 - 0.75)
    with pytest.raises(ValueError, match="received none"):
        steady([[(0.0, 1.0)], [(0.0, 2.0)]])


def test_in_turns_measures_all_but_the_first_of_each_turn():
    calls = []
    times = in_turns({"a": lambda n: calls.append(("a", n)), "b": lambda n: calls.append(("b", n))}, 2, 2)
    one = {name: [(name, 0), (name, 0), (name, 1)] for name in "ab"}
    assert calls == one["b"] + one["a"] + one["a"] + one["b"]
    assert {name: len(values) for name, values in times.items()} == {"a": 4, "b": 4}


def test_configurations():
    assert configurations(1) == [(1, 1)]
    assert configurations(2) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert set(configurations(4)) == {(1, 1), (1, 2), (2, 1), (1, 4), (2, 2), (4, 1), (2, 4), (4, 2)}


def test_disk_counts_what_is_installed_and_served(tmp_path):
    assert closure(("jinja2",)) == {"jinja2", "markupsafe"}
    assert {"ai-edge-litert", "numpy", "pillow"} < pinned()
    assert not pinned() & {"tensorflow", "keras", "matplotlib"}
    (tmp_path / "a").write_bytes(bytes(3_000_000))
    assert disk(set(), [tmp_path / "a"]) == {"packages_mb": 0, "own_mb": 3}
    served = {path.relative_to(ROOT).as_posix() for path in served_files()}
    assert {"app.py", "gunicorn.conf.py", "pneumo/served.py", "templates/index.html"} < served
    assert {path.rsplit(".", 1)[1] for path in served if path.startswith("models/")} == {"json", "tflite", "npz"}
    assert not [path for path in served if path.startswith(("benchmarks", "tests", "models/vgg16-chest-xray.base"))]


def test_client_takes_answers_in_pieces_and_notices_cut_ones():
    head = b"HTTP/1.1 %s\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"
    answers = [(head % b"200 OK", b"fi", b"lm"), (head % b"503 Busy", b"busy"), (head % b"200 OK", b"fi")]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            for pieces in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1000)
                    for piece in pieces:
                        connection.sendall(piece)

        thread = threading.Thread(target=serve)
        thread.start()
        client = Client(listener.getsockname()[1])
        assert client.ask(READY) == b"film"
        with pytest.raises(RuntimeError, match=r"received HTTP.* 503 Busy: busy"):
            client.ask(READY)
        with pytest.raises(ConnectionError, match="received a part"):
            client.ask(READY)
        client.close()
        thread.join()


def test_a_server_that_ends_says_why(tmp_path):
    with pytest.raises(RuntimeError, match="nowhere"), running(["nowhere:app"], tmp_path, {}, [READY]):
        pass


def test_the_real_server_under_a_short_load(monkeypatch):
    monkeypatch.setenv("PNEUMO_MODEL", "nowhere")  # settings around a benchmark do not reach what it measures
    film = (ROOT / "static" / "samples" / "IM-0509-0001.jpeg").read_bytes()
    with pneumo_server([READY, film_request(film)], workers=2, threads=1) as server:
        ready, answered = server.answered
        assert 0 < ready < answered
        client = Client(server.port)
        for heatmap in (False, True):
            answer = json.loads(client.ask(film_request(film, heatmap, keep=True)))
            assert answer["label"] == "NORMAL"
            assert ("heatmap" in answer) == heatmap
        client.close()
        took, rate = steady(put_under_load(server.port, [film_request(film)], clients=2, seconds=0.3))
        assert rate > 0
        assert all(seconds > 0 for seconds in took)
        memory = server.memory()
        assert 20 < memory["resident_mb"] <= memory["peak_mb"]
    assert server.process.returncode == 0
