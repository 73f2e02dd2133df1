"""gunicorn's threaded worker, except that waiting for a client takes neither a thread nor the event loop.

gunicorn reads heads in its threads, without a limit in time: a few connections that send theirs letter by letter would
hold them all. And behind an answer it stops its event loop, up to 2 s, for the other side to hang up: meanwhile nobody
is let in. Here both kinds of connection wait in the event loop's poller, for WAIT_SECONDS. And of several workers the
one with the fewest requests takes the next connection; left to chance, films would wait behind others in one worker
while another is idle. Knows no Flask.
"""

import errno
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ

from gunicorn.http.body import LengthReader
from gunicorn.workers.gthread import TConn, ThreadWorker

WAIT_SECONDS = 5  # for a whole head, and for the other side to hang up
# For each request inside, up to so many: the time in which a worker with fewer takes a new connection first.
HEAD_START, COUNTED = 0.002, 8
HEAD_LIMIT = 64 * 1024  # bytes; browsers and proxies send a tenth of it
END_OF_HEAD = b"\r\n\r\n"
PIECE = 16 * 1024  # bytes that are sent within WAIT_SECONDS, or not at all
TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
DRAIN_SECONDS = 0.2  # that a thread takes in the rest of a body that nobody wants
# Of what nobody wants any more: closed with something unread, the connection would be reset and the answer lost
# (RFC 9112, 9.6), that the upload is too large for instance.
DRAIN_LIMIT = 64 * 1024 * 1024


class Client(socket.socket):
    """The socket of a client, which takes what it is sent or is cut off: a thread would wait for it for ever."""

    def sendall(self, data: bytes, flags: int = 0) -> None:
        """Send all of `data`.

        Raises:
            BrokenPipeError: a PIECE of it was not taken within WAIT_SECONDS.
        """
        view = memoryview(data)
        self.settimeout(WAIT_SECONDS)  # of each `sendall`, however often it sends
        try:
            for start in range(0, len(view), PIECE):
                super().sendall(view[start : start + PIECE], flags)
        except TimeoutError:  # gunicorn would log it as an error of its own
            raise BrokenPipeError(errno.EPIPE, "The client reads nothing.") from None
        finally:
            self.settimeout(None)


class Connection(TConn):
    """A connection that knows what its worker knows of it."""

    def __init__(self, worker: "Worker", *arguments: object) -> None:
        super().__init__(*arguments)
        self.worker = worker
        self.seen = 0  # bytes of the head that is awaited, or drained since the answer

    def close(self, graceful: bool = False) -> None:
        """Close it, if `graceful` after the other side did."""
        if graceful and not self.cfg.is_ssl:
            self.worker.linger(self)
        else:
            super().close(graceful)


class Worker(ThreadWorker):
    """`worker_class` of gunicorn.conf.py; relies on how ThreadWorker of gunicorn 27 keeps its connections."""

    inside = 0  # requests that the threads have, or wait for one

    def accept(self, listener: socket.socket) -> None:
        """Take a connection in, unless a worker with less to do has done so, and wait for its head."""
        if self.alive and self.cfg.workers > 1:
            time.sleep(HEAD_START * min(self.inside, COUNTED))
        if self.cfg.is_ssl:  # the head is encrypted
            return super().accept(listener)
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        self.nr_conns += 1
        client = Client(fileno=client.detach())
        self._wait(Connection(self, self.cfg, client, address, listener.getsockname()), self._more_of_head)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Refuse new connections from the moment it is told to end: left waiting, they would be reset at the end."""
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:
            for listener in self.sockets:
                before = -1
                while self.nr_conns != before:  # whom the kernel has let in already is answered
                    before = self.nr_conns
                    self.accept(listener)
                listener.close()

    def enqueue_req(self, conn: TConn) -> None:
        """Hand a request to the threads."""
        self.inside += 1
        super().enqueue_req(conn)

    def finish_request(self, conn: TConn, fs: Future) -> None:
        """See to the connection of a request that a thread is done with."""
        self.inside -= 1
        super().finish_request(conn, fs)

    def on_client_socket_readable(self, conn: Connection, client: socket.socket) -> None:
        """Wait for the head of the next request on a connection that was kept."""
        if self.cfg.is_ssl:
            return super().on_client_socket_readable(conn, client)
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._wait(conn, self._more_of_head)

    def linger(self, conn: Connection) -> None:
        """Say that no more will come, and wait for the other side to hang up."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:  # it has
            return conn.close()
        conn.sock.setblocking(False)
        self.nr_conns += 1
        self._wait(conn, self._drain)

    def _wait(self, conn: Connection, readable: Callable[[Connection, socket.socket], None]) -> None:
        conn.seen = 0
        conn.timeout = time.monotonic() + WAIT_SECONDS  # `murder_pending` closes it then
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(readable, conn))

    def _waited(self, conn: Connection) -> None:
        self.poller.unregister(conn.sock)
        self.pending_conns.remove(conn)

    def _drop(self, conn: Connection) -> None:
        self._waited(conn)
        self.nr_conns -= 1
        conn.close()

    def _more_of_head(self, conn: Connection, client: socket.socket) -> None:
        """Look at what has come without taking it: the thread's parser reads it."""
        try:
            head = client.recv(HEAD_LIMIT, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:  # reset by the other side
            head = b""
        if END_OF_HEAD in head:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            self._waited(conn)
            conn.data_ready = True
            self.enqueue_req(conn)
        elif len(head) == HEAD_LIMIT:
            with suppress(OSError):
                client.send(TOO_LONG)
            self._waited(conn)
            self.nr_conns -= 1
            conn.close(graceful=True)
        elif len(head) == conn.seen:  # ready to be read and nothing new: the other side's end
            self._drop(conn)
        else:
            conn.seen = len(head)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(head) + 1)  # ready when there is more

    def _drain(self, conn: Connection, client: socket.socket) -> None:
        try:
            data = client.recv(HEAD_LIMIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        conn.seen += len(data)
        if not data or conn.seen > DRAIN_LIMIT:
            self._drop(conn)

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        """Keep a connection only if what was asked has come whole, and nothing more than that.

        Else a thread would wait for the rest of a body that was refused unread, or of the next request's head. Browsers
        do not send that before the answer (RFC 9112, 9.3.2).
        """
        return keepalive and self._is_finished(conn)

    def _is_finished(self, conn: Connection) -> bool:
        """Take in what is left of a body that nobody read, as long as it comes at once.

        gunicorn's `finish_body` gives up after 64 kB, and the connection that the answer said is kept would be closed.
        """
        body, unreader = conn.parser.mesg.body, conn.parser.unreader
        if body.failed or not isinstance(body.reader, LengthReader):
            ended = getattr(body.reader, "parser", self) is None  # chunked, and read to its end
            return ended and not body.failed and not unreader.take_buffered()
        left, until = body.reader.length - len(unreader.take_buffered()), time.monotonic() + DRAIN_SECONDS
        try:
            while left > 0 and (seconds := until - time.monotonic()) > 0:
                conn.sock.settimeout(seconds)
                if not (data := conn.sock.recv(min(left, HEAD_LIMIT))):
                    break
                left -= len(data)
        except OSError:
            return False
        finally:
            conn.sock.settimeout(None)
        body.reader.length = 0
        return left == 0  # less than nothing: the next request has begun
