"""The web service: `python app.py` serves it with Flask's own server, gunicorn asks for `app:create_app()`.

What it is made of stands in pneumo/web/.
"""

import sys

from pneumo.errors import PneumoError
from pneumo.web.factory import create_app
from pneumo.web.logs import QuietHandler
from pneumo.web.settings import read_host, read_numbers

if __name__ == "__main__":
    try:
        create_app().run(host=read_host(), port=read_numbers()["PORT"], request_handler=QuietHandler)
    except PneumoError as error:
        sys.exit(str(error))
