"""The web service: routes, error handlers, and configuration from the environment. The only file that imports Flask.

`create_app()` is what gunicorn calls; `python app.py` serves too, with Flask's own server.
"""

import io
import json
import logging
import os
import sys
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from flask import Flask, Request, Response, g, jsonify, render_template, request
from flask.logging import default_handler
from PIL import Image
from werkzeug.exceptions import HTTPException
from werkzeug.serving import WSGIRequestHandler

from pneumo import __version__
from pneumo.errors import FormatError, NoFileError, PneumoError, TooLargeError
from pneumo.films.film import Film
from pneumo.films.images import FORMATS, decode
from pneumo.model import heatmap
from pneumo.model.card import read_card
from pneumo.model.predictor import Prediction, Predictor
from pneumo.model.profile import apply_settings
from pneumo.web import access, admission, body, logs
from pneumo.web.metrics import Metrics
from pneumo.web.settings import numbers

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
PREVIEW_SIDE = 1024
READERS = ("page_answer", "predict")  # the routes that read films
OPEN_TO_ALL = ("live", "ready")  # whoever watches over the server has no key
RAW_TYPES = ("image/", "application/dicom", "application/octet-stream")

log = logging.getLogger("pneumo")


class MemoryRequest(Request):
    """A request whose uploads stay in memory: Werkzeug would spool those over 500 kB to a file on disk."""

    def _get_file_stream(self, *_: object, **__: object) -> io.BytesIO:  # type: ignore[override]
        return io.BytesIO()


class QuietHandler(WSGIRequestHandler):
    """Flask's own server without its lines about requests, which have addresses and whatever was asked for."""

    def log(self, *_: object) -> None:
        """Write nothing."""

    def handle(self) -> None:
        """Hang up on whoever asks for what is no URL; the server would write from where."""
        with suppress(ValueError):
            super().handle()


