"""The page as people use it. What the model says is compared with `/predict`, never with numbers written here."""

import csv
import dataclasses
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from app import create_app
from pneumo.archive.rows import COLUMNS
from tests.browser.conftest import HOSTS
from tests.support.web import KEY

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / "screenshots"
SAMPLES = sorted(ROOT.joinpath("static", "samples").glob("*.jpeg"))
TEXT = {"name": "letter.txt", "mimeType": "text/plain", "buffer": b"Dear doctor"}
PHONE = {"viewport": {"width": 360, "height": 740}}
REFUSED = ("status of 415",)
# all that is pressed, apart from links inside a sentence
TARGETS = "button, summary, input:not([type=checkbox]), label:has(input), select, .back, .top h1 a, tbody th a"


def film(path, name=None):
    return {"name": name or path.name, "mimeType": "image/jpeg", "buffer": path.read_bytes()}


def answer_of(page, site, path):
    """What `/predict` says of a film, without the request's id."""
    reply = page.request.post(f"{site}/predict", multipart={"file": film(path)}).json()
    del reply["request_id"]
    return reply


def choose(page, *files):
    page.set_input_files("#file", list(files))


def names(page):
    return page.locator("#many tbody th:visible").all_inner_texts()


def too_small(page):
    """What is pressed and seen, but smaller than a finger."""
    return page.locator(TARGETS).evaluate_all(
        """targets => targets.filter(target => {
            const { width, height } = target.getBoundingClientRect();
            return width && Math.round(Math.min(width, height)) < 44;
        }).map(target => target.outerHTML)"""
    )


def hold(page):
    """Keep films from reaching the server until the returned function is called."""
    held, released = [], []

    def handle(route):
        if route.request.method == "POST" and not released:
            held.append(route)
        else:
            route.continue_()

    def release():
        released.append(True)
        for route in held:
            route.continue_()

    page.route("**/", handle)
    return release


def test_an_uploaded_film_gets_the_answer_of_predict(open_page, site):
    page = open_page()
    choose(page, film(SAMPLES[0]))
    answer = page.locator(".answer")
    expect(answer).to_have_count(1)
    expected = answer_of(page, site, SAMPLES[0])
    expect(answer.locator("h2 .label")).to_have_text(expected["label"])
    shown = float(answer.locator(".number").inner_text().replace("<", "").replace(">", ""))
    assert shown == pytest.approx(expected["probability"], abs=0.011)
    expect(answer.locator(".triage b")).to_have_text(expected["triage"])
    side = "below" if expected["label"] == "NORMAL" else "above"
    expect(answer.locator(".sentence")).to_contain_text(f"{side} the threshold")
    answer.locator("summary").click()
    received = json.loads(answer.locator("pre").first.inner_text())
    assert received.pop("request_id")
    assert received == expected
    expect(answer.locator("pre").nth(1)).to_have_text(f'curl -F file=@film.jpeg "{site}/predict"')
    expect(page.locator("#status")).to_contain_text(f"{SAMPLES[0].name}: {expected['label']}")
    expect(page.locator(".row")).to_have_count(0)
    expect(page.locator("#many")).to_be_hidden()


def texts_apart(bar):
    """No text of the bar lies on another."""
    return bar.locator("text").evaluate_all(
        """texts => {
            const boxes = texts.map(text => text.getBoundingClientRect());
            return boxes.every((a, i) => boxes.every((b, j) => i >= j ||
                a.right <= b.left || b.right <= a.left || a.bottom <= b.top + 3 || b.bottom <= a.top + 3));
        }"""
    )


def test_the_bar_shows_probability_and_points(open_page, site, predictor):
    page = open_page()
    choose(page, film(SAMPLES[0]))
    bar = page.locator(".answer > .bar")
    expected = answer_of(page, site, SAMPLES[0])
    whole, part = bar.locator(".track").bounding_box(), bar.locator(".fill").bounding_box()
    assert part["width"] / whole["width"] == pytest.approx(expected["probability"], abs=0.005)
    points = predictor.card.rule_out, predictor.card.rule_in
    for line, value in zip(bar.locator("line").all(), (expected["threshold"], *points), strict=False):
        box = line.bounding_box()
        middle = box["x"] + box["width"] / 2
        assert (middle - whole["x"]) / whole["width"] == pytest.approx(value, abs=0.005)
    for word in ("threshold", "rule-out", "rule-in"):
        expect(bar).to_contain_text(word)
    assert texts_apart(bar)


