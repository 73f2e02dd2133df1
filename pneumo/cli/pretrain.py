"""`pneumo pretrain`: train the chest-xray base."""

from pathlib import Path

import click

from pneumo.cli.data import data_option

seed_option = click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)


@click.command()
@data_option
@click.option("--run", type=click.Path(path_type=Path), default=Path("runs/pretrain"), show_default=True)
@click.option("--start", type=click.Path(path_type=Path, exists=True), help="Base weights to start from.")
@click.option("--epochs", type=click.IntRange(1), help="Epochs, with --start.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Highest learning rate, with --start.")
@click.option(
    "--acquisition",
    type=click.FloatRange(0),
    help="Share of the usual blur, resampling, sharpening, noise and compression, with --start.",
)
@click.option(
    "--matched",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of the films' weights under which acquisition does not predict the label.",
)
@click.option("--augmentation", default="films", show_default=True, help="A name of augment.AUGMENTATIONS.")
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
    """Train the chest-xray base, from scratch or from --start (hours). A killed run resumes."""
    from dataclasses import replace

    from pneumo.data.augment import AUGMENTATIONS
    from pneumo.data.dataset import read_parts
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
    parts = read_parts(data / "train")
    whole = PretrainConfig(stages=stages, start=start, **config)
    weights = run_pretraining(parts["train"], parts["validation"], run, whole)
    click.echo(f"The base is in {weights}; now: pneumo train --base {weights}")
