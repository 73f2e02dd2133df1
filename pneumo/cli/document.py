"""`pneumo document`: the numbers in README.md, docs/results.md and MODEL_CARD.md."""

import click


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 if a page is not current.")
def document(check: bool) -> None:
    """Write docs/results.md, MODEL_CARD.md and the numbers in README.md from card, reports and benchmarks."""
    from pneumo.reports.document import ROOT, write_pages

    texts = write_pages()
    stale = [path for path, text in texts.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if check and stale:
        names = " and ".join(str(path.relative_to(ROOT)) for path in stale)
        raise click.ClickException(f"Not current: {names}. Run `pneumo document`.")
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(texts[path], encoding="utf-8")