@pytest.mark.parametrize(
    "points", [(0.0002, 0.0003, 0.9998), (0.4, 0.5, 0.6), (0.02, 0.05, 0.1), (0.95, 0.97, 0.99), (0.17, 0.34, 0.94)]
)
@pytest.mark.parametrize("width", [1280, 360])
def test_no_text_of_the_bar_covers_another(open_page, predictor, points, width):
    page = open_page(viewport={"width": width, "height": 740})
    thresholds = dict(zip(("screening", "balanced", "specific"), points, strict=True))
    card = dataclasses.replace(predictor.card, thresholds=thresholds)

    class Moved:
        def predict(self, data, operating_point, force, population=None):
            seen = predictor.predict(data, operating_point, force, population)
            return dataclasses.replace(seen, threshold=thresholds[operating_point], triage="uncertain")

    Moved.card = card
    html = create_app({"PREDICTOR": Moved()}).test_client().post("/", data={"sample": SAMPLES[0].name}).text
    page.locator("#answers").evaluate(
        """(answers, html) =>
            answers.append(new DOMParser().parseFromString(html, "text/html").querySelector(".answer"))""",
        html,
    )
    bar = page.locator(".answer > .bar")
    assert texts_apart(bar)
    rights = bar.locator("text").evaluate_all("texts => texts.map(text => text.getBoundingClientRect().right)")
    assert max(rights) <= width


def test_the_map_lies_on_the_film(open_page):
    page = open_page()
    choose(page, film(SAMPLES[0]))
    plain, under, over = (page.locator(".frame img").nth(i).bounding_box() for i in range(3))
    assert over == pytest.approx(under, abs=1)
    width, height = Image.open(SAMPLES[0]).size
    assert plain["width"] / plain["height"] == pytest.approx(width / height, rel=0.01)
    assert plain["y"] == under["y"]
    assert plain["x"] < under["x"]


def test_slider_and_key_change_the_map(open_page):
    page = open_page()
    choose(page, film(SAMPLES[-1]))
    overlay, slider, toggle = (page.locator(s) for s in (".overlay", ".opacity", ".toggle"))
    expect(overlay).to_have_css("opacity", "1")
    slider.fill("35")
    expect(overlay).to_have_css("opacity", "0.35")
    slider.press("h")  # a slider has no use for letters
    expect(overlay).to_be_hidden()
    expect(toggle).to_have_attribute("aria-pressed", "false")
    expect(page.locator("#said")).to_have_text("Heat map hidden.")
    page.keyboard.press("h")
    expect(overlay).to_be_visible()
    expect(page.locator("#said")).to_have_text("Heat map shown.")
    page.locator("#samples button").first.press("h")  # of no answer: whoever speaks to their computer says many an h
    expect(overlay).to_be_visible()
    toggle.click()
    expect(overlay).to_be_hidden()
    choose(page, film(SAMPLES[0]))  # an answer that comes later is shown in the same way
    expect(overlay).to_have_count(2)
    for i in range(2):
        expect(overlay.nth(i)).to_be_hidden()
    slider.first.press("ArrowRight")  # who moves the slider wants to see the map
    for i in range(2):
        expect(overlay.nth(i)).to_have_css("opacity", "0.4")
        expect(overlay.nth(i)).to_be_visible()


def test_a_sample_film_is_one_click(open_page, site):
    page = open_page()
    buttons = page.locator("#samples button")
    expect(buttons).to_have_count(len(SAMPLES))
    buttons.nth(1).click()
    expect(page.locator(".answer .label").first).to_have_text(answer_of(page, site, SAMPLES[1])["label"])
    expect(page.locator(".answer h2 .name")).to_have_text(SAMPLES[1].name)
    expect(page).to_have_url(f"{site}/")
    expect(page.locator("footer")).to_contain_text("Kermany, Zhang, Goldbaum")


