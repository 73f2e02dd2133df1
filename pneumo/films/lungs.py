"""Where the lungs are on a child's frontal film: a pair of lung shapes laid over it, then drawn to its own greys.

Classical, since no outlines of lungs exist here to learn from: a shape is moved and stretched until the film is dark in
it and bright around it, relative to the greys nearby (templates under rigid and affine changes, with a Gaussian prior:
Cootes et al. 1995, doi 10.1006/cviu.1995.1004, without their modes). Both lungs are laid at once, so ribs, midriff and
the better lung hold the outline where the other is white with pneumonia; thresholds alone lose such lobes. Each field
is then the convex hull of what is dark there (cf. van Ginneken et al. 2006, doi 10.1016/j.media.2005.02.002).

Knows nothing of labels. scikit-image and SciPy are training's dependencies: only `preprocessing` imports this, late.
"""

import functools

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage import draw, filters, measure, morphology

from pneumo.films.film import squash

GRID = 48  # pixels a side where the shapes are laid
FINE = 112  # pixels a side where the outlines are drawn
# Corners (down, right) of the dark fields in their own boxes, of 0..1, for the lung on the film's left (the child's
# right) and on its right, beside the heart: contours of the mean of the 49 films, of 1,000 of the training part, whose
# fields one threshold tells apart.
SHAPES = (
    "1,0.05 0.9,0.01 0.76,0.07 0.63,0.13 0.51,0.2 0.38,0.28 0.29,0.36 0.18,0.49 0.09,0.59 0.02,0.75 "
    "0.03,0.92 0.16,0.99 0.32,0.95 0.43,0.89 0.57,0.84 0.71,0.84 0.84,0.8 0.89,0.67 0.9,0.44 0.95,0.23",
    "1,1 0.97,0.81 0.92,0.62 0.86,0.45 0.7,0.44 0.59,0.34 0.49,0.25 0.38,0.17 0.27,0.05 0.16,0 "
    "0.02,0.05 0.01,0.23 0.08,0.38 0.17,0.51 0.27,0.61 0.38,0.7 0.49,0.79 0.6,0.86 0.74,0.92 0.87,0.97",
)
# A placement: top, outer, bottom and inner edge of the box on the film's left, the same on its right, as shares of the
# film, and the tilt of both in radians. The mean is about that on films of the training part.
MEAN = np.array([0.17, 0.11, 0.86, 0.435, 0.17, 0.89, 0.86, 0.58, 0.0])
# Standard deviations: of what moves together (tops, bottoms, sideways, width), then of each edge for itself.
TOPS, BOTTOMS, SIDEWAYS, WIDTH = 0.07, 0.06, 0.04, 0.05
OWN = np.array([0.03, 0.0225, 0.025, 0.016, 0.03, 0.02, 0.025, 0.016, 0.06])
TRIED = 2000  # placements tried on every film, drawn once
PRIOR = 0.08  # weight of the squared Mahalanobis distance to the mean against the score
# Share of the film that the ring around a shape is wide: the ribs' arch and not the arm behind it. At 0.07 shapes grew
# over the shoulders of infants.
RING = 0.03
REACH = 0.05  # share of the film by which a drawn outline may leave the laid shape
LEAST_AGREEMENT = 0.85  # Dice; below it a lobe is white, or the black beside the body was joined
MARGIN = 0.03  # share of the film kept around the fields
# Plausible is: how much darker the fields are than their surroundings (in local standard deviations), each field's
# share of the film, their ratio, what both claim.
LEAST_CONTRAST, LEAST_SCORE = 0.45, 6.0
AREAS = (0.03, 0.30)
LEAST_RATIO = 0.4
MOST_SHARED = 0.01
_CELLS, _LOW, _HIGH = 96, -0.4, 1.4  # the tables in which a shape is looked up reach beyond its box


def find(pixels: np.ndarray) -> np.ndarray | None:
    """Find both lung fields of (H, W) uint8: (H, W) bool, or None where they are not plausible."""
    fields = _fields(pixels)
    return None if fields is None else _enlarged(fields[0] | fields[1], pixels.shape)


def keep(pixels: np.ndarray) -> np.ndarray | None:
    """Mark what a reader of the lungs needs of (H, W) uint8: (H, W) bool, or None where the lungs are not found.

    Each field, the other's mirror image, and a margin: lung behind the heart and lobes white with pneumonia are kept.
    """
    fields = _fields(pixels)
    if fields is None:
        return None
    both = fields[0] | fields[1]
    columns = np.flatnonzero(both.any(axis=0))
    twice = columns[0] + columns[-1]  # of the midline
    source = twice - np.arange(FINE)
    inside = (source >= 0) & (source < FINE)
    both[:, inside] |= both[:, source[inside]]  # the right side is a copy, made before it is written
    near = ndimage.distance_transform_edt(~both) <= MARGIN * FINE
    return _enlarged(near, pixels.shape)


