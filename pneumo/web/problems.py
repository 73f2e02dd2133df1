"""Refusals: RFC 9457 for programs, the page with the same words for people."""

from flask import Flask, Response, current_app, g, jsonify, render_template, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestEntityTooLarge

from pneumo.errors import IncompleteError, PneumoError, TooLargeError
from pneumo.web.service import get_service
from pneumo.web.uploads import drain
from pneumo.web.view import render_page

Answer = tuple[Response | str, int, dict]


def register_handlers(app: Flask) -> None:
    """Have every error of a request end in one of the functions below."""
    app.register_error_handler(PneumoError, refuse)
    app.register_error_handler(RequestEntityTooLarge, refuse_too_large)
    app.register_error_handler(ClientDisconnected, refuse_incomplete)
    app.register_error_handler(ParseException, refuse_incomplete)  # chunks that are none
    app.register_error_handler(HTTPException, refuse_other)


def refuse(error: PneumoError) -> Answer:
    """Answer one of our own refusals."""
    return _answer(error.members(), error.headers)


def refuse_too_large(_: RequestEntityTooLarge) -> Answer:
    """Answer a request of too many bytes, parts or form fields."""
    config = current_app.config
    most, hint = f"{config['MAX_CONTENT_LENGTH'] // 2**20} MB", ""
    if (request.content_length or 0) > config["MAX_CONTENT_LENGTH"]:
        drain()
    else:
        most += f", {config['MAX_FORM_PARTS']} parts and {config['MAX_FORM_MEMORY_SIZE'] // 1000} kB of text"
        hint = " A film's part needs a file name: without one it counts as text."
    return refuse(TooLargeError(f"Expected at most {most} in one request, received more.{hint}"))


def refuse_incomplete(_: Exception) -> Answer:
    """Answer a request whose body broke off or is malformed; the reason would quote what was sent."""
    return refuse(IncompleteError("Expected a whole request, received a part of it."))


def refuse_other(error: HTTPException) -> Answer | Response:
    """Answer what Flask refuses: unknown paths, other methods; and what failed here (500)."""
    if error.code is None or error.code < 400:
        return error.get_response()
    name = error.name.lower().replace(" ", "_")
    members = {"title": error.name, "status": error.code, "detail": error.description, "error": name}
    # which methods there are, for instance; its type is that of the page which is not answered
    return _answer(members, {key: value for key, value in error.get_headers() if key != "Content-Type"})


def _answer(members: dict, headers: dict) -> Answer:
    body = {"type": "about:blank", **members, "request_id": g.request_id}
    g.outcome = g.outcome or body["error"]
    get_service().metrics.refused(body["error"])
    kind = request.accept_mimetypes.best_match(["application/problem+json", "application/json", "text/html"])
    if kind == "text/html":
        if request.headers.get("X-Fragment"):
            return render_template("_problem.html", problem=body), body["status"], headers
        return render_page(problem=body), body["status"], headers
    response = jsonify(body)
    response.content_type = "application/problem+json"
    return response, body["status"], headers