@pytest.mark.parametrize("javascript", [True, False])
def test_the_operating_point_is_a_choice(open_page, predictor, javascript):
    page = open_page(java_script_enabled=javascript)
    choice, card = page.get_by_label("How sure before it says PNEUMONIA?"), predictor.card
    expect(choice).to_have_value(card.default_operating_point)
    for name in ("screening", "specific"):
        choice.select_option(name)
        said = name if javascript else card.default_operating_point
        found = card.contents["operating_points"][said]["internal_test"]["confusion"]
        missed = f"missed {found['fn']} of {found['fn'] + found['tp']} pneumonias"
        alarms = f"called {found['fp']} of {found['fp'] + found['tn']} other films PNEUMONIA"
        expect(page.locator("#gave")).to_contain_text(f"{missed}, {alarms}.")
    page.locator("#samples button").first.click()  # the samples are read at it as well
    answer = page.locator(".answer")
    expect(answer).to_have_count(1)
    expect(answer.locator(".bar .strong")).to_contain_text(f"threshold {predictor.card.rule_in:.2f}")
    expect(choice).to_have_value("specific")
    choose(page, film(SAMPLES[0]))
    if not javascript:
        page.get_by_role("button", name="Read the films").click()
    expect(page.locator(".answer")).to_have_count(2 if javascript else 1)
    for bar in page.locator(".answer > .bar .strong").all():
        expect(bar).to_contain_text(f"threshold {predictor.card.rule_in:.2f}")


def test_many_films_sorted_filtered_and_as_csv(open_page, site):
    page = open_page(expected=REFUSED)
    warned = io.BytesIO()
    Image.open(SAMPLES[1]).convert("L").resize((120, 100)).save(warned, "PNG")
    small = {"name": "small, grey.png", "mimeType": "image/png", "buffer": warned.getvalue()}
    formula = "=1+1.jpeg"
    choose(page, *map(film, SAMPLES), film(SAMPLES[0], formula), small, TEXT)
    count = len(SAMPLES) + 2
    expect(page.locator("#status")).to_have_text(f"{count} of {count + 1} films read, 1 not.")
    expect(page.locator(".answer")).to_have_count(count)
    lines = page.locator("#many tbody tr")
    probabilities = [float(line.get_attribute("data-probability")) for line in lines.all()]
    assert probabilities == sorted(probabilities, reverse=True)
    links = page.locator("#many tbody a")
    assert [link.get_attribute("href")[1:] for link in links.all()] == [
        answer.get_attribute("id") for answer in page.locator(".answer").all()
    ]
    links.last.click()
    expect(page.locator(".answer").last).to_be_in_viewport()

    header = page.get_by_role("columnheader", name="Film").get_by_role("button")
    header.focus()
    page.keyboard.press("Enter")
    expect(page.locator("[data-sort=file]")).to_have_attribute("aria-sort", "ascending")
    assert names(page)[0] == formula
    page.keyboard.press("Enter")
    expect(page.locator("[data-sort=file]")).to_have_attribute("aria-sort", "descending")
    assert names(page)[-1] == formula
    expect(page.locator("[aria-sort]")).to_have_count(1)

    labels = [line.get_attribute("data-label") for line in lines.all()]
    for label in ("PNEUMONIA", "NORMAL"):
        page.get_by_role("radio", name=label).check()
        expect(page.locator("#many tbody tr:visible")).to_have_count(labels.count(label))
        expect(page.locator(".answer:visible")).to_have_count(labels.count(label))
    triages = [line.get_attribute("data-triage") for line in lines.all()]
    for triage in ("rule-in", "uncertain", "rule-out"):
        page.get_by_role("radio", name=triage).check()
        expect(page.locator("#many tbody tr:visible")).to_have_count(triages.count(triage))
        expect(page.locator(".answer:visible")).to_have_count(triages.count(triage))
    page.get_by_role("radio", name="All").check()

    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    table = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"), newline="")))
    assert tuple(table[0]) == COLUMNS
    assert len(table) == count + 1
    by_name = {line["file"]: line for line in table}
    for path in SAMPLES:
        expected = answer_of(page, site, path)
        line = by_name[path.name]
        assert (line["label"], float(line["probability"])) == (expected["label"], expected["probability"])
        assert (float(line["threshold"]), line["warnings"], line["error"]) == (expected["threshold"], "", "")
        assert (line["triage"], line["population"]) == (expected["triage"], expected["population"]["name"])
    assert "'" + formula in by_name
    assert "small" in by_name[small["name"]]["warnings"]
    assert by_name[TEXT["name"]]["label"] == ""
    refused = page.request.post(f"{site}/predict", multipart={"file": TEXT}).json()
    assert by_name[TEXT["name"]]["error"] == refused["detail"]


