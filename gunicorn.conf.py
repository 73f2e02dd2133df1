"""`gunicorn` in this folder reads this file by itself; what it is told stands in pneumo/web/server.py."""

from pneumo.web.server import *  # noqa: F403
