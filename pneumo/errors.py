"""The errors that a person can act on. Each has an HTTP status, a word for programs and a title for people."""


class PneumoError(Exception):
    """An error that a person can act on. The message says what came, what is needed and what to do."""

    status = 500
    error = "internal"
    title = "Something went wrong"

    def __init__(self, message: str = "", retry_after: int | None = None) -> None:
        super().__init__(message)
        self.headers: dict[str, str | list[str]] = {} if retry_after is None else {"Retry-After": str(retry_after)}

    def members(self) -> dict[str, str | int]:
        """Return it as members of an RFC 9457 problem, with `error` for programs."""
        return {"title": self.title, "status": self.status, "detail": str(self), "error": self.error}


class NoFileError(PneumoError):
    """The request contains no film."""

    status = 400
    error = "no_file"
    title = "No film was sent"


class TooLargeError(PneumoError):
    """The file has more bytes or pixels than are allowed."""

    status = 413
    error = "too_large"
    title = "The file is too large"


class IncompleteError(PneumoError):
    """The request ended before its body was complete."""

    status = 400
    error = "incomplete"
    title = "The upload was cut off"


class FormatError(PneumoError):
    """The file has a format that is not read."""

    status = 415
    error = "unsupported_format"
    title = "This kind of file cannot be read"


class OperatingPointError(PneumoError):
    """The model has no operating point of that name."""

    status = 400
    error = "unknown_operating_point"
    title = "There is no such operating point"


class PopulationError(PneumoError):
    """A name that no population of the model has."""

    status = 400
    error = "unknown_population"
    title = "There is no such population"


class UnreadableError(PneumoError):
    """The file has an allowed format, but its content cannot be decoded as one picture."""

    status = 422
    error = "unreadable"
    title = "The picture cannot be read"


class OtherFilmError(PneumoError):
    """The file itself says that it is no frontal chest film. The model would answer, but the answer means nothing."""

    status = 422
    error = "other_film"
    title = "This is not a frontal chest film"


class NotChestFilmError(PneumoError):
    """The picture does not look like an upright frontal chest film. `force` reads it anyway."""

    status = 422
    error = "not_a_chest_film"
    title = "This does not look like a chest film"


class BusyError(PneumoError):
    """The worker already holds as many films as it may. Try again in `retry_after` seconds."""

    status = 503
    error = "busy"
    title = "The server is busy"


class KeyRequiredError(PneumoError):
    """The request has none of the server's API keys."""

    status = 401
    error = "unauthorized"
    title = "An API key is needed"

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        # two header lines: with both schemes in one line, Chromium does not ask for the key
        self.headers = {"WWW-Authenticate": ['Bearer realm="pneumo"', 'Basic realm="pneumo", charset="UTF-8"']}


class CrossSiteError(PneumoError):
    """A page of another web site made a browser send this request."""

    status = 403
    error = "cross_site"
    title = "This request came from another web site"


class SettingError(PneumoError):
    """A setting has an impossible value. The server does not start."""

    error = "setting"
    title = "A setting cannot be used"


class ModelError(PneumoError):
    """The model's card or one of its files is missing, damaged or of another model. The server does not start."""

    status = 503
    error = "model"
    title = "The model cannot be loaded"


class RunError(PneumoError):
    """A command cannot start or continue a run as asked."""

    error = "run"
    title = "The run cannot continue"