def test_a_refused_film_says_why_and_can_be_retried(open_page):
    page = open_page(expected=REFUSED)
    choose(page, TEXT)
    row = page.locator(".row.failed")
    expect(row).to_contain_text(
        "Expected a JPEG, PNG, TIFF, WebP, BMP or DICOM film, received 11 bytes of something else."
    )
    expect(row).to_contain_text("Export the film as JPEG or PNG")
    expect(page.locator("#status")).to_contain_text("letter.txt was not read")
    row.get_by_role("button", name="Retry letter.txt").click()
    expect(row.get_by_role("button", name="Retry letter.txt")).to_be_visible()


def test_what_is_no_chest_film_is_refused_and_read_when_asked_for(open_page):
    page = open_page(expected=("status of 422",))
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (300, 400), np.uint8)).save(buffer, "PNG")
    choose(page, {"name": "noise.png", "mimeType": "image/png", "buffer": buffer.getvalue()})
    row = page.locator(".row.failed")
    expect(row).to_contain_text("Expected a frontal chest film, received a picture that does not look like one.")
    row.get_by_role("button", name="Read noise.png anyway").click()
    expect(page.locator(".answer .warnings")).to_contain_text("The answer means nothing.")


def test_a_lost_network_is_named_and_retry_reads_the_film(open_page):
    page = open_page(expected=("ERR_FAILED", "ERR_INTERNET_DISCONNECTED"))
    page.route("**/", lambda route: route.abort() if route.request.method == "POST" else route.continue_())
    choose(page, film(SAMPLES[0]))
    expect(page.locator(".row.failed")).to_contain_text("The server could not be reached")
    page.unroute("**/")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".answer")).to_be_focused()
    expect(page.locator(".row")).to_have_count(0)


def test_a_file_over_the_limit_is_not_even_sent(open_page, tmp_path):
    page = open_page()
    large = tmp_path / "large.tiff"
    with large.open("wb") as stream:
        stream.truncate(33 * 2**20)
    choose(page, large)
    expect(page.locator(".row.failed")).to_contain_text("Expected at most 32 MB, received 33.0 MB.")
    expect(page.locator("#status")).to_contain_text("was not read. Expected at most 32 MB")


