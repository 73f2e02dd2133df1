"""Map of logits -> a picture of the regions that raised the probability.

All films share one colour scale, from the card. A map stretched to its own range would paint hot spots on normal films.
The map shows what raised the probability, not where a pneumonia is (Saporta et al. 2022, doi
10.1038/s42256-022-00536-x).
"""

import base64
import functools
import io

import numpy as np
from PIL import Image

LONGER_SIDE = 224  # pixels of the overlay's longer side; the map has far fewer positions
BLENDED_SIDE = 672  # pixels of the longer side of film and overlay in one picture
FLOOR, FULL = 99, 95  # percentiles that `choose_scale` takes
_MAX_ALPHA = 190
# Four anchors of matplotlib's perceptually uniform "inferno" (Smith and van der Walt), dark to bright.
_ANCHORS = np.array([(87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], float)


@functools.cache
def _palette() -> bytes:
    """Make 256 RGBA colours: 0 is clear; from 1 to 255 they grow brighter and denser."""
    level = np.linspace(0, 1, 256)
    rgb = np.stack([np.interp(level, np.linspace(0, 1, len(_ANCHORS)), _ANCHORS[:, c]) for c in range(3)], axis=1)
    alpha = _MAX_ALPHA * np.sqrt(level)
    return np.column_stack([rgb, alpha]).round().astype(np.uint8).tobytes()


def choose_scale(maps: np.ndarray, target: np.ndarray) -> dict[str, float | str]:
    """Choose where the colours begin and end: `floor` and `scale` for `to_strengths`, with the `rule` in words.

    `maps` are (n, h, w) logits of the validation films, `target` (n,) is 1 for pneumonia. Colours begin above nearly
    all positions of normal films. The threshold's logit would be too low: in normal films the lungs speak strongly
    against pneumonia, so positions outside them, about 0, lie above it.
    """
    normal, ill = maps[target == 0], maps[target == 1]
    floor = np.percentile(normal, FLOOR)
    above = ill[ill > floor] - floor
    return {
        "floor": float(floor),
        "scale": float(np.percentile(above, FULL)) if len(above) else 1.0,  # a model that learned nothing
        "rule": f"floor: percentile {FLOOR} of the positions of validation's normals; "
        f"scale: percentile {FULL} of how far positions of its pneumonias exceed that",
    }


def describe_coverage(coloured: dict[str, float | None]) -> str:
    """Say what share of the map has colour on average, by label; a label without films has None and is left out."""
    told = [f"{100 * share:.1f} % of a film labelled {name}" for name, share in coloured.items() if share is not None]
    return f"On average the heat map has colour on {' and on '.join(told)}."


def pool(maps: np.ndarray, sharpness: float) -> np.ndarray:
    """Compute the films' logits, (...), of maps (..., h, w): log(mean(exp(sharpness · logit))) / sharpness.

    That lies between the mean of the map, for a sharpness of 0, and its maximum, for an endless one.
    """
    if not sharpness:
        return maps.mean(axis=(-2, -1))
    sharp = sharpness * maps.astype(np.float64)
    highest = sharp.max(axis=(-2, -1), keepdims=True)
    return (highest[..., 0, 0] + np.log(np.exp(sharp - highest).mean(axis=(-2, -1)))) / sharpness


def to_strengths(logit_map: np.ndarray, floor: float, scale: float) -> np.ndarray:
    """Scale (h, w) logits to (h, w) float32 in 0..1: 0 up to the logit `floor`, 1 from `floor + scale` on."""
    return np.clip((logit_map - floor) / scale, 0, 1).astype(np.float32)


def draw_overlay(strengths: np.ndarray, width: int, height: int) -> Image.Image:
    """Draw (h, w) strengths in 0..1 as a palette picture with alpha, in the aspect ratio of the width × height film."""
    ratio = LONGER_SIDE / max(width, height)
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    levels = Image.fromarray((strengths * 255).round().astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    picture = Image.frombytes("P", size, levels.tobytes())
    picture.putpalette(_palette(), "RGBA")
    return picture


def blend(film: np.ndarray, picture: Image.Image | None) -> Image.Image:
    """Lay the overlay over an (H, W) uint8 film: an RGB picture, BLENDED_SIDE pixels on its longer side.

    Without an overlay (a model without a map) the picture shows the film alone.
    """
    if picture is None:
        alone = Image.fromarray(film).convert("RGB")
        ratio = BLENDED_SIDE / max(alone.size)
        return alone.resize([max(1, round(side * ratio)) for side in alone.size], Image.Resampling.BICUBIC)
    size = tuple(max(1, round(side * BLENDED_SIDE / LONGER_SIDE)) for side in picture.size)
    base = Image.fromarray(film).resize(size, Image.Resampling.BICUBIC).convert("RGBA")
    over = picture.convert("RGBA").resize(size, Image.Resampling.BICUBIC)
    return Image.alpha_composite(base, over).convert("RGB")


def to_data_uri(picture: Image.Image, file_format: str = "PNG", **options: int) -> str:
    """Encode a picture as a `data:` URI, in memory."""
    buffer = io.BytesIO()
    if file_format == "PNG":
        options = {"compress_level": 1} | options
    picture.save(buffer, file_format, **options)
    return f"data:image/{file_format.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
