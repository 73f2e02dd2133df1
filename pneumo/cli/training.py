"""`pneumo compare | document`: pages in Markdown from what trainings left."""

from pathlib import Path

import click

from pneumo.cli.data import data_option
from pneumo.model.card import RECIPE_CARDS

FOLDER = click.Path(file_okay=False, exists=True, path_type=Path)


@click.command()
@click.argument("folder", type=FOLDER, default=RECIPE_CARDS, metavar="[DIR]")
@click.option("--out", type=click.Path(path_type=Path), default=Path("reports"), show_default=True)
@data_option
def compare(folder: Path, out: Path, data: Path) -> None:
    """Write comparison.md from what `pneumo train --recipe` left in DIR, with ROC curves and learning curves.

    Where the data set is there, with pictures of every preprocessing step.
    """
    from pneumo.reports.comparison import write_comparison

    films = data / "train"
    click.echo(write_comparison(folder, out, films if films.is_dir() else None))


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 if one of the two is not current.")
def document(check: bool) -> None:
    """Put the figures of the card, the reports and the benchmarks into README.md and MODEL_CARD.md."""
    from pneumo.reports.document import ROOT, documented
    from pneumo.reports.model_card import NAME, model_card

    readme, card = ROOT / "README.md", ROOT / NAME
    texts = {readme: documented(readme), card: model_card()}
    stale = [path for path, text in texts.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if check and stale:
        names = " and ".join(path.name for path in stale)
        raise click.ClickException(f"Not current: {names}. Run `pneumo document`.")
    for path in stale:
        path.write_text(texts[path], encoding="utf-8")