def test_a_strange_answer_is_an_error(open_page):
    page = open_page(expected=("status of 502",))
    page.route("**/", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    choose(page, film(SAMPLES[0]))
    expect(page.locator(".row.failed")).to_contain_text("Expected an answer, received something else (status 502).")


def test_a_busy_server_is_asked_again_and_then_reads_the_film(open_page):
    page = open_page(expected=("status of 503",))
    refusals = [{"status": 503, "body": "<p>busy</p>", "headers": {"Retry-After": "1"}}]

    def handle(route):
        if route.request.method == "POST" and refusals:
            route.fulfill(**refusals.pop())
        else:
            route.continue_()

    page.route("**/", handle)
    choose(page, film(SAMPLES[0]))
    expect(page.locator(".row.busy .state")).to_have_text("the server is busy; trying again in 1 s")
    expect(page.locator(".answer")).to_have_count(1)
    expect(page.locator(".row")).to_have_count(0)


def test_a_server_that_stays_busy_is_named_after_a_while(open_page):
    page = open_page(expected=("status of 503",))
    body = '<div class="problem" data-error="busy"><p class="reason">The server is busy.</p></div>'
    page.route("**/", lambda route: route.fulfill(status=503, body=body, headers={"Retry-After": "121"}))
    choose(page, film(SAMPLES[0]))
    expect(page.locator(".row.failed .state")).to_have_text("The server is busy.")
    expect(page.get_by_role("button", name="Retry")).to_be_visible()


def test_a_slow_upload_is_awaited_and_one_that_stands_still_is_not(open_page):
    page = open_page()

    def hurry(route):
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace("PATIENCE = 120;", "PATIENCE = 4;"))

    page.route("**/page.js*", hurry)
    page.reload()
    page.unroute("**/page.js*")
    network = page.context.new_cdp_session(page)

    def throttle(rate):
        network.send(
            "Network.emulateNetworkConditions",
            {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": rate},
        )

    throttle(1)
    choose(page, film(SAMPLES[0]))
    expect(page.locator(".row.failed")).to_contain_text("No answer came within 4 seconds.")
    throttle(SAMPLES[0].stat().st_size / 8)
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".answer, .row.failed")).to_have_count(1)
    expect(page.locator(".answer")).to_have_count(1)


def test_films_go_two_at_a_time_each_with_its_row(open_page):
    page = open_page()
    release = hold(page)
    choose(page, *(film(SAMPLES[0], f"{i}.jpeg") for i in range(5)))
    expect(page.locator(".row")).to_have_count(5)
    expect(page.locator(".row.waiting")).to_have_count(3)
    expect(page.locator("#status")).to_have_text("0 of 5 films read.")
    assert page.locator(".row img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    release()
    expect(page.locator(".answer")).to_have_count(5)


def test_dropped_films_are_read_wherever_they_fall(open_page):
    page = open_page()
    data = page.evaluate_handle(
        """async url => {
            const data = new DataTransfer();
            data.items.add(new File([await (await fetch(url)).blob()], "dropped.jpeg", { type: "image/jpeg" }));
            return data;
        }""",
        f"/static/samples/{SAMPLES[0].name}",
    )
    page.dispatch_event("footer", "drop", {"dataTransfer": data})
    expect(page.locator(".answer h2 .name")).to_have_text("dropped.jpeg")


def test_a_file_name_is_only_text(open_page):
    page = open_page(expected=REFUSED)
    name = '<img src=x onerror="document.title=1">.jpeg'
    choose(page, film(SAMPLES[0], name), TEXT | {"name": name})
    expect(page.locator(".answer h2 .name")).to_have_text(name)
    expect(page.locator(".row.failed .name")).to_have_text(name)
    expect(page).to_have_title(re.compile("pneumo"))


def test_without_javascript(open_page, site):
    page = open_page(java_script_enabled=False, expected=REFUSED)
    page.locator("#samples button").first.click()
    expect(page.locator(".answer .label").first).to_have_text(answer_of(page, site, SAMPLES[0])["label"])
    expect(page.locator(".controls")).to_be_hidden()
    choose(page, *map(film, SAMPLES), TEXT)
    page.get_by_role("button", name="Read the films").click()
    expect(page.locator(".answer")).to_have_count(len(SAMPLES))
    expect(page.locator(".problem")).to_contain_text("received 11 bytes of something else")
    expect(page.locator("#many tbody tr")).to_have_count(len(SAMPLES))
    probabilities = [float(line.get_attribute("data-probability")) for line in page.locator("#many tbody tr").all()]
    assert probabilities == sorted(probabilities, reverse=True)
    choose(page, TEXT)
    page.get_by_role("button", name="Read the films").click()
    expect(page.locator(".problem")).to_contain_text("This kind of file cannot be read.")
    expect(page.locator(".answer")).to_have_count(0)


@pytest.mark.parametrize("javascript", [True, False])
@pytest.mark.parametrize("host", HOSTS)
def test_over_plain_http_by_any_name(open_page, site, host, javascript):
    at = site.replace("127.0.0.1", host)
    # meant for pages with TLS, and ignored without
    page = open_page(at=at, java_script_enabled=javascript, expected=("Cross-Origin-Opener-Policy",))
    page.locator("#samples button").first.click()
    expect(page.locator(".answer")).to_have_count(1)
    page.locator(".answer summary").click()
    command = f'curl -F file=@film.jpeg "{at}/predict"'.replace("$", "%24")  # a shell would take it for a variable
    expect(page.locator(".answer pre").nth(1)).to_have_text(command)


def test_the_command_names_the_address_of_the_page(open_page, site, predictor):
    page = open_page()
    client = create_app({"PREDICTOR": predictor}).test_client()  # asked by a proxy as something else
    html = client.post("/", data={"sample": SAMPLES[0].name}).text
    page.route("**/", lambda route: route.fulfill(body=html, content_type="text/html"))
    for name in ("fragment", "page"):
        if name == "page":
            page.reload()
        else:
            choose(page, film(SAMPLES[0]))
        page.locator(".answer summary").click()
        expect(page.locator(".answer pre").nth(1)).to_have_text(f'curl -F file=@film.jpeg "{site}/predict"')


def test_with_the_key_the_page_is_that_of_a_server_without(open_page, site_with_keys):
    page = open_page(at=site_with_keys, http_credentials={"username": "anyone", "password": KEY})
    choose(page, film(SAMPLES[0]))
    expect(page.locator(".answer")).to_have_count(1)


def test_a_wrong_address_is_a_readable_page(open_page, site):
    page = open_page(expected=("status of 404",))
    page.goto(f"{site}/nothing")
    expect(page.locator(".problem")).to_contain_text("Not Found")
    page.locator("#samples button").first.click()
    expect(page.locator(".answer")).to_have_count(1)


def test_keyboard_alone(open_page):
    page = open_page()
    sample = page.locator("#samples button").nth(2)
    for _ in range(12):
        page.keyboard.press("Tab")
        if sample.evaluate("button => button === document.activeElement"):
            break
    style = sample.evaluate("button => getComputedStyle(button).outlineStyle")
    assert style == "solid"
    page.keyboard.press("Enter")
    expect(page.locator(".answer")).to_be_focused()
    expect(page.locator(".answer .sentence")).to_be_in_viewport()
    page.keyboard.press("Tab")
    expect(page.locator(".opacity")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".overlay")).to_have_css("opacity", "0.95")
    page.keyboard.press("Tab")
    expect(page.locator(".toggle")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".answer dl")).to_be_visible()


