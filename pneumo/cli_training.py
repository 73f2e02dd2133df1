"""`pneumo pretrain | train | notebook | document`: the commands that need the training environment."""

from pathlib import Path

import click

from pneumo.card import DEFAULT_MODEL, MODELS

FOLDER = click.Path(file_okay=False, exists=True, path_type=Path)
data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("data/chest_xray"),
    show_default=True,
    help="The data set as Kaggle unpacks it; only its train folder is used.",
)


def _parts(data: Path) -> dict:
    from pneumo import dataset

    examples = dataset.scan(data / "train")
    return dataset.split(examples, dataset.content_hashes(examples))


@click.command()
@data_option
@click.option("--run", type=click.Path(path_type=Path), default=Path("runs/pretrain"), show_default=True)
@click.option("--start", type=click.Path(path_type=Path, exists=True), help="Base weights to go on from.")
@click.option("--seed", default=0, show_default=True)
def pretrain(data: Path, run: Path, start: Path | None, seed: int) -> None:
    """Train the chest-xray base, from scratch unless told to go on (hours); a killed run resumes."""
    from pneumo.pretraining import CONTINUED, FROM_SCRATCH, PretrainConfig
    from pneumo.pretraining import pretrain as run_pretraining

    parts = _parts(data)
    config = PretrainConfig(stages=CONTINUED if start else FROM_SCRATCH, start=start, seed=seed)
    weights = run_pretraining(parts["train"], parts["validation"], run, config)
    click.echo(f"The base is in {weights}; now: pneumo train --base {weights}")


@click.command()
@data_option
@click.option("--run", type=click.Path(path_type=Path), default=Path("runs/train"), show_default=True)
@click.option(
    "--base",
    default="chest-xray",
    show_default=True,
    help="chest-xray (of `pneumo pretrain` if it ran here, else the shipped one), imagenet (a download), or an .npz.",
)
@click.option("--epochs", default=5, show_default=True, help="With the base frozen.")
@click.option("--tune-epochs", default=3, show_default=True, help="With the last block unfrozen; 0 for none.")
@click.option(
    "--others",
    type=FOLDER,
    help="Pictures of anything else, to teach what is refused; else not_chest_xray beside the data.",
)
@click.option(
    "--elsewhere", type=FOLDER, help="Frontal films of other hospitals, not to be refused; else adults beside the data."
)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--card", type=click.Path(path_type=Path), default=MODELS / f"{DEFAULT_MODEL}.json", help="What to write."
)
def train(
    data: Path,
    run: Path,
    base: str,
    epochs: int,
    tune_epochs: int,
    others: Path | None,
    elsewhere: Path | None,
    seed: int,
    card: Path,
) -> None:
    """Train the top, export the served model, choose its threshold, and write its card."""
    from pneumo.publish import publish
    from pneumo.training import TrainConfig
    from pneumo.training import train as run_training

    config = TrainConfig(find_base(base), epochs=epochs, tune_epochs=tune_epochs, seed=seed)
    parts = _parts(data)
    trained = run_training(parts["train"], parts["validation"], run, config)
    base_name = "imagenet" if base == "imagenet" else "chest-xray"
    others, elsewhere = others or data.parent / "not_chest_xray", elsewhere or data.parent / "adults"
    written = publish(trained, config, parts, card, base_name, others, elsewhere)
    result = written.contents["metrics"]["internal_test"]
    click.echo(
        f"{card}: internal test of {result['n']} films: AUC {result['auc']:.4f}, "
        f"sensitivity {result['sensitivity']:.3f}, specificity {result['specificity']:.3f}"
    )


def find_base(base: str) -> Path | None:
    """Path of the base weights that `base` names, None for Keras' ImageNet weights.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if base == "imagenet":
        return None
    if base != "chest-xray":
        candidates = [Path(base)]
    else:
        candidates = [Path("runs/pretrain/base.npz"), MODELS / f"{DEFAULT_MODEL}.base.npz"]
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
    for value in values:
        name, _, text = value.partition("=")
        ast.literal_eval(text)  # a literal, not code
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


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 if one of the two is not current.")
def document(check: bool) -> None:
    """Put the figures of the card, the reports and the benchmarks into README.md and MODEL_CARD.md."""
    from pneumo.document import ROOT, documented
    from pneumo.model_card import NAME, model_card

    readme, card = ROOT / "README.md", ROOT / NAME
    texts = {readme: documented(readme), card: model_card()}
    stale = [path for path, text in texts.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if check and stale:
        names = " and ".join(path.name for path in stale)
        raise click.ClickException(f"Not current: {names}. Run `pneumo document`.")
    for path in stale:
        path.write_text(texts[path], encoding="utf-8")


COMMANDS = (pretrain, train, notebook, document)
