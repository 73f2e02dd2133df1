"""The films of a request: from a form or from a raw body, in memory, whole or refused."""

import io

from flask import Request, request

from pneumo.errors import FormatError, NoFileError

RAW_TYPES = ("image/", "application/dicom", "application/octet-stream")
DRAINED = 64 * 2**20  # bytes of a body that nobody wants; a client that sends more loses the answer
PIECE = 64 * 1024


class MemoryRequest(Request):
    """A request whose films stay in memory and are whole."""

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
            raise NoFileError("Expected a picture in the multipart field `file`, received none.")
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
