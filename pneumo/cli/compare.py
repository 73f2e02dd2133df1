"""`pneumo compare`: the trained recipes side by side."""

from pathlib import Path

import click

from pneumo.model.card import RECIPE_CARDS


@click.command()
@click.argument(
    "folder",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    default=RECIPE_CARDS,
    metavar="[DIR]",
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("reports"), show_default=True)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("data/chest_xray"),
    show_default=True,
    help="The data set as Kaggle unpacks it; if it is there, the page shows what each preprocessing step does.",
)
def compare(folder: Path, out: Path, data: Path) -> None:
    """Write comparison.md, with ROC and learning curves, from what `pneumo train --recipe` left in DIR."""
    from pneumo.reports.comparison import write_comparison

    films = data / "train"
    click.echo(write_comparison(folder, out, films if films.is_dir() else None))