@pytest.mark.parametrize("size", [(1280, 800), (360, 740)])
def test_first_sight_needs_no_scrolling(open_page, size):
    page = open_page(viewport={"width": size[0], "height": size[1]})
    for part in ("h1", ".top p", ".not", "#upload", "#samples button >> nth=3", ".credit >> nth=0"):
        box = page.locator(part).first.bounding_box()
        assert box["y"] + box["height"] <= size[1], part


@pytest.mark.parametrize("javascript", [True, False])
def test_a_phone_shows_everything_in_its_width(open_page, javascript):
    page = open_page(**PHONE, java_script_enabled=javascript, expected=REFUSED)

    def fits():
        rights = page.locator("body *").evaluate_all("all => all.map(e => e.getBoundingClientRect().right)")
        assert max(rights) <= 360
        assert too_small(page) == []

    fits()
    long_name = "a_film_with_a_name_that_is_much_longer_than_a_phone_is_wide_and_has_no_space.jpeg"
    choose(page, film(SAMPLES[0], long_name), film(SAMPLES[-1]), TEXT)
    if not javascript:
        page.get_by_role("button", name="Read the films").click()
    expect(page.locator(".answer")).to_have_count(2)
    expect(page.locator(".reason, .row.failed")).to_have_count(1)
    page.locator("summary").first.click()
    fits()