def create_app(config: Mapping[str, object] | None = None) -> Flask:
    """Build the application; `config` overrides the environment, and PREDICTOR in it replaces the shipped model.

    Raises:
        ModelError, OperatingPointError, SettingError: the model's files do not belong to its card, the site's profile
            not to the model, or a setting means nothing; then nothing is served.
    """
    app = Flask(__name__)
    app.request_class = MemoryRequest
    chosen = numbers()
    app.config.from_mapping(
        MAX_CONTENT_LENGTH=chosen["PNEUMO_MAX_MB"] * 2**20,
        MAX_FORM_PARTS=64,
        THREADS=chosen["PNEUMO_THREADS"],
        SEND_FILE_MAX_AGE_DEFAULT=3600,
        WAITING=chosen["PNEUMO_WAITING"],
        UPLOAD_SECONDS=chosen["PNEUMO_UPLOAD_SECONDS"],
        UPLOAD_RATE=chosen["PNEUMO_UPLOAD_RATE"],
        KEYS=os.environ.get("PNEUMO_KEYS"),
        RATE=chosen["PNEUMO_RATE"],
        LOG=os.environ.get("PNEUMO_LOG"),
    )
    app.config.from_mapping(config or {})
    app.json.sort_keys = False
    app.jinja_env.policies["json.dumps_kwargs"] = {}  # the page shows the JSON in the order in which it is answered
    # the scale beside every heat map: the overlay of all strengths from 0 to 1
    ramp = np.linspace(0, 1, heatmap.LONGER_SIDE)[None]
    app.jinja_env.globals["legend"] = heatmap.to_data_uri(heatmap.draw_overlay(ramp, 8, 1))
    if not log.handlers:
        log.addHandler(logging.StreamHandler())
        log.setLevel(logging.INFO)
        log.propagate = False
    for handler in (*log.handlers, default_handler):
        handler.setFormatter(logs.formatter(app.config["LOG"]))
    # The predictor has checked the hash and put one film through before it exists: an app is ready or is not at all.
    predictor = app.config.get("PREDICTOR") or Predictor(apply_settings(read_card(roles=())), app.config["THREADS"])
    app.jinja_env.globals["card"] = predictor.card
    metrics = Metrics(predictor.card.name, predictor.card.version)
    room = app.config["WAITING"] * app.config["MAX_CONTENT_LENGTH"]
    places = admission.Admission(app.config["WAITING"], room=room, watch=metrics.inside)
    keys, rate = access.read_keys(app.config["KEYS"]), access.Rate(app.config["RATE"])
    samples = sorted(Path(app.static_folder, "samples").glob("*.jpeg"))

    @app.before_request
    def start() -> None:
        """Refuse before the body is read whoever may not ask, asks too often, or would only wait."""
        g.started = time.perf_counter()
        g.request_id = uuid.uuid4().hex
        g.outcome = g.entered = g.body = None
        if request.endpoint in OPEN_TO_ALL:
            return
        key = access.check_key(keys, request.headers.get("Authorization"))
        if request.endpoint in READERS:
            # Werkzeug's host is without the scheme's own port, and empty for names that it does not like: my_server
            access.check_site(request.headers, request.host or request.headers.get("Host", ""))
            rate.take(key or access.client(request.remote_addr))
            with places.arriving():
                receive()
            g.entered = places.enter()

    def receive() -> None:
        """Wait for the whole body: from here on it is in memory."""
        stream, connection = request.environ["wsgi.input"], request.environ.get("gunicorn.socket")
        limits = app.config["UPLOAD_SECONDS"], app.config["UPLOAD_RATE"]
        g.body = body.Body(stream, request.content_length, *limits, connection, places.hold)
        request.environ["wsgi.input"] = g.body
        request.get_data(parse_form_data=request.mimetype == "multipart/form-data")
        if request.content_length is None:  # chunked: what is over the limit is only told when more is asked for
            request.stream.read(1)

    @app.teardown_request
    def end(_: BaseException | None) -> None:
        if g.get("body") is not None:
            g.body.close()
        if g.get("entered") is not None:
            places.leave(g.entered)

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers.update(SECURITY_HEADERS)
        if request.endpoint != "static":
            response.headers["Cache-Control"] = "no-store"
            response.headers["X-Request-ID"] = g.request_id
            seconds = time.perf_counter() - g.started
            # the endpoint, not the path: what a stranger types there may name a patient
            facts = {
                "endpoint": request.endpoint or "none",
                "outcome": g.outcome or ("ok" if response.status_code < 400 else "refused"),
                "status": response.status_code,
                "milliseconds": round(seconds * 1000),
                "model": predictor.card.name,
                "version": predictor.card.version,
                "request_id": g.request_id,
            }
            log.info("%s %s %d %d ms model %s %s request %s", *facts.values(), extra={"facts": facts})
            metrics.answered(facts["endpoint"], response.status_code, seconds)
        return response

    @app.get("/")
    def page() -> str:
        return render_page()

    @app.post("/")
    def page_answer() -> tuple[str, int]:
        """The same answer as a page; with `X-Fragment` only the results, for the page's own script."""
        operating_point = predictor.card.operating_point(request.form.get("operating_point"))
        if name := request.form.get("sample"):
            files = [(path.name, path.read_bytes()) for path in samples if path.name == name]
            if not files:
                raise NoFileError("Expected the name of a sample film, received another.")
        else:
            files = uploads()
        force = request.form.get("force") == "1"
        results = [read_for_page(name, data, operating_point, force) for name, data in files]
        problems = [result["problem"] for result in results if result["problem"]]
        g.outcome = outcome(len(results), problems)
        status = problems[0]["status"] if len(problems) == len(results) else 200
        if request.headers.get("X-Fragment"):
            return render_template("_results.html", results=results, model=predictor.card.contents), status
        return render_page(results, operating_point=operating_point), status

    @app.post("/predict")
    def predict() -> tuple[Response, int] | Response:
        operating_point = predictor.card.operating_point(request.args.get("operating_point"))
        with_map, force = asked_for("heatmap"), asked_for("force")
        files = uploads()
        if len(files) == 1:
            answer = read(files[0][1], operating_point, force, with_map)
            g.outcome = answer["label"]
            return jsonify(answer | {"request_id": g.request_id})
        answers = []
        for _, data in files:
            try:
                answers.append(read(data, operating_point, force, with_map))
            except PneumoError as error:
                metrics.refused(error.error)
                answers.append(problem(error))
        g.outcome = outcome(len(answers), [a for a in answers if "error" in a])
        return jsonify({"predictions": answers, "request_id": g.request_id})

    @app.get("/health/live")
    def live() -> Response:
        return jsonify({"live": True})

    @app.get("/health/ready")
    def ready() -> Response:
        return jsonify({"ready": True, "model": predictor.card.model})

    @app.get("/metrics", endpoint="metrics")
    def measured() -> Response:
        text, content_type = metrics.text()
        return Response(text, content_type=content_type)

    @app.get("/openapi.json")
    def openapi() -> Response:
        with app.open_resource("static/openapi.json") as stream:
            document = json.load(stream)
        document["info"]["version"] = __version__
        return jsonify(document)

    @app.errorhandler(PneumoError)
    def refuse(error: PneumoError) -> tuple[Response | str, int, dict]:
        return as_problem(problem(error), error.headers)

    @app.errorhandler(413)
    def too_large(_: HTTPException) -> tuple[Response | str, int, dict]:
        limit = app.config["MAX_CONTENT_LENGTH"]
        if max(request.content_length or 0, g.body.received) >= limit:
            most = f"{limit // 2**20} MB"
        else:  # Werkzeug takes no more apart
            most = f"{app.config['MAX_FORM_PARTS']} parts, and {app.config['MAX_FORM_MEMORY_SIZE'] // 1000} kB of text,"
        return as_problem(problem(TooLargeError(f"Expected at most {most} in one request, received more.")))

    @app.errorhandler(HTTPException)
    def other(error: HTTPException) -> tuple[Response | str, int, dict] | Response:
        if error.code is None or error.code < 400:
            return error.get_response()
        name = error.name.lower().replace(" ", "_")
        members = {"title": error.name, "status": error.code, "detail": error.description, "error": name}
        # which methods there are, for instance; its type is that of the page which is not answered
        return as_problem(members, {key: value for key, value in error.get_headers() if key != "Content-Type"})

    def render_page(
        results: list[dict] | None = None, problem: dict | None = None, operating_point: str | None = None
    ) -> str:
        return render_template(
            "index.html",
            results=results or [],
            problem=problem,
            operating_point=operating_point or predictor.card.default_operating_point,
            model=predictor.card.contents,
            samples=[path.name for path in samples],
            formats=["WebP" if name == "WEBP" else name for name in FORMATS],
            max_megabytes=app.config["MAX_CONTENT_LENGTH"] // 2**20,
            version=__version__,
        )

    def as_problem(body: dict, headers: dict | None = None) -> tuple[Response | str, int, dict]:
        """RFC 9457 for programs, the page with the same words for people."""
        body = {"type": "about:blank", **body, "request_id": g.request_id}
        g.outcome = g.outcome or body["error"]
        metrics.refused(body["error"])
        wants_page = request.accept_mimetypes.best_match(["application/problem+json", "application/json", "text/html"])
        if wants_page == "text/html":
            if request.headers.get("X-Fragment"):
                return render_template("_problem.html", problem=body), body["status"], headers or {}
            return render_page(problem=body), body["status"], headers or {}
        response = jsonify(body)
        response.content_type = "application/problem+json"
        return response, body["status"], headers or {}

    def read(data: bytes, operating_point: str, force: bool, with_map: bool) -> dict:
        """One entry of what `/predict` answers."""
        with places.reading():
            prediction = predictor.predict(data, operating_point, force)
            metrics.read(prediction.label)
            answer = prediction.to_json()
            return answer | {"heatmap": drawn(prediction)} if with_map else answer

    def read_for_page(name: str, data: bytes, operating_point: str, force: bool) -> dict:
        """Everything the templates show of one file; a refused one carries its problem instead of an answer."""
        result = {"name": name, "bytes": len(data), "problem": None, "forced": force}
        with places.reading():
            result["read_at"] = datetime.now(UTC)
            started = time.perf_counter()
            try:
                prediction = predictor.predict(data, operating_point, force)
            except PneumoError as error:
                metrics.refused(error.error)
                return result | {"problem": problem(error)}
            metrics.read(prediction.label)
            preview = Image.fromarray(to_look_at(prediction.film, data))
            preview.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
            return result | {
                "answer": prediction.to_json() | {"request_id": g.request_id},
                "film": heatmap.to_data_uri(preview, "JPEG", quality=85),
                "overlay": drawn(prediction),
                "raised": bool(prediction.strengths.max() > 0),
                "milliseconds": round((time.perf_counter() - started) * 1000),
            }

    return app


