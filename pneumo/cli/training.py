"""`pneumo pretrain | recipes | train | notebook`: what needs TensorFlow and more."""

import os
from pathlib import Path

import click

from pneumo.model.card import DEFAULT_MODEL, MODELS, RECIPE_CARDS

SEED = click.IntRange(0, 2**32 - 1)
seed_option = click.option("--seed", type=SEED, default=0, show_default=True)
FOLDER = click.Path(file_okay=False, exists=True, path_type=Path)
data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("data/chest_xray"),
    show_default=True,
    help="The data set as Kaggle unpacks it; only its train folder is used.",
)


def _parts(data: Path) -> dict:
    from pneumo.data import dataset

    examples = dataset.scan(data / "train")
    return dataset.split(examples, dataset.content_hashes(examples))


@click.command()
@data_option
@click.option("--run", type=click.Path(path_type=Path), default=Path("runs/pretrain"), show_default=True)
@click.option("--start", type=click.Path(path_type=Path, exists=True), help="Base weights to go on from.")
@click.option(
    "--matched",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of a film's weight that makes acquisition say nothing of the label.",
)
@click.option(
    "--experts",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Share of the nuisance score added to the logit of pneumonia in training.",
)
@click.option(
    "--independent",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Price of a correlation of logit and nuisance score within a class.",
)
@click.option(
    "--mixup",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Films of a batch blended in shares of Beta(mixup, mixup); 0 for none.",
)
@click.option(
    "--label-smoothing",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    help="How far the targets move towards one third each.",
)
@click.option("--augmentation", default="films", show_default=True, help="One of augment.AUGMENTATIONS.")
@click.option("--epochs", type=click.IntRange(1), help="Of a base that is gone on with.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Its learning rate at the most.")
@click.option(
    "--acquisition", type=click.FloatRange(0), help="Its share of the usual blur, resampling and compression."
)
@seed_option
def pretrain(
    data: Path,
    run: Path,
    start: Path | None,
    epochs: int | None,
    rate: float | None,
    acquisition: float | None,
    **config: float | str,
) -> None:
    """Train the chest-xray base, from scratch unless told to go on (hours); a killed run resumes."""
    from dataclasses import replace

    from pneumo.data.augment import AUGMENTATIONS
    from pneumo.training.pretraining import CONTINUED, FROM_SCRATCH, PretrainConfig
    from pneumo.training.pretraining import pretrain as run_pretraining

    if config["augmentation"] not in AUGMENTATIONS:
        expected, received = ", ".join(map(repr, AUGMENTATIONS)), config["augmentation"]
        raise click.BadParameter(f"expected one of {expected}, received {received!r}.", param_hint="--augmentation")
    given = {"epochs": epochs, "rate": rate, "acquisition": acquisition}
    changed = {name: value for name, value in given.items() if value is not None}
    if changed and not start:
        raise click.BadParameter(f"{', '.join(changed)} can be given with --start only.", param_hint="--start")
    stages = (replace(CONTINUED, **changed),) if start else FROM_SCRATCH
    parts = _parts(data)
    whole = PretrainConfig(stages=stages, start=start, **config)
    weights = run_pretraining(parts["train"], parts["validation"], run, whole)
    click.echo(f"The base is in {weights}; now: pneumo train --base {weights}")


@click.command()
def recipes() -> None:
    """List what `pneumo train --recipe` can train."""
    from pneumo.training.recipes import RECIPES

    for name, recipe in RECIPES.items():
        click.echo(f"{name:12} {recipe.about}")


