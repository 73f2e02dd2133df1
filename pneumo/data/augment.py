"""Augmentation in training: what may differ between two films of the same chest. The only import of imgaug.

Four families: geometry (the patient's position), intensity (exposure and processing), acquisition (sharpness and
compression), framing (collimation, border, laterality markers). The last two are there because in Kermany's data set
sharpness, border and markers alone tell the classes apart: normals are larger and sharper, with more black border. A
network must not learn that (`pneumo audit`). A fifth, exchange, gives a film the sharpness and tone of another film of
either class, so that they no longer tell the classes apart.
"""

from collections.abc import Callable, Sequence

import numpy as np

if not hasattr(np, "sctypes"):  # imgaug 0.4.0 is from 2020; NumPy 2 dropped this one dictionary that it reads
    np.sctypes = {
        "int": [np.int8, np.int16, np.int32, np.int64],
        "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
        "float": [np.float16, np.float32, np.float64],
        "complex": [np.complex64, np.complex128],
        "others": [bool, object, bytes, str, np.void],
    }

import imgaug.augmenters as iaa
from imgaug.augmentables.bbs import BoundingBox
from imgaug.parameters import Choice, Uniform

from pneumo.data.changes import acquire_like
from pneumo.data.dataset import Box


def geometry() -> list[iaa.Augmenter]:
    """Flip, rotation ±12°, scale ±15 %, shift ±7 %, shear ±5°."""
    return [
        iaa.Fliplr(0.5),
        iaa.Affine(
            rotate=(-12, 12),
            scale={"x": (0.87, 1.15), "y": (0.87, 1.15)},
            translate_percent={"x": (-0.07, 0.07), "y": (-0.07, 0.07)},
            shear=(-5, 5),
            mode=["constant", "constant", "edge", "reflect"],
        ),
    ]


def intensity() -> list[iaa.Augmenter]:
    """Brightness and contrast ±30 %, gamma 0.65 to 1.5."""
    return [
        iaa.Sometimes(0.7, iaa.LinearContrast((0.7, 1.3))),
        iaa.Sometimes(0.7, iaa.Multiply((0.7, 1.3))),
        iaa.Sometimes(0.5, iaa.GammaContrast((0.65, 1.5))),
    ]


def acquisition(share: float = 1.0) -> list[iaa.Augmenter]:
    """Blur, down- and upsampling, sharpening, noise, JPEG of quality 20 to 80; `share` scales their probabilities."""
    return [
        # three draws, not iaa.OneOf, which does not follow the seed
        iaa.Sometimes(0.25 * share, iaa.GaussianBlur((0.3, 1.6))),
        iaa.Sometimes(0.25 * share, iaa.KeepSizeByResize(iaa.Resize((0.35, 0.9)), interpolation="cubic")),
        iaa.Sometimes(0.2 * share, iaa.Sharpen(alpha=(0.1, 0.6), lightness=(0.9, 1.1))),
        iaa.Sometimes(0.2 * share, iaa.AdditiveGaussianNoise(scale=(1, 6))),
        iaa.Sometimes(0.3 * share, iaa.JpegCompression(compression=(20, 80))),
    ]


def _blacken(films: list[np.ndarray], random: np.random.Generator, *_: object) -> list[np.ndarray]:
    """Blacken up to 12 % of each side, and in half of the films a square of 8 to 24 % in every corner."""
    covered = []
    for film in films:
        film = film.copy()
        height, width = film.shape[:2]
        top, bottom, left, right = random.uniform(0, 0.12, 4)
        film[: round(top * height)] = film[height - round(bottom * height) :] = 0
        film[:, : round(left * width)] = film[:, width - round(right * width) :] = 0
        if random.uniform(0, 1) < 0.5:
            corner = random.uniform(0.08, 0.24)
            rows, columns = round(corner * height), round(corner * width)
            for part in (film[:rows], film[height - rows :]):
                part[:, :columns] = part[:, width - columns :] = 0
        covered.append(film)
    return covered


def _cover_corners(largest: float) -> iaa.Augmenter:
    """Cover one to four places near a corner with grey, 12 % to `largest` of the side."""
    near_edge = Choice([Uniform(0.0, 0.12), Uniform(0.88, 1.0)])
    place = {"position": (near_edge, near_edge), "size": (0.12, largest), "squared": False}
    return iaa.Cutout(nb_iterations=(1, 4), **place, fill_mode="constant", cval=(0, 128))


def framing() -> list[iaa.Augmenter]:
    """Each side cut off or given a black border by up to 12 %, in half of the films; corners covered in a third.

    In a quarter, black over the film's own border.
    """
    return [
        iaa.Sometimes(0.5, iaa.CropAndPad(percent=(-0.12, 0.12), pad_mode="constant", pad_cval=(0, 12))),
        iaa.Sometimes(0.33, _cover_corners(0.28)),
        iaa.Sometimes(0.25, iaa.Lambda(func_images=_blacken)),
    ]


def exchange() -> list[iaa.Augmenter]:
    """In half of the films, the sharpness and tone of another film of the batch."""
    return [iaa.Sometimes(0.5, iaa.Lambda(func_images=_exchange))]


