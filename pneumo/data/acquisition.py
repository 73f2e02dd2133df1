"""Acquisition features: numbers that say how a film was acquired, processed and saved.

None of these numbers knows what a lung is. If they tell the labels of a folder apart, a network can learn them instead
of pneumonia, and its metrics then say little (Zech et al. 2018, doi 10.1371/journal.pmed.1002683; DeGrave et al. 2021,
doi 10.1038/s42256-021-00338-7). `audit` measures how far that goes. Knows nothing of labels or networks.
"""

import functools
import io

import numpy as np
from PIL import Image

from pneumo.films.film import squash
from pneumo.films.images import decode

SIZE = 224  # pixels of the squashed square on which everything but the file itself is measured
SCALES = (1, 2, 4)  # sharpness is measured on the film and on its means of 2 × 2 and 4 × 4 pixels
BLACK, BRIGHT = 10, 230  # grey levels: JPEG leaves a black border within about ten of 0
FRAME = SIZE // 28  # 8 pixels: the outermost frame, where a film shows its border
CORNER, EDGE = SIZE // 5, SIZE // 8  # 44 and 28 pixels: where the letter R or L, a date or a voltage stands
PERCENTILES = (5, 25, 50, 75, 95)
SIDES = ("top", "bottom", "left", "right")
# Rows and columns where markers stand. In Kermany's data set the pneumonias' R and date are large and in the upper
# corners, the normals' R is small and half-way down the left edge or beside the neck.
_FIRST, _LAST, _BETWEEN = slice(None, CORNER), slice(-CORNER, None), slice(CORNER, -CORNER)
PLACES = {
    "top_left": (_FIRST, _FIRST),
    "top_right": (_FIRST, _LAST),
    "bottom_left": (_LAST, _FIRST),
    "bottom_right": (_LAST, _LAST),
    "top": (slice(None, EDGE), _BETWEEN),
    "left": (_BETWEEN, slice(None, EDGE)),
    "right": (_BETWEEN, slice(-EDGE, None)),
}

# Every number and what it is. A group is what can be named as a reason. Where two explain the labels equally well, the
# earlier is named, being the cause: blur makes the file smaller, and a smaller file does not blur.
GROUPS: dict[str, dict[str, str]] = {
    "picture size": {
        "width": "pixels, upright, in the file; a squashed copy has lost the film's own",
        "height": "pixels, likewise",
        "aspect": "width over height",
    },
    "JPEG quality": {
        "jpeg_quality": "quality, 1..100, at which libjpeg would use such a luminance table; 0 if not a JPEG",
    },
    "sharpness": {
        **{f"across_{s}": "RMS grey step to the pixel on the right, over `deviation`; 2, 4: of means" for s in SCALES},
        **{f"down_{s}": "the same to the pixel below; against across it tells how a film was squashed" for s in SCALES},
        **{f"laplacian_{s}": "RMS of the 4-neighbour Laplacian, over `deviation`; likewise" for s in SCALES},
    },
    "tone": {
        "mean": "mean grey, 0..255",
        "deviation": "standard deviation of the grey",
        **{f"percentile_{p:02}": "that percentile of the grey" for p in PERCENTILES},
        "bright_share": f"share of pixels at {BRIGHT} or above",
    },
    "border": {
        "black_share": f"share of pixels at {BLACK} or below",
        "border_tone": f"mean grey of the outermost {FRAME} pixels",
        "border_deviation": "standard deviation of the grey there",
        "border_black": f"share of the pixels there at {BLACK} or below",
        **{f"edge_{side}": "mean grey of the outermost line on that side" for side in SIDES},
        "border_rows": f"share of the height in rows of mean {BLACK} or below, counted inwards from top and bottom",
        "border_columns": "the same for columns, from left and right",
    },
    "markers": {
        f"marker_{place}": "percentile 99 of the grey at that corner or edge less its median" for place in PLACES
    },
    "file size": {
        "file_bytes": "bytes of the file",
        "bits_per_pixel": "bits of the file per pixel of the picture",
    },
}
FEATURES = tuple(name for group in GROUPS.values() for name in group)