def _fields(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Draw the two fields, (FINE, FINE) bool each; None where they are not plausible."""
    grey = squash(pixels, GRID).astype(np.float32)
    away = _outside(grey)
    placement, score, contrast = _lay(_relative(grey, away).ravel())
    if score < LEAST_SCORE or contrast < LEAST_CONTRAST:
        return None
    shapes = [part.reshape(FINE, FINE) > 0.5 for part in _render(placement[None], FINE)[0][:, 0]]
    if not all(shape.any() for shape in shapes):
        return None
    smooth = ndimage.gaussian_filter(squash(pixels, FINE).astype(np.float32), 1.5)
    away = _enlarged(away, smooth.shape)
    fields = tuple(_drawn(smooth, shape, other | away) for shape, other in (shapes, shapes[::-1]))
    areas = [field.mean() for field in fields]
    shared = (fields[0] & fields[1]).mean()
    if min(areas) < AREAS[0] or max(areas) > AREAS[1] or min(areas) < LEAST_RATIO * max(areas) or shared > MOST_SHARED:
        return None
    return fields


def _outside(grey: np.ndarray) -> np.ndarray:
    """Find the black beside the body: dark, reached from top or sides, and in no hollow. (n, n) float -> bool.

    A lung is dark, too, but a hollow among brighter greys: what filling hollows (Vincent 1993, doi 10.1109/83.217222)
    raises is no outside, even where a shoulder cut by the film's edge joins the two.
    """
    seed = np.full_like(grey, grey.max())
    seed[[0, -1]], seed[:, [0, -1]] = grey[[0, -1]], grey[:, [0, -1]]
    hollow = morphology.reconstruction(seed, grey, method="erosion") - grey
    dark = (hollow < 4) & (grey < 0.8 * (filters.threshold_otsu(grey) if grey.max() > grey.min() else 0))
    numbers = measure.label(dark, connectivity=1)
    reached = np.unique(np.concatenate([numbers[0], numbers[:, 0], numbers[:, -1]]))
    away = dark & np.isin(numbers, reached)
    return ndimage.binary_closing(np.pad(away, 2, mode="edge"), iterations=2)[2:-2, 2:-2]  # and the noise in the black


def _relative(grey: np.ndarray, away: np.ndarray) -> np.ndarray:
    """Compare each grey of (n, n) with those near it and not `away`: (n, n) standard deviations, -2..2."""
    weight = (~away).astype(np.float32)
    blur = functools.partial(ndimage.gaussian_filter, sigma=0.19 * len(grey), mode="nearest")
    total = blur(weight) + 1e-3
    mean = blur(grey * weight) / total
    deviation = np.sqrt(blur(weight * (grey - mean) ** 2) / total)
    relative = (grey - mean) / np.maximum(deviation, 6)  # 6 of 255: noise on an empty film is no contrast
    relative[away] = 0.2  # no lung: a shape that takes it in darkens no further
    return np.clip(relative, -2, 2)


@functools.cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Tabulate for either lung, (2, _CELLS²) float32, how much a place in its box is inside, and in the ring."""
    scale = (_HIGH - _LOW) / (_CELLS - 1)
    inside, ring = [], []
    for shape in SHAPES:
        corners = np.array([corner.split(",") for corner in shape.split()], float)
        mask = draw.polygon2mask((_CELLS, _CELLS), (corners - _LOW) / scale)
        cell = (0.69 * scale, 0.32 * scale)  # as a share of the film, for a box of mean size
        away = ndimage.distance_transform_edt(~mask, cell) - ndimage.distance_transform_edt(mask, cell)
        inside.append(1 / (1 + np.exp(away / 0.008)))
        ring.append((1 - inside[-1]) / (1 + np.exp((away - RING) / 0.01)))
    return tuple(np.float32(part).reshape(2, -1) for part in (inside, ring))


def _render(placements: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw (n, 9) placements: inside and ring of both lungs, (2, n, size²) float32 in 0..1 each."""
    placed = placements.astype(np.float32)[..., None]  # (n, 9, 1)
    middle = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    down, right = (part.reshape(1, -1) for part in np.meshgrid(middle, middle, indexing="ij"))
    cosine, sine = np.cos(placed[:, 8]), np.sin(placed[:, 8])
    down, right = cosine * down - sine * right + 0.5, sine * down + cosine * right + 0.5  # (n, size²)

    def cell(at: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        steps = ((at - first) * (1 / (last - first)) - _LOW) * ((_CELLS - 1) / (_HIGH - _LOW)) + 0.5
        return np.clip(steps, 0, _CELLS - 1).astype(np.int32)

    inside, ring = [], []
    for lung, (top, outer, bottom, inner) in enumerate((placed[:, :4].swapaxes(0, 1), placed[:, 4:8].swapaxes(0, 1))):
        left, far = (outer, inner) if lung == 0 else (inner, outer)
        index = cell(down, top, bottom) * _CELLS + cell(right, left, far)
        for table, parts in zip(_tables(), (inside, ring), strict=True):
            parts.append(table[lung].take(index))
    return np.stack(inside), np.stack(ring)


def _templates(placements: np.ndarray) -> np.ndarray:
    """Make templates of (n, 9) placements: times a relative film, (n, GRID²) float32 tell how well each lies on it.

    Mean of the ring less mean of the inside, over the standard error it had if the film were white noise.
    """
    inside, ring = (part.max(axis=0) for part in _render(placements, GRID))
    ring *= 1 - inside
    inner, outer = inside.sum(axis=1, keepdims=True), ring.sum(axis=1, keepdims=True)
    return (ring / outer - inside / inner) / np.sqrt(1 / inner + 1 / outer)


@functools.cache
def _modes() -> np.ndarray:
    """Make the matrix (13, 9) that turns 13 standard normal numbers into a placement less the mean."""
    top, outer, bottom, inner = ([i, i + 4] for i in range(4))
    modes = np.zeros((4, 9))
    modes[0, top], modes[1, bottom], modes[2, outer + inner] = TOPS, BOTTOMS, SIDEWAYS
    modes[3, outer], modes[3, inner] = (-WIDTH, WIDTH), (-WIDTH / 5, WIDTH / 5)
    return np.concatenate([modes, np.diag(OWN)])


@functools.cache
def _bank() -> tuple[np.ndarray, np.ndarray]:
    """Draw TRIED - 1 placements from the prior, after the mean: (TRIED, 9), and their templates."""
    noise = np.random.default_rng(0).standard_normal((TRIED, 13))
    noise[0] = 0
    placements = MEAN + noise @ _modes()
    return placements, _templates(placements)


def _lay(relative: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Find the best placement (9,) on (GRID²,) relative greys, its score less the prior's, and the contrast there.

    The best of the bank, then of changes of the best ones, ever smaller: always the same, so a film has one answer.
    """
    precision = np.linalg.inv(_modes().T @ _modes())

    def scores(placements: np.ndarray, templates: np.ndarray) -> np.ndarray:
        off = placements - MEAN
        return templates @ relative - PRIOR * np.einsum("ni,ij,nj->n", off, precision, off)

    placements, templates = _bank()
    values = scores(placements, templates)
    noise = np.random.default_rng(1)
    for step, kept in enumerate((3, 3, 2, 2, 1, 1, 1)):
        best = np.argsort(-values)[:kept]
        placements, values = placements[best], values[best]
        changes = noise.standard_normal((48 // kept, 13)) @ _modes() * (0.45 * 0.62**step)
        changed = (placements[:, None] + changes).reshape(-1, 9)
        placements = np.concatenate([placements, changed])
        values = np.concatenate([values, scores(changed, _templates(changed))])
    best = int(np.argmax(values))
    inside, ring = (part.max(axis=0)[0] for part in _render(placements[best : best + 1], GRID))
    ring = ring * (1 - inside)
    contrast = relative @ ring / ring.sum() - relative @ inside / inside.sum()
    return placements[best], float(values[best]), float(contrast)


def _drawn(smooth: np.ndarray, shape: np.ndarray, barred: np.ndarray) -> np.ndarray:
    """Draw one field: the hull of what is dark in and near its laid shape, or of the shape where they disagree."""
    laid = morphology.convex_hull_image(shape)
    near = (ndimage.distance_transform_edt(~laid) <= REACH * FINE) & (~barred | shape)
    beside = near & ~laid
    level = (smooth[shape].mean() + smooth[beside].mean()) / 2 if beside.any() else 255
    numbers = measure.label(ndimage.binary_opening(near & (smooth < level), iterations=2))
    if not numbers.any():
        return laid
    hull = morphology.convex_hull_image(numbers == np.argmax(np.bincount(numbers.ravel())[1:]) + 1) & near
    agreement = 2 * (hull & laid).sum() / (hull.sum() + laid.sum())  # Dice
    return hull if agreement > LEAST_AGREEMENT else laid


def _enlarged(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Enlarge (FINE, FINE) bool to (H, W) bool."""
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(grey.resize(shape[::-1], Image.Resampling.BILINEAR)) > 127
