"""Debian's Chromium, driven by Playwright, in front of the real app with the shipped model."""

import shutil
import threading
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect, sync_playwright
from werkzeug.serving import make_server

from app import create_app
from tests.support.web import HASH

HOSTS = ("lan.example", "my_server", "a$b.example")  # this machine, but to a browser as any other
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@contextmanager
def served(**config):
    server = make_server("127.0.0.1", 0, create_app(config), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="session")
def site(predictor):
    with served(PREDICTOR=predictor) as site:
        yield site


@pytest.fixture
def site_with_keys(predictor):
    with served(PREDICTOR=predictor, KEYS=HASH) as site:
        yield site


@pytest.fixture(scope="session")
def browser():
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.fail("Expected Chromium for the browser tests, found none; Debian: apt install chromium", pytrace=False)
    expect.set_options(timeout=30_000)  # the machine may be busy with other things
    with sync_playwright() as playwright:
        rules = "--host-resolver-rules=" + ",".join(f"MAP {host} 127.0.0.1" for host in HOSTS)
        browser = playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS.split(), rules])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, site):
    """Open the page; afterwards there must have been no complaint in the console and no request to another host.

    `expected` are the parts of the only complaints that are right, such as the status of a refused film; `at` names
    another site than the usual one.
    """
    contexts, complaints, foreign = [], [], []

    def open_page(expected=(), at=site, **options):
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | options))
        contexts.append(context)
        context.set_default_timeout(30_000)

        def listen(message):
            if message.type in ("error", "warning") and not any(part in message.text for part in expected):
                complaints.append(message.text)

        def request(sent):
            if not sent.url.startswith((at + "/", "data:", f"blob:{at}/")):
                foreign.append(sent.url)

        page = context.new_page()
        page.on("console", listen)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        context.on("request", request)
        page.goto(at)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert foreign == []
