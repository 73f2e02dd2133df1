"""What can go wrong with what a person sent, each with its HTTP status and a word for programs."""


class PneumoError(Exception):
    """A refusal a person can act on; the message says what was expected and what came."""

    status = 500
    error = "internal"
    title = "Something went wrong"

    def __init__(self, message: str = "", retry_after: int | None = None) -> None:
        super().__init__(message)
        self.headers: dict[str, str | list[str]] = {} if retry_after is None else {"Retry-After": str(retry_after)}


class NoFileError(PneumoError):
    """The request carries no film."""

    status = 400
    error = "no_file"
    title = "No film was sent"


class TooLargeError(PneumoError):
    """More bytes or pixels than are read."""

    status = 413
    error = "too_large"
    title = "The file is too large"


class IncompleteError(PneumoError):
    """A request that ended before its body did."""

    status = 400
    error = "incomplete"
    title = "The request did not arrive whole"


class SlowError(PneumoError):
    """A request whose body takes longer than it may."""

    status = 408
    error = "too_slow"
    title = "The upload took too long"


class FormatError(PneumoError):
    """A file of a kind that is not read."""

    status = 415
    error = "unsupported_format"
    title = "This kind of file is not read"


class OperatingPointError(PneumoError):
    """A name that no operating point of the model has."""

    status = 400
    error = "unknown_operating_point"
    title = "There is no such operating point"


class PopulationError(PneumoError):
    """A name that no population of the model has."""

    status = 400
    error = "unknown_population"
    title = "There is no such population"


class UnreadableError(PneumoError):
    """A file of an allowed kind whose content cannot be decoded as one picture."""

    status = 422
    error = "unreadable"
    title = "The picture cannot be read"


class OtherFilmError(PneumoError):
    """A file that says itself that it is no frontal film of a chest: the model would answer, but mean nothing."""

    status = 422
    error = "other_film"
    title = "This is not a frontal chest film"


class NotChestFilmError(PneumoError):
    """A picture that does not look like an upright frontal chest film; `force` has it answered all the same."""

    status = 422
    error = "not_a_chest_film"
    title = "This does not look like a chest film"


class BusyError(PneumoError):
    """As many films as a worker takes on are there already; the next may come in `retry_after` seconds."""

    status = 503
    error = "busy"
    title = "The server is busy"


class RateError(PneumoError):
    """A client asks more often than it may; the next request may come in `retry_after` seconds."""

    status = 429
    error = "too_many_requests"
    title = "Too many requests"


class KeyRequiredError(PneumoError):
    """A request without one of the server's keys."""

    status = 401
    error = "unauthorized"
    title = "A key is needed"

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        # a line each: with both in one, Chromium asks for no key
        self.headers = {"WWW-Authenticate": ['Bearer realm="pneumo"', 'Basic realm="pneumo", charset="UTF-8"']}


class CrossSiteError(PneumoError):
    """A request that a page of another site had a browser send."""

    status = 403
    error = "cross_site"
    title = "Another site sent this"


class SettingError(PneumoError):
    """A setting of the server that means nothing; nothing is served."""

    error = "setting"
    title = "A setting cannot be used"


class ModelError(PneumoError):
    """The model's files and its card do not belong together; nothing is served."""

    status = 503
    error = "model"
    title = "The model cannot be loaded"


class RunError(PneumoError):
    """A training run that cannot be begun or continued as asked."""

    error = "run"
    title = "The run cannot go on"
