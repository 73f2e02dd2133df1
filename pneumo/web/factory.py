"""The application factory: an app is ready to read films, or is not at all."""

from collections.abc import Mapping
from pathlib import Path

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from pneumo.model.predictor import Predictor
from pneumo.web import hooks, logs, problems, startup, view
from pneumo.web.access import read_keys, read_origins
from pneumo.web.admission import FilmQueue
from pneumo.web.metrics import Metrics
from pneumo.web.routes import BLUEPRINTS, worklist
from pneumo.web.service import Service
from pneumo.web.settings import read_flask_settings
from pneumo.web.uploads import MemoryRequest

ASSETS = Path(__file__).resolve().parent  # of templates/ and static/: in a checkout these are links to its top


def create_app(config: Mapping[str, object] | None = None) -> Flask:
    """Build the app; `config` overrides the environment, and PREDICTOR in it replaces the model.

    Raises:
        ModelError, OperatingPointError, SettingError: the model's files do not belong to its card, the site's profile
            not to the model, or a setting means nothing.
    """
    app = Flask("pneumo", static_folder=ASSETS / "static", template_folder=ASSETS / "templates")
    app.request_class = MemoryRequest
    app.config.from_mapping(read_flask_settings())
    app.config.from_mapping(config or {})
    logs.configure(app.config["LOG"])
    app.extensions["pneumo"] = service = _make_service(app)
    app.json.sort_keys = False
    app.jinja_env.policies["json.dumps_kwargs"] = {}  # the page shows the JSON in the order in which it is answered
    app.jinja_env.globals |= {"card": service.predictor.card, "legend": view.draw_legend()}
    hooks.register_hooks(app)
    problems.register_handlers(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    if app.config["NODE_STATE"]:
        worklist.attach(app, Path(app.config["NODE_STATE"]))
    if count := app.config["PROXIES"]:  # so many of these headers' values were written by proxies that are trusted
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count, x_host=count, x_prefix=count)
    return app


def _make_service(app: Flask) -> Service:
    if predictor := app.config.get("PREDICTOR"):
        keys = read_keys(app.config["KEYS"])
    else:
        start = startup.get_startup()
        predictor, keys = Predictor(start.card, app.config["THREADS"]), start.keys
    metrics = Metrics(predictor.card.name, predictor.card.version)
    return Service(
        predictor=predictor,
        queue=FilmQueue(app.config["WAITING"], watch=metrics.inside),
        metrics=metrics,
        keys=keys,
        origins=read_origins(app.config["ORIGINS"]),
        samples=tuple(sorted(Path(app.static_folder, "samples").glob("*.jpeg"))),
    )
