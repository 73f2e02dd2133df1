"""Map of logits -> picture of the regions that raised the probability.

The colours have one scale for all films, from the card: a map is never stretched to its own range, which would
paint hot spots on normals. These are regions that raised the probability, not where a pneumonia is (Saporta et al.
2022, doi 10.1038/s42256-022-00536-x).
"""

import base64
import functools
import io

import numpy as np
from PIL import Image

LONGER_SIDE = 224  # pixels of the overlay; the map has far fewer positions, more would show nothing
BLENDED_SIDE = 672  # pixels of film and overlay in one picture
FLOOR, FULL = 99, 95  # percentiles of `span`
_MAX_ALPHA = 190
# Four anchors of matplotlib's perceptually uniform "inferno" (Smith and van der Walt), dark to bright.
_ANCHORS = np.array([(87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], float)


@functools.cache
def _palette() -> bytes:
    """256 RGBA colours: 0 is clear, then darker and fainter to brighter and denser."""
    level = np.linspace(0, 1, 256)
    rgb = np.stack([np.interp(level, np.linspace(0, 1, len(_ANCHORS)), _ANCHORS[:, c]) for c in range(3)], axis=1)
    alpha = _MAX_ALPHA * np.sqrt(level)
    return np.column_stack([rgb, alpha]).round().astype(np.uint8).tobytes()


def span(maps: np.ndarray, target: np.ndarray) -> dict[str, float | str]:
    """Where the colours begin and end, for the card: `floor` and `scale` of `strength`, and the `rule` they follow.

    `maps` are (n, h, w) logits of validation's films, `target` (n,) is 1 for pneumonia. What is drawn exceeds what
    normal films show: where a normal film's lungs speak strongly against pneumonia, positions that say nothing lie
    above the film's logit, and may lie above its threshold.
    """
    normal, ill = maps[target == 0], maps[target == 1]
    floor = np.percentile(normal, FLOOR)
    above = ill[ill > floor] - floor
    return {
        "floor": float(floor),
        "scale": float(np.percentile(above, FULL)) if len(above) else 1.0,  # a model that tells nothing
        "rule": f"floor: percentile {FLOOR} of the positions of validation's normals; "
        f"scale: percentile {FULL} of how far positions of its pneumonias exceed that",
    }


def coverage(coloured: dict[str, float | None]) -> str:
    """In words, what share of the map has colour on average, by label; None for a label without films."""
    told = [f"{100 * share:.1f} % of a film labelled {name}" for name, share in coloured.items() if share is not None]
    return f"On average the heat map has colour on {' and on '.join(told)}."


def strength(logit_map: np.ndarray, floor: float, scale: float) -> np.ndarray:
    """(h, w) float32 logits -> (h, w) float32 in 0..1: 0 at `floor` logits or below, 1 from `floor + scale` on."""
    return np.clip((logit_map - floor) / scale, 0, 1).astype(np.float32)


def overlay(strengths: np.ndarray, width: int, height: int) -> Image.Image:
    """(h, w) float32 in 0..1 -> a palette picture with alpha, at the film's aspect ratio, to be laid over the film."""
    ratio = LONGER_SIDE / max(width, height)
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    levels = Image.fromarray((strengths * 255).round().astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    picture = Image.frombytes("P", size, levels.tobytes())
    picture.putpalette(_palette(), "RGBA")
    return picture


def blend(film: np.ndarray, picture: Image.Image | None) -> Image.Image:
    """Lay the overlay over (H, W) uint8: an RGB picture of the overlay's shape, BLENDED_SIDE pixels long.

    Without an overlay, the film alone in that size.
    """
    if picture is None:
        alone = Image.fromarray(film).convert("RGB")
        ratio = BLENDED_SIDE / max(alone.size)
        return alone.resize([max(1, round(side * ratio)) for side in alone.size], Image.Resampling.BICUBIC)
    size = tuple(max(1, round(side * BLENDED_SIDE / LONGER_SIDE)) for side in picture.size)
    base = Image.fromarray(film).resize(size, Image.Resampling.BICUBIC).convert("RGBA")
    over = picture.convert("RGBA").resize(size, Image.Resampling.BICUBIC)
    return Image.alpha_composite(base, over).convert("RGB")


def data_uri(picture: Image.Image, file_format: str = "PNG", **options: int) -> str:
    """Encode a picture as a data URI, in memory."""
    buffer = io.BytesIO()
    if file_format == "PNG":
        options = {"compress_level": 1} | options
    picture.save(buffer, file_format, **options)
    return f"data:image/{file_format.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
