"""The same film, acquired or saved otherwise: what the audit changes in films, and augmentation exchanges.

Films are (H, W) uint8. Knows nothing of labels or networks.
"""

import functools
import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageFilter

from pneumo.data.acquisition import CORNER, GROUPS, SIZE, measure_sharpness
from pneumo.films.film import squash
from pneumo.films.images import decode

MASKED_BORDER = SIZE // 12  # 18 pixels
COMMON_SHARPNESS = 10  # percentile of the films' sharpness to which the sharper nine tenths are blurred
COARSE = 4  # cycles across the film: what is coarser is the chest itself
GAIN = 5.0  # that a spatial frequency gets at most, either way: beyond, a blurred film would become its own noise


def list_changes(
    measured: Sequence[dict[str, float]], typical: np.ndarray
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """List, by name, the changes that take acquisition out of a film, then EVERYDAY: (SIZE, SIZE) uint8 -> uint8.

    `measured` are the features of the films to be changed (`measure_acquisition`): they give the common sharpness and
    tone. `typical` (SIZE, SIZE) uint8 is one of these films (`find_most_typical`): all get its spectrum and histogram.
    """
    mean, deviation = (float(np.median([one[name] for one in measured])) for name in ("mean", "deviation"))
    common = np.percentile([np.hypot(one["across_1"], one["down_1"]) for one in measured], COMMON_SHARPNESS)
    return {
        "corners masked": mask_corners,
        "borders masked": mask_borders,
        "corners and borders masked": lambda film: mask_corners(mask_borders(film)),
        "sharpness equalised": functools.partial(blur_to, target=float(common)),
        "tone equalised": functools.partial(tone_to, mean=mean, deviation=deviation),
        "spectrum and histogram equalised": functools.partial(acquire_like, other=typical),
        **EVERYDAY,
    }


def save_as_jpeg(film: np.ndarray, quality: int) -> np.ndarray:
    """Save (H, W) uint8 as a JPEG of that quality, and read it again."""
    buffer = io.BytesIO()
    Image.fromarray(film).save(buffer, "JPEG", quality=quality)
    return decode(buffer.getvalue()).pixels


# Changes that happen to films in daily use and that a reader would not mind: the label should stay.
EVERYDAY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "flipped left to right": lambda film: np.ascontiguousarray(film[:, ::-1]),
    "brighter by a fifth": lambda film: (1.2 * film).round().clip(0, 255).astype(np.uint8),
    "darker by a fifth": lambda film: (0.8 * film).round().astype(np.uint8),
    "saved as JPEG of quality 50": functools.partial(save_as_jpeg, quality=50),
    "blurred by a pixel": lambda film: np.asarray(Image.fromarray(film).filter(ImageFilter.GaussianBlur(1))),
    "turned by 5°": lambda film: np.asarray(Image.fromarray(film).rotate(5, Image.Resampling.BICUBIC)),
    "half the size": lambda film: squash(film, SIZE // 2),
}


def mask_corners(film: np.ndarray) -> np.ndarray:
    """Blacken the four corners, CORNER pixels square: black is what lies outside the beam."""
    masked = film.copy()
    for rows in (slice(CORNER), slice(-CORNER, None)):
        masked[rows, :CORNER] = masked[rows, -CORNER:] = 0
    return masked


def mask_borders(film: np.ndarray) -> np.ndarray:
    """Blacken the outermost MASKED_BORDER pixels on every side."""
    masked, inner = np.zeros_like(film), slice(MASKED_BORDER, -MASKED_BORDER)
    masked[inner, inner] = film[inner, inner]
    return masked


def blur_to(film: np.ndarray, target: float) -> np.ndarray:
    """Blur with the Gaussian that brings the sharpness down to `target`; a film that is not sharper stays as it is.

    That makes one number equal, not the whole spectrum: at coarser scales films still differ.
    """
    from scipy.ndimage import gaussian_filter

    grey = film.astype(np.float32)
    if measure_sharpness(grey) <= target:
        return film
    low, high = 0.0, SIZE / 8  # sharpness falls with the width of the Gaussian
    for _ in range(12):  # to 0.007 pixels
        middle = (low + high) / 2
        blurred = gaussian_filter(grey, middle, mode="nearest")
        low, high = (middle, high) if measure_sharpness(blurred) > target else (low, middle)
    return blurred.round().astype(np.uint8)


def tone_to(film: np.ndarray, mean: float, deviation: float) -> np.ndarray:
    """Stretch the greys linearly to this mean and deviation, as far as 0..255 allows."""
    grey = film.astype(np.float32)
    stretched = (grey - grey.mean()) * (deviation / (grey.std() or 1)) + mean
    return stretched.round().clip(0, 255).astype(np.uint8)


def find_most_typical(measured: Sequence[dict[str, float]]) -> int:
    """Find the film nearest to the median of all in sharpness and tone, each over its spread: its index."""
    names = [*GROUPS["sharpness"], *GROUPS["tone"]]
    values = np.array([[one[name] for name in names] for one in measured])  # (n, names)
    apart = np.abs(values - np.median(values, axis=0))
    return int((apart / (apart.mean(axis=0) + 1e-9)).sum(axis=1).argmin())


def acquire_like(film: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Give a film the sharpness and then the tone of another: (H, W) uint8 each.

    Sharpness is the mean power at each spatial frequency from COARSE on, whatever its direction; tone the histogram.
    """
    from skimage.exposure import match_histograms

    rings = _rings(film.shape)
    spectrum, model = np.fft.rfft2(film), np.fft.rfft2(other)  # (H, W // 2 + 1)
    power, wanted = (np.bincount(rings.ravel(), np.abs(one.ravel()) ** 2) for one in (spectrum, model))
    gain = np.sqrt(wanted / np.maximum(power, 1)).clip(1 / GAIN, GAIN)
    gain[0] = 1
    sharp = np.fft.irfft2(spectrum * gain[rings], film.shape).round().clip(0, 255).astype(np.uint8)
    return match_histograms(sharp, other).round().astype(np.uint8)


@functools.cache
def _rings(shape: tuple[int, int]) -> np.ndarray:
    """Number of the ring, a quarter of an octave wide, of each frequency of a film's `rfft2`; 0 below COARSE."""
    height, width = shape
    cycles = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width)[None] * width)
    return np.maximum(1 + 4 * np.log2(np.maximum(cycles, 1) / COARSE), 0).astype(int)
