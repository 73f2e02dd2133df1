"""Recipes: all that differs between two ways of training. Knows the networks by name only.

Each is an entry of RECIPES. The training loop, the export, the server and the comparison are the same for all.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

IMAGENET = "imagenet"


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a training; the defaults are those of the recipe `vgg16`.

    `base_weights` is an .npz, IMAGENET for Keras' download, or None for random weights.
    `network` and `options` are arguments of `networks.build`, `steps` names of `preprocessing.STEPS`, `augmentation` a
    name of `augment.AUGMENTATIONS`. `size` is the side of the network's input in pixels, `film_size` that of the films
    when they are augmented. `acquisition` scales the probabilities of `augment.acquisition`.

    VGG-16 trains in two phases: the head for `epochs` at `rate` on cached features of `views` augmented copies of each
    film, then the convolutions after the layer `frozen` and the head for `tune_epochs` at `tune_rate`. With
    `positions`, the weight of `positions.position_loss`, both train together instead, for `epochs` of `epoch_steps`
    batches; a film has `views` augmented copies times its weight, and its map is pooled (`heatmap.pool`) with the
    `sharpness` of its population, above 0 and named for each; without `positions` a map's mean is taken. `seeds`
    networks are trained so, and the one with the lowest validation loss is kept. Other networks train all layers for
    `epochs` at `rate`: after `plateau` epochs without a lower validation loss the rate is divided by ten; training
    stops at training accuracy `enough`, or when the validation loss exceeds the training loss by `gap` in two epochs
    running. 0 turns each of these off.
    """

    base_weights: Path | str | None
    network: str = "vgg16"
    options: dict = field(default_factory=lambda: {"units": 128, "dropout": 0.3})
    steps: tuple[str, ...] = ()
    size: int = 112
    film_size: int = 224
    augmentation: str = "films"
    acquisition: float = 0.5
    views: int = 2
    epochs: int = 5
    optimizer: str = "Adam"
    rate: float = 3e-4
    tune_epochs: int = 3
    tune_rate: float = 2e-5
    plateau: int = 0
    enough: float = 0.0
    gap: float = 0.0
    batch: int = 32
    seed: int = 0
    frozen: str = "block4_pool"
    positions: float = 0.0
    sharpness: dict[str, float] = field(default_factory=dict)
    epoch_steps: int = 0
    seeds: int = 1


@dataclass(frozen=True)
class Recipe:
    """An approach of student projects: `config` as they describe it, `base` the weights to begin with.

    `base` is IMAGENET or "none". `reported` are the figures that they give, on films that they chose.
    `unsaid` lists what they leave open and is chosen here. `size` is the side of their input in pixels where it is
    larger than that of `config`.
    """

    about: str
    base: str
    config: TrainConfig
    reported: str = "none"
    unsaid: str = ""
    size: int = 0


_CNN = TrainConfig(
    None,
    network="cnn",
    options={"filters": (32, 64, 128, 256), "normalised": False, "dense": (128,), "dropout": 0.2},
    size=96,
    film_size=96,
    augmentation="flip, crop, jitter, shift, rotation",
    epochs=12,
    rate=5e-4,
)


def _cnn(
    about: str, dense: tuple[int, ...] = (128,), dropout: float = 0.2, optimizer: str = "Adam", reported: str = "none"
) -> Recipe:
    rate = {"Adam": _CNN.rate, "RMSprop": 3e-4}[optimizer]
    config = replace(_CNN, options=_CNN.options | {"dense": dense, "dropout": dropout}, optimizer=optimizer, rate=rate)
    return Recipe(
        f"custom deep CNN from scratch, {about}",
        "none",
        config,
        reported,
        "size, filters, rate, ranges of the augmentation; classes are balanced by weights, not by copies",
    )


RECIPES: dict[str, Recipe] = {
    "vgg16": Recipe(
        "frozen VGG-16, retrained top, then the last block",
        IMAGENET,
        TrainConfig(None),
        unsaid="everything but the size, 5 epochs and the frozen base",
        size=224,
    ),
    "vgg16-lungs": Recipe(
        "the same on films whose lungs were segmented first: all else is black",
        IMAGENET,
        TrainConfig(None, steps=("lungs",)),
        unsaid="how the lungs are found",
        size=224,
    ),
    "resnet50v2": Recipe(
        "ResNet50V2 with groups of dense layer and dropout, on equalised, closed and opened films",
        IMAGENET,
        TrainConfig(
            None,
            network="resnet50v2",
            options={"dense": (256, 64), "dropout": 0.3},
            steps=("equalise", "close", "open"),
            size=300,
            film_size=300,
            augmentation="zoom, flip",
            epochs=30,
            rate=1e-4,
            plateau=2,
            enough=0.975,
        ),
        "accuracy 96.2 %, recall 97.44 % (test split used as validation)",
        "epochs, widths, dropout, patience",
    ),
    "cnn5": Recipe(
        "five blocks of convolution, batch normalisation and max-pooling, four dense layers with dropout, from scratch",
        "none",
        replace(
            _CNN,
            options={
                "filters": (32, 64, 128, 256, 512),
                "normalised": True,
                "dense": (512, 256, 64),  # the fourth ends in the sigmoid
                "dropout": 0.3,
            },
            augmentation="rotation, shift, zoom, flip",
            epochs=10,
            gap=0.5,
        ),
        unsaid="size, widths, rate, epochs, the gap at which it stops",
    ),
    "cnn": _cnn(
        "one dense layer of 128, dropout 0.2",
        reported="accuracy 91.5 %, precision 93 %, recall 99 %, loss 0.41; of which variant is not said",
    ),
    "cnn-narrow": _cnn("one dense layer of 32", dense=(32,)),
    "cnn-wide": _cnn("one dense layer of 512", dense=(512,)),
    "cnn-deep": _cnn("dense layers of 256 and 128, dropout 0.3", dense=(256, 128), dropout=0.3),
    "cnn-dropout": _cnn("dropout 0.5", dropout=0.5),
    "cnn-rmsprop": _cnn("RMSprop", optimizer="RMSprop"),
}

# What `pneumo train` and the notebook train unless a recipe is named: children and adults, boxes where there are any.
SHIPPED = TrainConfig(
    IMAGENET,
    steps=("level",),
    size=224,
    augmentation="hospitals",
    acquisition=1.0,
    views=3,
    epochs=7,
    optimizer="AdamW",
    rate=2.5e-4,
    tune_epochs=0,
    batch=64,
    frozen="block4_conv2",
    positions=0.5,
    sharpness={"child": 0.25, "adult": 1.0},
    epoch_steps=60,
)


def kept_block(layers: Iterable[str]) -> bool:
    """Tell whether a run of VGG-16, which kept these `layers`, kept the tuned last block or only the head."""
    return any(name.startswith("block5_") for name in layers)