def test_print_shows_film_map_and_numbers(open_page):
    page = open_page(color_scheme="dark")
    page.add_init_script("window.print = () => { document.title = document.querySelectorAll('.chosen').length }")
    page.reload()
    choose(page, *map(film, SAMPLES[:2]))
    expect(page.locator(".answer")).to_have_count(2)
    page.locator(".opacity").first.fill("0")
    page.locator(".opacity").first.press("h")
    expect(page.locator(".overlay").first).to_be_hidden()
    page.emulate_media(media="print")
    expect(page.locator(".overlay").first).to_have_css("opacity", "1")  # its caption is printed, too
    for part in (".frame img >> nth=0", ".overlay", ".label", ".number", ".triage", ".bar", ".print-only"):
        expect(page.locator(".answer").first.locator(part).first).to_be_visible()
    for part in ("#upload", "#samples", ".controls >> nth=0", "summary >> nth=0", "footer"):
        expect(page.locator(part)).to_be_hidden()
    last = page.locator(".answer .print-only").first
    for words in ("An aid for a doctor", "version", "SHA-256", "threshold", "rule-out", "rule-in", "UTC"):
        expect(last).to_contain_text(words)
    expect(page.locator("body")).to_have_css("background-color", "rgb(255, 255, 255)")
    pages = re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4"))
    assert len(pages) == 3  # the table, then a page a film
    page.emulate_media(media="screen")
    page.locator(".answer .print").first.click()
    expect(page).to_have_title("1")


def contrast(first, second):
    """WCAG's contrast of two colours, written as #rrggbb."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_aa(open_page, scheme):
    page = open_page(color_scheme=scheme)
    root = page.locator("html")
    colour = {
        name: root.evaluate("(root, name) => getComputedStyle(root).getPropertyValue(name)", f"--{name}")
        for name in ("ground", "raised", "ink", "faint", "accent", "on-accent", "edge")
    }
    for ground in ("ground", "raised"):
        for text in ("ink", "faint", "accent"):
            assert contrast(colour[text], colour[ground]) >= 4.5, (text, ground)
        assert contrast(colour["edge"], colour[ground]) >= 3
    assert contrast(colour["on-accent"], colour["accent"]) >= 4.5
    assert (contrast(colour["ground"], "#000000") < 2) == (scheme == "dark")


def test_what_a_film_without_colour_and_with_warnings_says(predictor):
    class Cautious:
        card = predictor.card

        def predict(self, data, operating_point, force, population=None):
            seen = predictor.predict(data, operating_point, force, population)
            changes = {"strengths": np.zeros_like(seen.strengths), "warnings": ["The film is <doubtful>."]}
            return dataclasses.replace(seen, **changes, probability=0.3999, threshold=0.4, label="NORMAL")

    client = create_app({"PREDICTOR": Cautious()}).test_client()
    html = client.post("/", data={"file": (io.BytesIO(SAMPLES[0].read_bytes()), "a.jpeg")}).text
    assert "No region raised the probability more than in normal films." in html
    assert 'class="opacity"' not in html
    assert "The film is &lt;doubtful&gt;." in html
    assert "1 warning<" in html
    assert "0.3999</b>, below the threshold 0.4000." in html  # two digits would say 0.40, below 0.40


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_take_screenshots(open_page, width, scheme):
    viewport = {"width": width, "height": 800 if width > 360 else 740}
    page = open_page(viewport=viewport, color_scheme=scheme, expected=REFUSED)
    SCREENSHOTS.mkdir(exist_ok=True)

    def shoot(state, **options):
        page.screenshot(path=SCREENSHOTS / f"{state}-{width}-{scheme}.png", **options)

    expect(page.locator("body")).to_have_css("color-scheme", "light dark")
    shoot("empty")
    release = hold(page)
    choose(page, *map(film, SAMPLES))
    expect(page.locator(".row.sending, .row.reading")).to_have_count(2)
    shoot("working")
    release()
    expect(page.locator(".answer")).to_have_count(len(SAMPLES))
    choose(page, TEXT)
    expect(page.locator(".row.failed")).to_have_count(1)
    shoot("many", full_page=True)
    page.reload()
    choose(page, TEXT)
    expect(page.locator(".row.failed")).to_have_count(1)
    shoot("error")
    page.reload()
    page.locator("#samples button").last.click()
    expect(page.locator(".answer")).to_be_focused()
    shoot("answer")