def uploads() -> list[tuple[str, bytes]]:
    """The films of this request: (file name, bytes), from the multipart field `file` or from a raw body.

    Raises:
        NoFileError: nothing was sent.
        FormatError: a body of a type that is not read.
    """
    if request.mimetype == "multipart/form-data":
        files = [(f.filename or "", f.read()) for f in request.files.getlist("file") if f.filename or f.content_length]
        if not files:
            raise NoFileError("Expected a picture in the multipart field `file`, received none.")
        return files
    data = request.get_data()
    if not data:
        raise NoFileError("Expected a picture, as multipart field `file` or as the body, received an empty request.")
    if not request.mimetype.startswith(RAW_TYPES):
        received = request.mimetype or "no type"
        raise FormatError(f"Expected multipart/form-data, an image type or application/dicom, received {received}.")
    return [("", data)]


def to_look_at(film: Film, data: bytes) -> np.ndarray:
    """The film (H, W) uint8 in the detail that a person looks at: the network's may be less."""
    reduced = film.pixels.size < film.width * film.height
    return decode(data, PREVIEW_SIDE).pixels if reduced else film.pixels


def drawn(prediction: Prediction) -> str | None:
    """The overlay as a data URI; None where the model has no map."""
    picture = prediction.overlay()
    return heatmap.to_data_uri(picture) if picture else None


def asked_for(name: str) -> bool:
    """Whether the query has NAME=1."""
    return request.args.get(name, "0").lower() in ("1", "true", "yes")


def problem(error: PneumoError) -> dict:
    """RFC 9457 members of a refusal, with `error` for programs."""
    return {"title": error.title, "status": error.status, "detail": str(error), "error": error.error}


def outcome(count: int, problems: list[dict]) -> str:
    """A word for the log: how many films were read and what refused the others."""
    refused = ",".join(sorted({p["error"] for p in problems}))
    return f"read {count - len(problems)} of {count}" + (f" ({refused})" if refused else "")


if __name__ == "__main__":
    try:
        create_app().run(host="0.0.0.0", port=numbers()["PORT"], request_handler=QuietHandler)
    except PneumoError as error:
        sys.exit(str(error))
