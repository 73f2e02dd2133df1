"""Named steps between the squashed film and the network, the same in training and in serving.

A model's card may name steps; none but `level` and no step at all do without scikit-image. Every step keeps the film's
size and geometry, since heat maps are laid over it.
"""

from collections.abc import Callable, Sequence

import numpy as np

from pneumo.errors import ModelError
from pneumo.films import tone
from pneumo.films.film import squash

Step = Callable[[np.ndarray], tuple[np.ndarray, str | None]]

RADIUS = 3  # of the disk that closes and opens, in pixels at 224 a side; a rib there is about 8 wide
CLIP = 0.01  # of CLAHE: share of a tile's pixels that one grey may claim; scikit-image's default
NOT_FOUND = "The lungs were not found: the whole film was read."


def prepare(pixels: np.ndarray, size: int, steps: Sequence[str] = ()) -> tuple[np.ndarray, tuple[str, ...]]:
    """Squash (H, W) uint8 to (size, size) uint8, then take the named steps in their order.

    Returns:
        The film, (size, size) uint8, and what its reader should be warned of.

    Raises:
        ModelError: a step that is not one of STEPS.
    """
    if unknown := [name for name in steps if name not in STEPS]:
        raise ModelError(f"Expected preprocessing steps among {', '.join(STEPS)}, received {', '.join(unknown)}.")
    film, warnings = squash(pixels, size), []
    for name in steps:
        film, warning = STEPS[name](film)
        if warning:
            warnings.append(warning)
    return film, tuple(warnings)


def equalise(film: np.ndarray) -> tuple[np.ndarray, None]:
    """Histogram equalisation: every grey of (H, W) uint8 becomes 255 times the share of pixels not brighter."""
    from skimage.exposure import equalize_hist

    return _to_uint8(equalize_hist(film)), None


def clahe(film: np.ndarray) -> tuple[np.ndarray, None]:
    """Equalisation within tiles of an eighth of the side, contrast limited (Zuiderveld, Graphics Gems IV, 1994)."""
    from skimage.exposure import equalize_adapthist

    if film.min() == film.max():  # scikit-image stretches to the full range first: one grey would turn black
        return film, None
    return _to_uint8(equalize_adapthist(film, clip_limit=CLIP)), None


def close(film: np.ndarray) -> tuple[np.ndarray, None]:
    """Grey closing: dark details narrower than the disk are filled (Serra 1982, Image Analysis and Morphology)."""
    from skimage.morphology import closing

    return closing(film, _disk(film), mode="ignore"), None


def open_(film: np.ndarray) -> tuple[np.ndarray, None]:
    """Grey opening: bright details narrower than the disk, as lines and tubes are, are taken away (Serra 1982)."""
    from skimage.morphology import opening

    return opening(film, _disk(film), mode="ignore"), None


def level(film: np.ndarray) -> tuple[np.ndarray, None]:
    """Give (H, W) uint8 the tone of every film, whatever its gain, offset or gamma was; see `tone.level`."""
    return tone.level(film), None


def only_lungs(film: np.ndarray) -> tuple[np.ndarray, str | None]:
    """Blacken what `lungs.keep` does not keep; a film whose lungs are not found stays whole, with a warning."""
    from pneumo.films import lungs

    kept = lungs.keep(film)
    return (film, NOT_FOUND) if kept is None else (np.where(kept, film, np.uint8(0)), None)


STEPS: dict[str, Step] = {
    "equalise": equalise,
    "clahe": clahe,
    "close": close,
    "open": open_,
    "lungs": only_lungs,
    "level": level,
}


def _disk(film: np.ndarray) -> np.ndarray:
    from skimage.morphology import disk

    return disk(max(1, round(RADIUS * len(film) / 224)))


def _to_uint8(shares: np.ndarray) -> np.ndarray:
    """0..1 -> 0..255."""
    return (255 * shares).round().clip(0, 255).astype(np.uint8)