def _exchange(films: list[np.ndarray], random: np.random.Generator, *_: object) -> list[np.ndarray]:
    order = random.permutation(len(films))
    return [
        acquire_like(film[..., 0], films[other][..., 0])[..., None] for film, other in zip(films, order, strict=True)
    ]


def films(acquisition_share: float = 1.0) -> list[iaa.Augmenter]:
    """All four families, and an erased rectangle in half of the films."""
    rectangle = iaa.Cutout(nb_iterations=1, size=(0.1, 0.3), squared=False, fill_mode="constant", cval=0)
    return [
        *geometry(),
        *intensity(),
        *acquisition(acquisition_share),
        *framing(),
        iaa.Sometimes(0.5, rectangle),
    ]


def hospitals(acquisition_share: float = 1.0) -> list[iaa.Augmenter]:
    """The exchange and all four families, each milder than in `films`, and nothing erased inside the chest.

    For two hospitals' films: an opacity in a box stays where it can be seen.
    """
    return [
        *exchange(),
        iaa.Fliplr(0.5),
        iaa.Affine(
            rotate=(-10, 10),
            scale={"x": (0.88, 1.12), "y": (0.88, 1.12)},
            translate_percent={"x": (-0.06, 0.06), "y": (-0.06, 0.06)},
            mode=["constant", "edge"],
        ),
        iaa.Sometimes(0.5, iaa.LinearContrast((0.75, 1.25))),
        iaa.Sometimes(0.5, iaa.Multiply((0.75, 1.25))),
        iaa.Sometimes(0.4, iaa.GammaContrast((0.7, 1.4))),
        *acquisition(acquisition_share),
        iaa.Sometimes(0.35, iaa.CropAndPad(percent=(-0.1, 0.1), pad_mode="constant", pad_cval=(0, 12))),
        iaa.Sometimes(0.2, _cover_corners(0.24)),
        iaa.Sometimes(0.2, iaa.Lambda(func_images=_blacken)),
    ]


def _zoom(percent: float) -> iaa.Augmenter:
    low, high = 1 - percent, 1 + percent
    return iaa.Affine(scale={"x": (low, high), "y": (low, high)}, mode="edge")


def _shift(percent: float) -> iaa.Augmenter:
    return iaa.Affine(translate_percent={"x": (-percent, percent), "y": (-percent, percent)}, mode="edge")


def _plain() -> list[iaa.Augmenter]:
    return [
        iaa.Fliplr(0.5),
        iaa.Sometimes(0.5, iaa.Crop(percent=(0, 0.1))),
        iaa.Sometimes(0.5, iaa.LinearContrast((0.8, 1.2))),
        iaa.Sometimes(0.5, iaa.Multiply((0.8, 1.2))),
        _shift(0.1),
        iaa.Affine(rotate=(-15, 15), mode="edge"),
    ]


# By the names that recipes and cards use. "films" is this project's; the others are those of published projects, with
# the usual ranges of their tutorials where they name none.
AUGMENTATIONS: dict[str, Callable[[float], list[iaa.Augmenter]]] = {
    "films": films,
    "hospitals": hospitals,
    "zoom, flip": lambda _: [_zoom(0.2), iaa.Fliplr(0.5)],
    "rotation, shift, zoom, flip": lambda _: [
        iaa.Affine(rotate=(-30, 30), mode="edge"),
        _shift(0.1),
        _zoom(0.2),
        iaa.Fliplr(0.5),
    ],
    "flip, crop, jitter, shift, rotation": lambda _: _plain(),
}


def pipeline(seed: int, acquisition_share: float = 1.0, name: str = "films") -> iaa.Augmenter:
    """Build the augmentation of that name in AUGMENTATIONS; the same seed gives the same pictures."""
    whole = iaa.Sequential(AUGMENTATIONS[name](acquisition_share))
    whole.seed_(seed)  # `seed=` would leave the augmenters inside on imgaug's global generator
    return whole


def augment(films: np.ndarray, seed: int, acquisition_share: float = 1.0, name: str = "films") -> np.ndarray:
    """Augment films (n, H, W) uint8 -> (n, H, W) uint8."""
    return pipeline(seed, acquisition_share, name)(images=films[..., None])[..., 0]


def augment_with_boxes(
    films: np.ndarray, boxes: Sequence[Sequence[Box]], seed: int, acquisition_share: float = 1.0, name: str = "films"
) -> tuple[np.ndarray, list[list[Box]]]:
    """Augment films (n, H, W) uint8 and move the boxes of each along: boxes are shares 0..1 of width and height.

    A box may lie partly beyond the film afterwards.
    """
    height, width = films.shape[1:3]
    drawn = [[BoundingBox(x0 * width, y0 * height, x1 * width, y1 * height) for x0, y0, x1, y1 in own] for own in boxes]
    images, moved = pipeline(seed, acquisition_share, name)(images=films[..., None], bounding_boxes=drawn)
    shares = [[(b.x1 / width, b.y1 / height, b.x2 / width, b.y2 / height) for b in own] for own in moved]
    return images[..., 0], shares
