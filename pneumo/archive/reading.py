"""One film of an archive -> a prediction, or the reason why there is none."""

from typing import TYPE_CHECKING

from pneumo.errors import PneumoError

if TYPE_CHECKING:
    from pneumo.archive.listing import Film
    from pneumo.model.predictor import Prediction, Predictor


def fetch(film: "Film") -> bytes | str:
    """Return the bytes of a film, or the reason why there are none."""
    try:
        return film.read_bytes()
    except OSError as error:
        return f"{error.strerror}."


def judge(
    predictor: "Predictor",
    data: bytes | str,
    operating_point: str | None = None,
    force: bool = False,
    population: str | None = None,
) -> "Prediction | str":
    """Read what `fetch` returned: a prediction, or the reason why there is none."""
    if isinstance(data, str):
        return data
    try:
        return predictor.predict(data, operating_point, force, population)
    except PneumoError as error:
        return str(error)