def measure_acquisition(data: bytes) -> dict[str, float]:
    """Measure the file of one film: FEATURES by name, as GROUPS describes them.

    Raises:
        FormatError, TooLargeError, UnreadableError: see `images.decode`.
    """
    film = decode(data)
    grey = squash(film.pixels, SIZE).astype(np.float32)  # (SIZE, SIZE) in 0..255
    values = _scales(grey) | _border(grey) | _tone(grey) | _markers(grey)
    values |= {
        "jpeg_quality": estimate_jpeg_quality(data) if film.format == "JPEG" else 0,
        "file_bytes": len(data),
        "bits_per_pixel": 8 * len(data) / (film.width * film.height),
        "width": film.width,
        "height": film.height,
        "aspect": film.width / film.height,
    }
    return {name: float(values[name]) for name in FEATURES}


def measure_sharpness(grey: np.ndarray) -> float:
    """Measure the RMS grey step between neighbours, across and down, over the deviation: (H, W) in 0..255 -> 0 or more.

    Dividing by the deviation makes brighter, darker and flatter copies as sharp as the film. 0 for a film of one grey.
    """
    return float(np.hypot(*_steps(grey)) / (grey.std() or 1))


def estimate_jpeg_quality(data: bytes) -> int:
    """Find the quality, 1..100, whose luminance quantisation table has the sum closest to that of this JPEG."""
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        total = sum(image.quantization[min(image.quantization)])
    return int(np.argmin(np.abs(_table_sums() - total))) + 1


def _steps(grey: np.ndarray) -> tuple[float, float]:
    """RMS difference to the pixel on the right, and to the pixel below."""
    return tuple(np.sqrt(np.mean(np.diff(grey, axis=axis) ** 2)) for axis in (1, 0))


def _scales(grey: np.ndarray) -> dict[str, float]:
    values, deviation = {}, grey.std() or 1
    for scale in SCALES:
        means = grey.reshape(SIZE // scale, scale, SIZE // scale, scale).mean(axis=(1, 3))
        around = means[:-2, 1:-1] + means[2:, 1:-1] + means[1:-1, :-2] + means[1:-1, 2:]
        across, down = _steps(means)
        laplacian = np.sqrt(np.mean((4 * means[1:-1, 1:-1] - around) ** 2))
        for name, value in (("across", across), ("down", down), ("laplacian", laplacian)):
            values[f"{name}_{scale}"] = value / deviation
    return values


def _border(grey: np.ndarray) -> dict[str, float]:
    frame = np.ones(grey.shape, bool)
    frame[FRAME:-FRAME, FRAME:-FRAME] = False

    def depth(means: np.ndarray) -> float:
        """Share of the lines that are black without a break from either end."""
        lit = np.flatnonzero(means > BLACK)
        return 1 - (lit[-1] - lit[0] + 1) / SIZE if len(lit) else 1.0

    return {
        "black_share": np.mean(grey <= BLACK),
        "border_tone": grey[frame].mean(),
        "border_deviation": grey[frame].std(),
        "border_black": np.mean(grey[frame] <= BLACK),
        "edge_top": grey[0].mean(),
        "edge_bottom": grey[-1].mean(),
        "edge_left": grey[:, 0].mean(),
        "edge_right": grey[:, -1].mean(),
        "border_rows": depth(grey.mean(axis=1)),
        "border_columns": depth(grey.mean(axis=0)),
    }


def _tone(grey: np.ndarray) -> dict[str, float]:
    return {
        "mean": grey.mean(),
        "deviation": grey.std(),
        **{f"percentile_{p:02}": value for p, value in zip(PERCENTILES, np.percentile(grey, PERCENTILES), strict=True)},
        "bright_share": np.mean(grey >= BRIGHT),
    }


def _markers(grey: np.ndarray) -> dict[str, float]:
    """How far the brightest pixels stand out from the grey around them: a marker is bright on dark."""
    spread = {place: np.percentile(grey[region], (50, 99)) for place, region in PLACES.items()}
    return {f"marker_{place}": brightest - median for place, (median, brightest) in spread.items()}


@functools.cache
def _table_sums() -> np.ndarray:
    """(100,) sums of libjpeg's luminance table at quality 1 to 100, asked of the library itself."""
    sums, blank = [], Image.new("L", (8, 8))
    for quality in range(1, 101):
        buffer = io.BytesIO()
        blank.save(buffer, "JPEG", quality=quality)
        with Image.open(buffer) as saved:
            sums.append(sum(saved.quantization[0]))
    return np.array(sums)
