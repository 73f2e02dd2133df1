"""`pneumo train` and `pneumo recipes`: train a model by a recipe and publish it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pneumo.cli.data import data_option
from pneumo.model.card import DEFAULT_MODEL, MODELS, RECIPE_CARDS

if TYPE_CHECKING:
    from pneumo.training.recipes import TrainConfig

FOLDER = click.Path(file_okay=False, exists=True, path_type=Path)


@click.command()
def recipes() -> None:
    """List the recipes of `pneumo train --recipe`."""
    from pneumo.training.recipes import RECIPES

    for name, recipe in RECIPES.items():
        click.echo(f"{name:12} {recipe.about}")


@click.command()
@data_option
@click.option("--recipe", "name", metavar="NAME", help="One of `pneumo recipes`; else that of the shipped model.")
@click.option("--run", type=click.Path(path_type=Path), help="Checkpoints and histories; else runs/train or runs/NAME.")
@click.option(
    "--base",
    help="Weights to begin with: imagenet (a download by Keras), the path of an .npz, or none; else the recipe's.",
)
@click.option("--epochs", type=click.IntRange(1), help="At most; for VGG-16, with frozen base. Else the recipe's.")
@click.option("--tune-epochs", type=click.IntRange(0), help="VGG-16's epochs with the last block unfrozen; 0 for none.")
@click.option("--epoch-steps", type=click.IntRange(1), help="Batches an epoch, of the shipped model's training.")
@click.option("--image-size", "size", type=click.IntRange(64), help="Pixels a side; else the recipe's.")
@click.option(
    "--others",
    type=FOLDER,
    help="Pictures of anything else, to teach what is refused; else not_chest_xray beside the data.",
)
@click.option(
    "--elsewhere", type=FOLDER, help="Frontal films of other hospitals, not to be refused; else adults beside the data."
)
@click.option(
    "--source",
    "sources",
    type=FOLDER,
    multiple=True,
    help="Films of one more hospital, with labels.csv; repeatable. [default: adults_nih beside the data, but none with "
    "--recipe]",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    help="Networks to train, of the shipped model's training, each with the next seed: validation chooses one.",
)
@click.option("--card", type=click.Path(path_type=Path), help="Card to write; else the shipped or recipes/NAME.json.")
def train(
    data: Path,
    name: str | None,
    run: Path | None,
    base: str | None,
    others: Path | None,
    elsewhere: Path | None,
    card: Path | None,
    sources: tuple[Path, ...],
    **changes: int | None,
) -> None:
    """Train a model and publish it: the served file, the weights, the card. A killed run resumes.

    Without a recipe: the shipped model's training, as in the notebook.
    """
    from pneumo.data.dataset import content_hashes
    from pneumo.data.sources import read_sources, split_sources
    from pneumo.reports.comparison import record
    from pneumo.training.publish import publish
    from pneumo.training.recipes import IMAGENET, RECIPES
    from pneumo.training.train import train as run_training

    if name and name not in RECIPES:
        raise click.BadParameter(f"expected one of {', '.join(RECIPES)}, received {name!r}.", param_hint="--recipe")
    base = base or (RECIPES[name].base if name else IMAGENET)
    config = _configure(name, base, **changes)
    run = run or Path("runs") / (name or "train")
    card = card or (RECIPE_CARDS / f"{name}.json" if name else MODELS / f"{DEFAULT_MODEL}.json")

    beside = data.parent / "adults_nih"
    if not sources and not name and beside.is_dir():
        sources = (beside,)
    examples = read_sources([data, *sources])
    parts = split_sources(examples, content_hashes(examples))
    trained = run_training(parts["train"], parts["validation"], run, config)
    others, elsewhere = others or data.parent / "not_chest_xray", elsewhere or data.parent / "adults"
    base_name = Path(base).name  # the path of a file is of this machine alone
    written = publish(trained, config, parts, card, base_name, others, elsewhere, name)
    if name:
        record(written, trained, parts)
    result = written.contents["metrics"]["internal_test"]
    click.echo(
        f"{card}: internal test of {result['n']} films: AUC {result['auc']:.4f}, "
        f"sensitivity {result['sensitivity']:.3f}, specificity {result['specificity']:.3f}"
    )


def _configure(name: str | None, base: str, size: int | None, **changes: int | None) -> "TrainConfig":
    """Build the settings of the recipe `name`, or of the shipped model, with what the command line changes.

    Raises:
        click.BadParameter: the recipe cannot be trained so.
    """
    from dataclasses import replace

    from pneumo.training.bases import find_base
    from pneumo.training.networks import POSITION
    from pneumo.training.recipes import IMAGENET, RECIPES, SHIPPED

    config = RECIPES[name].config if name else SHIPPED
    given = {key: value for key, value in changes.items() if value is not None}
    if name and (own := {"epoch_steps", "seeds"} & given.keys()):
        option = "--" + min(own).replace("_", "-")
        raise click.BadParameter(f"it is of the shipped model's training, not of {name}'s.", param_hint=option)
    if size:
        given |= {"size": size} | ({"film_size": size} if config.network != "vgg16" else {})
    config = replace(config, base_weights=find_base(base), **given)
    if config.network != "vgg16":
        allowed = {None: "none"} if config.network == "cnn" else {IMAGENET: IMAGENET, None: "none"}
        if config.base_weights not in allowed:
            expected = " or ".join(allowed.values())
            raise click.BadParameter(f"expected {expected} for {name}, received {base!r}.", param_hint="--base")
        if "tune_epochs" in given:
            raise click.BadParameter(f"{name} has no frozen base: it trains as a whole.", param_hint="--tune-epochs")
        return config
    if config.base_weights is None:
        raise click.BadParameter("VGG-16 needs a base: its first blocks are not trained.", param_hint="--base")
    if config.size % POSITION:
        raise click.BadParameter(
            f"expected a multiple of {POSITION}, the side of a position, received {config.size}.",
            param_hint="--image-size",
        )
    return config
