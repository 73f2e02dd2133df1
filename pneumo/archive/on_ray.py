"""Films -> rows on a Ray cluster, for a site that runs one (`pip install 'pneumo[ray]'`); docs/scale.md says when.

from pneumo.archive.on_ray import read_films
read_films(["s3://bucket/films"]).write_parquet("s3://bucket/rows")
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pneumo.archive.listing import find_films, to_film
from pneumo.archive.reading import fetch, judge
from pneumo.archive.rows import to_row, to_table
from pneumo.errors import RunError
from pneumo.model.card import Card, find_card, read_card
from pneumo.model.predictor import Predictor
from pneumo.model.profile import apply_settings

if TYPE_CHECKING:
    import pyarrow
    from ray.data import Dataset

FILMS = 16  # in a batch; an actor reads them one after the other


class Reader:
    """An actor: the model on one core."""

    def __init__(self, card: Card, operating_point: str, force: bool, population: str | None) -> None:
        self.predictor = Predictor(card, threads=1)
        self.options = (operating_point, force, population)

    def __call__(self, batch: "pyarrow.Table") -> "pyarrow.Table":
        """Read the films that the column `file` names; return their rows, with the columns of `rows.COLUMNS`."""
        names = batch["file"].to_pylist()
        return to_table([to_row(name, judge(self.predictor, fetch(to_film(name)), *self.options)) for name in names])


def read_films(
    sources: Iterable[str],
    lists: Iterable[str] = (),
    model: str | None = None,
    operating_point: str | None = None,
    force: bool = False,
    population: str | None = None,
) -> "Dataset":
    """Return the rows of these films, which Ray reads when they are used. All as in `pneumo predict`, not the order.

    Each CPU but one gets an actor: with one on every CPU, Ray Data waits for ever (ray-project/ray#44687).

    Raises:
        ModelError, OperatingPointError, PopulationError: see `read_card`, `Card`.
        RunError: the cluster has one CPU.
    """
    import ray

    card = apply_settings(read_card(find_card(model), roles=()))
    options = (card, card.operating_point(operating_point), force, card.check_population(population))
    ray.init(ignore_reinit_error=True)  # the cluster that runs already, or one of this machine
    if (cpus := int(ray.cluster_resources()["CPU"])) < 2:
        raise RunError(f"Expected a Ray cluster of two CPUs or more, received one of {cpus}: Ray needs one for itself.")
    films = ray.data.from_items([{"file": str(film)} for film in find_films(sources, lists, say=print)])
    pool = ray.data.ActorPoolStrategy(size=cpus - 1)
    return films.map_batches(
        Reader, fn_constructor_args=options, compute=pool, batch_size=FILMS, batch_format="pyarrow", num_cpus=1
    )
