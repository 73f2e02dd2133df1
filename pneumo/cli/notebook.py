"""`pneumo notebook`: execute the training notebook."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pneumo.model.card import MODELS

if TYPE_CHECKING:
    from nbformat import NotebookNode

NOTEBOOK = MODELS.parent / "notebooks" / "train_vgg16.ipynb"


@click.command()
@click.option("--set", "values", multiple=True, metavar="NAME=VALUE", help="Another value for one of its parameters.")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write it; in place unless given.")
def notebook(values: tuple[str, ...], out: Path | None) -> None:
    """Execute notebooks/train_vgg16.ipynb from top to bottom, and keep its outputs."""
    import nbformat
    from nbconvert.preprocessors import ExecutePreprocessor

    book = nbformat.read(NOTEBOOK, as_version=4)
    parameters = next(c for c in book.cells if "parameters" in c.metadata.get("tags", []))
    original = parameters.source
    parameters.source = set_parameters(original, values)

    def announce(cell: "NotebookNode", cell_index: int) -> None:
        click.echo(f"cell {cell_index + 1} of {len(book.cells)}", err=True)

    runner = ExecutePreprocessor(timeout=None, coalesce_streams=True, on_cell_start=announce)
    runner.preprocess(book, {"metadata": {"path": str(NOTEBOOK.parent)}})
    for cell in (c for c in book.cells if c.cell_type == "code"):
        # stderr holds progress bars and what C++ libraries say of the machine
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    parameters.source = original  # the committed notebook keeps its own defaults
    nbformat.write(book, out or NOTEBOOK)


def set_parameters(source: str, values: tuple[str, ...]) -> str:
    """Append an assignment to the parameter cell's `source` for each NAME=VALUE.

    Raises:
        click.BadParameter: the name is none of the cell's, or the value is no Python literal.
    """
    import ast

    known = [target.id for line in ast.parse(source).body for target in line.targets]
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
        source += f"\n{name} = {text}"
    return source
