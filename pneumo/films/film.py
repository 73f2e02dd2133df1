"""One grey film and what the network reads of it: the same in training and in serving.

Nothing here knows about file formats, networks, thresholds or HTTP.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

MAX_PIXELS = 32_000_000  # a 35 × 43 cm film at 0.1 mm is 15 megapixels
MIN_SIDE = 32  # below this there is no film to read, whatever the network would answer


@dataclass(frozen=True)
class Film:
    """A decoded picture: `pixels` (H, W) uint8, bones bright; `width` and `height` as in the file, upright.

    `age` is the patient's in years, None where the file does not say it. `refused`: the file says that it is no frontal
    film of a chest, and was read by `force`. `doubtful`: tone or origin of the pixels leave any answer in doubt.
    """

    pixels: np.ndarray
    format: str
    width: int
    height: int
    warnings: tuple[str, ...] = ()
    age: float | None = None
    refused: bool = False
    doubtful: bool = False


def squash(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize (H, W) uint8 to (size, size) uint8 with Pillow's antialiased bicubic filter, aspect ratio not kept.

    The films of the training set were squashed this way; PIL's and TensorFlow's filters differ enough to change
    answers, so this is the only resize there is.
    """
    if pixels.shape == (size, size):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC))


def to_input(pixels: np.ndarray, size: int) -> np.ndarray:
    """Make what the network reads of (H, W) uint8: (1, size, size, 3) float32 in 0..255, a view of one grey."""
    grey = squash(pixels, size).astype(np.float32)
    return np.broadcast_to(grey[None, :, :, None], (1, size, size, 3))
