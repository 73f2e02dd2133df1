"""Recipes: everything in which one way of training differs from another. Knows no network, only their names.

Each is an entry of RECIPES; the training loop, the export, the server and the comparison are the same for all.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

IMAGENET = "imagenet"


@dataclass(frozen=True)
class TrainConfig:
    """The whole recipe; as it stands here, that of `vgg16`.

    `base_weights` is an .npz of `pneumo pretrain`, IMAGENET for Keras' download, or None to begin from scratch.
    `network` and `options` are those of `networks.build`, `steps` of `preprocessing.STEPS`, `augmentation` one of
    `augment.AUGMENTATIONS`. Networks other than vgg16 train as a whole: `views` and `tune_epochs` mean nothing to them.
    `plateau` epochs without a better validation loss divide the rate by ten, `enough` training accuracy ends the
    training, and so do two epochs whose validation loss lies `gap` above the training loss; 0 is never.

    Only VGG-16 knows the rest. Its last `tuned_blocks` are unfrozen behind the head. `balanced` classes weigh the same;
    `matched` is the share of a film's weight by `audit.weigh`. `experts`, `independent` and `smoothing` are those of
    `objective.loss`, `worst` the step of `objective.WorstGroups`, `mixup` that of `batches.Batches`, and the moving
    average of weights looks back over the share `averaged` of a phase.
    """

    base_weights: Path | str | None
    network: str = "vgg16"
    options: dict = field(default_factory=lambda: {"units": 128, "dropout": 0.3})
    steps: tuple[str, ...] = ()
    size: int = 112
    film_size: int = 224  # of the films when they are augmented, as in pretraining
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
    tuned_blocks: int = 1
    balanced: bool = True
    matched: float = 0.0
    experts: float = 0.0
    independent: float = 0.0
    worst: float = 0.0
    smoothing: float = 0.0
    mixup: float = 0.0
    averaged: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """An approach of student projects: `config` as they describe it, with `base` for the weights to begin with.

    `base` is "chest-xray", IMAGENET or "none". `reported` are the figures they give, on films that they chose.
    `unsaid` is what they leave open and is chosen here, `size` the pixels a side where they read more than `config`.
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
        "chest-xray",
        TrainConfig(None),
        unsaid="everything but the size, 5 epochs and the frozen base",
        size=224,
    ),
    "vgg16-lungs": Recipe(
        "the same on films whose lungs were segmented first: all else is black",
        "chest-xray",
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

PLAIN, CHOSEN = "as it is", "experts whole + less independent + longer + plain augmentation"


@dataclass(frozen=True)
class Idea:
    """A change of the recipe `vgg16`: other values of its config."""

    about: str
    changes: dict = field(default_factory=dict)


# What each of them did is in reports/experiments.md.
IDEAS: dict[str, Idea] = {
    PLAIN: Idea("the recipe `vgg16`"),
    "top only": Idea("the last block stays frozen as well", {"tune_epochs": 0}),
    "longer": Idea("eight epochs for the last block instead of three", {"tune_epochs": 8}),
    "two blocks": Idea("blocks 4 and 5 unfrozen instead of block 5", {"tuned_blocks": 2}),
    "one view": Idea("one augmented view of each film instead of two", {"views": 1}),
    "more views": Idea("four augmented views of each film instead of two", {"views": 4}),
    "plain augmentation": Idea(
        "flip, crop, brightness, shift and rotation: nothing against acquisition",
        {"augmentation": "flip, crop, jitter, shift, rotation"},
    ),
    "exchanged": Idea(
        "plain augmentation, and in half of the films sharpness and tone of another, of either class",
        {"augmentation": "exchange, flip, crop, jitter, shift, rotation"},
    ),
    "144 pixels": Idea("films of 144 pixels instead of 112, on a base that saw 112", {"size": 144}),
    "more acquisition": Idea("blur, resampling, noise and compression twice as often", {"acquisition": 1.0}),
    "equalised": Idea("histogram equalisation first", {"steps": ("equalise",)}),
    "CLAHE": Idea("local histogram equalisation first", {"steps": ("clahe",)}),
    "lungs": Idea("lungs segmented first: all else is black", {"steps": ("lungs",)}),
    "unbalanced": Idea("every film weighs the same, not every class", {"balanced": False}),
    "matched": Idea("half of the weight by which acquisition says nothing of the label", {"matched": 0.5}),
    "matched whole": Idea("all of the weight by which acquisition says nothing of the label", {"matched": 1.0}),
    "experts": Idea("half of the nuisance score added to the logit in training", {"experts": 0.5}),
    "experts whole": Idea("all of the nuisance score added to the logit in training", {"experts": 1.0}),
    "independent": Idea("logit and nuisance score held uncorrelated within each class", {"independent": 1.0}),
    "less independent": Idea("uncorrelated at a third of that price", {"independent": 0.3}),
    "stronger": Idea(
        "all of the weight by which acquisition says nothing, and three times the price of dependence",
        {"matched": 1.0, "independent": 3.0},
    ),
    "worst group": Idea("group DRO: films whose acquisition contradicts their label, and the others", {"worst": 1.0}),
    "smoothing": Idea("label smoothing of 0.1", {"smoothing": 0.1}),
    "mixup": Idea("films of a batch blended, Beta(0.2, 0.2)", {"mixup": 0.2}),
    "averaged": Idea("moving average of the weights over a fifth of a phase", {"averaged": 0.2}),
}


def kept_block(layers: Iterable[str]) -> bool:
    """Whether among the `layers` that a run of VGG-16 kept is the last block, which it tuned, or its top alone."""
    return any(name.startswith("block5_") for name in layers)


def find_idea(name: str) -> Idea:
    """The idea of that name, or of several joined by " + ": all that they change.

    Raises:
        KeyError: one of them is unknown; says which.
    """
    ideas = [IDEAS[one] for one in name.split(" + ")]
    changes = {key: value for idea in ideas for key, value in idea.changes.items()}
    return Idea("; ".join(idea.about for idea in ideas), changes)


# What `pneumo train` and the notebook train without a recipe's name.
SHIPPED = replace(RECIPES["vgg16"].config, **find_idea(CHOSEN).changes)
