"""How gunicorn serves the app: `gunicorn` in this folder reads this file by itself."""

import ctypes
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile

from pneumo.errors import PneumoError
from pneumo.model.card import read_card
from pneumo.model.profile import apply_settings
from pneumo.web import admission, logs
from pneumo.web.access import read_keys
from pneumo.web.settings import numbers

try:
    chosen = numbers()
except PneumoError as error:
    sys.exit(str(error))

wsgi_app = "app:create_app()"
bind = f"0.0.0.0:{chosen['PORT']}"
# One a core: while a worker decodes a film, its model's threads are idle and the others' run (benchmarks/README.md).
workers = chosen["WEB_CONCURRENCY"]
# Browsers connect directly, with no proxy in front: a sync worker would wait for the slowest of them, and gunicorn's
# threaded one for heads that never end.
worker_class = "pneumo.web.worker.Worker"
# Each takes a file descriptor, of which a process usually has 1024.
worker_connections = 512
# As many threads as requests with films may be inside or on their way, and some that are always free to refuse the next
# one and to answer health checks. Requests that no thread takes wait in gunicorn, where nothing bounds or counts them.
# gunicorn starts a thread when none is free: most of these are there only while uploads are slow.
threads = chosen["PNEUMO_WAITING"] + admission.ARRIVING + 8
# A worker that is stuck as a whole is replaced; one slow request is not.
timeout = 60
graceful_timeout = 30
# Interpreters do not survive a fork: every worker loads its own (gunicorn issues 1891, 2369, 2478).
preload_app = False
# The kernel would send files without a limit in time; pieces of them are sent like any answer (pneumo/worker.py).
sendfile = False
# It would be a socket below $HOME, which the container's user does not have.
control_socket_disable = True
# The heartbeat file; on a disk it can block a worker, and a read-only container has no other place.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
# No access log: it would hold addresses.
accesslog = None
errorlog = "-"


M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # malloc.h


class NoSender(logging.Filter):
    """Leaves of gunicorn's line about a malformed request that there was one: it has the address and what was sent."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the message; every record is kept."""
        record.msg = re.sub(r"^Invalid request from ip=.*", "Invalid request", str(record.msg), flags=re.DOTALL)
        return True


def check() -> logging.Formatter:
    """Look at what is most often wrong of what a worker reads: a sentence says more than workers that do not start.

    Returns what writes the log.

    Raises:
        PneumoError: the model's files are not those of its card, the site's profile is not the model's, or a setting
            means nothing.
    """
    apply_settings(read_card())
    read_keys(os.environ.get("PNEUMO_KEYS"))
    return logs.formatter(os.environ.get("PNEUMO_LOG"))


def on_starting(server: object) -> None:
    """Refuse to start, in one sentence, where no worker would; then make the folder in which their metrics meet."""
    server.log.error_log.addFilter(NoSender())
    try:
        formatter = check()
    except PneumoError as error:
        server.log.error("%s", error)
        sys.exit(1)
    if isinstance(formatter, logs.JsonLines):
        for handler in server.log.error_log.handlers:
            handler.setFormatter(formatter)
    # Always a new one: a server that takes over from another (USR2) must not count what that one counted.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="pneumo-metrics-", dir=worker_tmp_dir)


def when_ready(server: object) -> None:
    """Have a reload (HUP) look first: workers that do not start would end the server.

    It makes the app as a worker does, in a process of its own, since interpreters do not survive a fork.
    """
    reload = server.reload

    def checked() -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
        trial = [sys.executable, "-c", "from app import create_app; create_app()"]
        made = subprocess.run(trial, env=environment, capture_output=True, text=True, check=False)
        if made.returncode:
            *_, last = made.stderr.strip().splitlines() or ["no reason given"]
            server.log.error("Not reloaded, the old model goes on: %s", re.sub(r"^pneumo\.errors\.\w+: ", "", last))
        else:
            reload()

    server.reload = checked


def post_fork(_server: object, _worker: object) -> None:
    """Have glibc give back what films took, where the C library is glibc.

    By default each thread gets a heap of its own and keeps there what it once had: 18 large films left 2.9 GB behind.
    """
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_ARENA_MAX, 2)
        libc.mallopt(M_MMAP_THRESHOLD, 2**20)  # from this size on, memory goes back when it is freed


def child_exit(_server: object, worker: object) -> None:
    """Take what an ended worker was doing out of the metrics; what it has counted stays."""
    from prometheus_client import multiprocess  # the variable is set by now

    multiprocess.mark_process_dead(worker.pid)


def on_exit(_server: object) -> None:
    """Remove that folder."""
    shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
