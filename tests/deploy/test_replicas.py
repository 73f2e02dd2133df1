"""Three servers behind one nginx: one is killed under load, and no request is lost."""

import os
import signal
from contextlib import ExitStack

from tests.support.films import SAMPLES
from tests.support.proxy import Proxy
from tests.support.server import Ask, Server, outcomes, under_load, until

ASK = Ask("film", "/predict", "image/jpeg", SAMPLES[0].read_bytes(), 200)
UNLIMITED = {"PROXY_RATE": 10**6, "PROXY_BURST": 10**5}


def test_one_of_three_is_killed_and_no_request_is_lost(tmp_path):
    with ExitStack() as stack:
        servers = [Server(tmp_path / f"{number}", PNEUMO_PROXIES=1, PNEUMO_THREADS=1) for number in range(3)]
        for server in servers:  # they start at the same time
            stack.enter_context(server)
        proxy = stack.enter_context(Proxy(*(server.port for server in servers), **UNLIMITED))
        killed, *others = servers
        with under_load(proxy, [ASK], clients=6) as load:
            until(lambda: all(server.counted() for server in servers), "films at each of the three")
            sent = len(load.sent)
            for process in (killed.process.pid, *killed.workers()):
                os.kill(process, signal.SIGKILL)
            until(lambda: len(load.sent) > sent + 30, "thirty answers without it")
        before = [server.counted() for server in others]
        assert outcomes(load.sent) == {"right": len(load.sent)}
        assert killed.process.wait(10) == -signal.SIGKILL
        assert sum(before) > 30
