"""One blueprint a module; `BLUEPRINTS` is what `create_app` registers.

A route's function is named as the log and /metrics name it.
"""

from pneumo.web.routes import health, metrics, openapi, page, predict

BLUEPRINTS = tuple(module.blueprint for module in (page, predict, health, metrics, openapi))
