"""What happens to every request: it is let in or refused, and afterwards counted, logged, and given its headers."""

import time
import uuid

from flask import Flask, Response, g, request

from pneumo.errors import PneumoError
from pneumo.web import access
from pneumo.web.logs import log
from pneumo.web.service import get_service
from pneumo.web.uploads import drain

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",  # with no-referrer the page's own form would come from Origin: null
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
READERS = ("page_answer", "predict")  # the routes that read films
OPEN_TO_ALL = ("live", "ready")  # whoever watches over the server has no key
SHARED = (*OPEN_TO_ALL, "predict", "openapi")  # what pages of PNEUMO_ORIGINS may ask for


def register_hooks(app: Flask) -> None:
    """Have every request go through the functions below."""
    app.before_request(let_in)
    app.after_request(finish)
    app.teardown_request(leave)


def let_in() -> None:
    """Refuse unread whoever has no key, comes from another site's page, or would only wait.

    Raises:
        KeyRequiredError, CrossSiteError, BusyError: those three.
    """
    g.started, g.request_id, g.outcome, g.inside = time.perf_counter(), uuid.uuid4().hex, None, False
    if (endpoint := name_endpoint()) in OPEN_TO_ALL:
        return
    if endpoint in SHARED and request.method == "OPTIONS":  # a browser asks whether it may ask, and sends no key
        return
    service = get_service()
    try:
        access.check_key(service.keys, request.headers.get("Authorization"))
        if endpoint in READERS:
            # Werkzeug's host is without the scheme's own port, and empty for names it does not like: my_server
            origins = service.origins if endpoint in SHARED else frozenset()
            access.check_site(request.headers, request.host or request.headers.get("Host", ""), origins)
            service.queue.enter()
            g.inside = True
    except PneumoError:
        drain()
        raise


def finish(response: Response) -> Response:
    """Set the headers of an answer, log one line and count it."""
    response.headers.update(SECURITY_HEADERS)
    if name_endpoint() in SHARED:
        response.headers.update(access.share(request.headers, get_service().origins))
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Request-ID"] = g.request_id
        service, seconds = get_service(), time.perf_counter() - g.started
        card = service.predictor.card
        facts = {
            "endpoint": name_endpoint(),
            "outcome": g.outcome or ("ok" if response.status_code < 400 else "refused"),
            "status": response.status_code,
            "milliseconds": round(seconds * 1000),
            "model": card.name,
            "version": card.version,
            "request_id": g.request_id,
        }
        log.info("%s %s %d %d ms model %s %s request %s", *facts.values(), extra={"facts": facts})
        service.metrics.answered(facts["endpoint"], response.status_code, seconds)
    return response


def leave(_: BaseException | None) -> None:
    """Give the place of a request with films to the next one."""
    if g.get("inside"):
        get_service().queue.leave()


def name_endpoint() -> str:
    """Return the name of the route's function. Not the path: what a stranger types there may name a patient."""
    return (request.endpoint or "none").rpartition(".")[2]
