"""The films of a request: from a form or from a raw body, in memory, whole or refused."""

import io

from flask import Request, request
from werkzeug.formparser import FormDataParser

from pneumo.errors import FormatError, IncompleteError, NoFileError

RAW_TYPES = ("image/", "application/dicom", "application/octet-stream")
DRAINED = 64 * 2**20  # bytes of a body that nobody wants; a client that sends more loses the answer
PIECE = 64 * 1024


class StrictParser(FormDataParser):
    """Reads forms as Werkzeug does, but says what is wrong with one where Werkzeug takes it for an empty one."""

    def parse(self, stream: io.IOBase, mimetype: str, content_length: int | None, options: dict | None = None) -> tuple:
        """Read a form.

        Raises:
            NoFileError: its type names no boundary.
            IncompleteError: its last part has no end, or it is malformed.
        """
        if mimetype == "multipart/form-data" and not (options or {}).get("boundary"):
            _read_rest(stream)
            raise NoFileError(
                "Expected a boundary in Content-Type, as in `multipart/form-data; boundary=…`, received none. Leave "
                "that header to the library or browser that makes the form."
            )
        self.silent = False
        try:
            return super().parse(stream, mimetype, content_length, options)
        except ValueError:  # its words would quote what was sent
            _read_rest(stream)
            raise IncompleteError(
                "Expected a form whose parts end with its boundary and `--`, received one that breaks off or is "
                "malformed. Send it again; if it fails again, the program that makes the form is at fault."
            ) from None


class MemoryRequest(Request):
    """A request whose films stay in memory and are whole."""

    form_data_parser_class = StrictParser

    def __init__(self, environ: dict, *arguments: object, **options: object) -> None:
        # With this key Werkzeug takes what has come for the whole body, also where the connection broke before.
        if environ.get("CONTENT_LENGTH"):
            environ.pop("wsgi.input_terminated", None)
        super().__init__(environ, *arguments, **options)

    def _get_file_stream(self, *_: object, **__: object) -> io.BytesIO:
        """Return memory to write a film into; Werkzeug would write one over 500 kB to a file on disk."""
        return io.BytesIO()


def read_uploads() -> list[tuple[str, bytes]]:
    """Return the films of this request as (file name, bytes): of the form's field `file`, or of a raw body.

    Raises:
        NoFileError: nothing was sent.
        FormatError: a body of a type that is not read.
        HTTPException: the body is too large, or did not arrive whole.
    """
    if request.mimetype == "multipart/form-data":
        files = [(f.filename or "", f.read()) for f in request.files.getlist("file") if f.filename or f.content_length]
        if not files:
            raise NoFileError(f"Expected a picture in the multipart field `file`, received {_describe_form()}.")
        return files
    data = request.get_data()
    if request.content_length is None:  # chunked: Werkzeug says that it is too large when more is asked for
        request.stream.read(1)
    if not data:
        raise NoFileError("Expected a picture, as multipart field `file` or as the body, received an empty request.")
    if not request.mimetype.startswith(RAW_TYPES):
        received = request.mimetype or "no type"
        raise FormatError(f"Expected multipart/form-data, an image type or application/dicom, received {received}.")
    return [("", data)]


def _describe_form() -> str:
    """Say in words what a form without films has instead; no name that was sent is repeated."""
    if "file" in request.form:
        return "a `file` without a file name, which makes it text: add a file name to that part"
    if "file" in request.files:
        return "an empty choice of files"
    if request.files:
        return "files in fields of other names only"
    return "only text in fields of other names" if request.form else "an empty form"


def _read_rest(stream: io.IOBase) -> None:
    """Take in, and forget, what is left of a body whose reading has begun; see `drain`."""
    while stream.read(PIECE):
        pass


def drain() -> None:
    """Take in, and forget, the body of a request that is refused unread.

    A connection that is closed with something unread is reset, and the client never sees why (RFC 9112, 9.6).
    """
    left = min(request.content_length or 0, DRAINED)
    try:
        while left > 0 and (data := request.environ["wsgi.input"].read(min(left, PIECE))):
            left -= len(data)
    except OSError:  # the client has gone
        return