@click.command()
@data_option
@click.option("--recipe", "name", metavar="NAME", help="One of `pneumo recipes`; else the shipped model's.")
@click.option("--run", type=click.Path(path_type=Path), help="Checkpoints and histories; else runs/train or runs/NAME.")
@click.option(
    "--base",
    help="Weights to begin with: chest-xray (of `pneumo pretrain` if it ran here, else the shipped one), imagenet (a "
    "download), an .npz, or none; else the recipe's.",
)
@click.option("--epochs", type=click.IntRange(1), help="At most; of VGG-16, with the base frozen. Else the recipe's.")
@click.option("--tune-epochs", type=click.IntRange(0), help="Of VGG-16 with the last block unfrozen; 0 for none.")
@click.option("--image-size", "size", type=click.IntRange(64), help="Pixels a side; else the recipe's.")
@click.option(
    "--others",
    type=FOLDER,
    help="Pictures of anything else, to teach what is refused; else not_chest_xray beside the data.",
)
@click.option(
    "--elsewhere", type=FOLDER, help="Frontal films of other hospitals, not to be refused; else adults beside the data."
)
@seed_option
@click.option(
    "--card", type=click.Path(path_type=Path), help="What to write; else the shipped card or recipes/NAME.json."
)
def train(
    data: Path,
    name: str | None,
    run: Path | None,
    base: str | None,
    epochs: int | None,
    tune_epochs: int | None,
    size: int | None,
    others: Path | None,
    elsewhere: Path | None,
    seed: int,
    card: Path | None,
) -> None:
    """Train a model and publish it: the served file, the weights, the card. A killed run resumes.

    Without a recipe the shipped one, from the notebook.
    """
    from dataclasses import replace

    from pneumo.reports.comparison import record
    from pneumo.training.networks import POSITION
    from pneumo.training.publish import publish
    from pneumo.training.recipes import IMAGENET, RECIPES, SHIPPED
    from pneumo.training.train import train as run_training

    if name and name not in RECIPES:
        raise click.BadParameter(f"expected one of {', '.join(RECIPES)}, received {name!r}.", param_hint="--recipe")
    recipe = RECIPES[name] if name else None
    base = base or (recipe.base if recipe else "chest-xray")
    config = recipe.config if recipe else SHIPPED
    sizes = {"size": size} | ({"film_size": size} if config.network != "vgg16" else {}) if size else {}
    changed = {"epochs": epochs, "tune_epochs": tune_epochs}
    config = replace(
        config,
        base_weights=find_base(base),
        seed=seed,
        **sizes,
        **{key: value for key, value in changed.items() if value is not None},
    )
    if config.network != "vgg16" and config.base_weights not in (IMAGENET, None):
        raise click.BadParameter(f"expected imagenet or none for {name}, received {base!r}.", param_hint="--base")
    if config.network == "cnn" and config.base_weights:
        raise click.BadParameter(f"expected none for {name}, received {base!r}.", param_hint="--base")
    if config.network != "vgg16" and tune_epochs is not None:
        raise click.BadParameter(f"{name} has no frozen base: it trains as a whole.", param_hint="--tune-epochs")
    if config.network == "vgg16" and config.base_weights is None:
        raise click.BadParameter("VGG-16 needs a base: its layers stay as they are.", param_hint="--base")
    if config.network == "vgg16" and config.size % POSITION:
        raise click.BadParameter(
            f"expected a multiple of {POSITION}, the side of a position, received {config.size}.",
            param_hint="--image-size",
        )
    run = run or Path("runs") / (name or "train")
    card = card or (RECIPE_CARDS / f"{name}.json" if name else MODELS / f"{DEFAULT_MODEL}.json")

    parts = _parts(data)
    trained = run_training(parts["train"], parts["validation"], run, config)
    others, elsewhere = others or data.parent / "not_chest_xray", elsewhere or data.parent / "adults"
    base_name = base if base in (IMAGENET, "none") else "chest-xray"
    written = publish(trained, config, parts, card, base_name, others, elsewhere, name)
    if name:
        record(written, trained, parts)
    result = written.contents["metrics"]["internal_test"]
    click.echo(
        f"{card}: internal test of {result['n']} films: AUC {result['auc']:.4f}, "
        f"sensitivity {result['sensitivity']:.3f}, specificity {result['specificity']:.3f}"
    )


def find_base(base: str) -> Path | str | None:
    """Path of the base weights that `base` names; "imagenet" stays, and "none" is None.

    Raises:
        FileNotFoundError: there is no such file.
    """
    from pneumo.training.recipes import IMAGENET

    if base in (IMAGENET, "none"):
        return None if base == "none" else IMAGENET
    if base != "chest-xray":
        candidates = [Path(base)]
    else:
        own = Path("runs/pretrain/base.npz")
        # seen from here, which for a notebook is its folder: it prints what it found, and is for other machines, too
        elsewhere = [os.path.relpath(path) for path in (MODELS.parent / own, MODELS / f"{DEFAULT_MODEL}.base.npz")]
        candidates = [own, *map(Path, elsewhere)]
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(f"Expected base weights at {candidates[-1]}, found none.")


@click.command()
@click.option("--set", "values", multiple=True, metavar="NAME=VALUE", help="Another value for one of its parameters.")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write it; in place unless given.")
def notebook(values: tuple[str, ...], out: Path | None) -> None:
    """Execute notebooks/train_vgg16.ipynb from top to bottom, with its outputs."""
    import ast

    import nbformat
    from nbclient import NotebookClient

    path = MODELS.parent / "notebooks" / "train_vgg16.ipynb"
    book = nbformat.read(path, as_version=4)
    parameters = next(c for c in book.cells if "parameters" in c.metadata.get("tags", []))
    original = parameters.source
    known = [target.id for line in ast.parse(original).body for target in line.targets]
    for value in values:
        name, _, text = value.partition("=")
        try:
            ast.literal_eval(text)  # a literal, not code
        except (SyntaxError, ValueError):
            name = None
        if name not in known:
            raise click.BadParameter(
                f"expected NAME=VALUE, the value as Python writes it, the name one of {', '.join(known)}; received "
                f"{value!r}.",
                param_hint="--set",
            )
        parameters.source += f"\n{name} = {text}"
    where = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(book, timeout=None, resources=where, coalesce_streams=True)
    with client.setup_kernel():
        for index, cell in enumerate(book.cells):
            click.echo(f"cell {index + 1} of {len(book.cells)}", err=True)
            client.execute_cell(cell, index)
    for cell in (c for c in book.cells if c.cell_type == "code"):
        # stderr holds progress bars and what C++ libraries say of the machine
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    parameters.source = original  # the committed notebook keeps its own defaults
    nbformat.write(book, out or path)


COMMANDS = (pretrain, recipes, train, notebook)
