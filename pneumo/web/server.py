"""How gunicorn serves the app: its settings and hooks, for gunicorn.conf.py and `pneumo serve`.

Slow clients, TLS and rate limits are for a reverse proxy in front.
"""

import os
import shutil
import subprocess
import sys
import tempfile

from pneumo.errors import PneumoError
from pneumo.web import startup
from pneumo.web.logs import configure_gunicorn
from pneumo.web.settings import read_host, read_numbers

try:
    chosen = read_numbers()
    logconfig_dict = configure_gunicorn()
except PneumoError as error:
    sys.exit(str(error))

wsgi_app = "app:create_app()"
bind = f"[{read_host()}]:{chosen['PORT']}" if ":" in read_host() else f"{read_host()}:{chosen['PORT']}"
# One a core: while a worker decodes a film, its model's threads are idle and the others' run.
workers = chosen["WEB_CONCURRENCY"]
worker_class = "gthread"
# As many as there may be requests with films inside, and some that are always free to refuse the next one, to answer
# health checks, and to wait for heads. gunicorn starts a thread when none is free; films are read on three others.
threads = chosen["PNEUMO_WAITING"] + 46
# Each takes a file descriptor, of which a process usually has 1024.
worker_connections = 512
# A worker that is stuck as a whole is replaced; one slow request is not.
timeout = 60
graceful_timeout = 30
# Interpreters do not survive a fork: every worker makes its own (gunicorn issues 1891, 2369, 2478).
preload_app = False
# It would be a socket below $HOME, which the container's user does not have.
control_socket_disable = True
# The heartbeat file; on a disk it can block a worker, and a read-only container has no other place.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
# No access log: it would hold addresses.
accesslog = None


def on_starting(server: object) -> None:
    """Read what the workers start from, or end with one sentence; make the folder in which their metrics meet."""
    try:
        startup.hold()
    except PneumoError as error:
        server.log.error("%s", error)
        sys.exit(1)
    # Always a new one: a server that takes over from another (USR2) must not count what that one counted.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="pneumo-metrics-", dir=worker_tmp_dir)


def on_reload(server: object) -> None:
    """Read it anew (HUP), unless no worker could start from what the disk has now: gunicorn would end.

    It is tried out in a process of its own, since interpreters do not survive a fork.
    """
    trial = [sys.executable, "-m", "pneumo.web.startup"]
    tried = subprocess.run(trial, capture_output=True, text=True, check=False)
    try:
        if tried.returncode:
            raise PneumoError((tried.stderr.strip().splitlines() or ["no reason given"])[-1])
        startup.hold()
    except PneumoError as error:
        server.log.error("Not reloaded, the old model goes on: %s", error)


def child_exit(_server: object, worker: object) -> None:
    """Take what an ended worker was doing out of the metrics; what it has counted stays."""
    from prometheus_client import multiprocess  # the variable is set by now

    multiprocess.mark_process_dead(worker.pid)


def on_exit(_server: object) -> None:
    """Remove that folder."""
    shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
