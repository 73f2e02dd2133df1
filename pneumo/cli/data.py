"""`pneumo data`: get the films of children and of adults, and check a copy of them."""

import hashlib
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from pneumo.cli.films import each, progress
from pneumo.errors import PneumoError

HANDLE = "paultimothymooney/chest-xray-pneumonia"
SOURCE = "Kermany, Zhang, Goldbaum, Mendeley Data, doi 10.17632/rscbjbr9sj, licence CC BY 4.0"
ADULTS = (
    "Adults: the films of the RSNA Pneumonia Detection Challenge (26,684, NIH Clinical Center) are handed out at "
    "https://www.kaggle.com/c/rsna-pneumonia-detection-challenge, the file that tells their patients at "
    "https://www.rsna.org/rsnai/ai-image-challenge/rsna-pneumonia-detection-challenge-2018. Put it beside them and run "
    "`pneumo data data/adults_nih --rsna DOWNLOAD`."
)
DEFAULT = Path("data/chest_xray")
SPLITS = ("train", "val", "test")
NESTED = ("", "chest_xray", "chest_xray/chest_xray")  # Kaggle's archive holds its own copy, one folder deeper
data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=DEFAULT,
    show_default=True,
    help="The data set as Kaggle unpacks it; only its train folder is used.",
)


@click.command()
@click.argument("folder", metavar="[DIR]", default=DEFAULT, type=click.Path(file_okay=False, path_type=Path))
@click.option("--fetch", is_flag=True, help="First download it from Kaggle (about 2.4 GB) and link DIR to it.")
@click.option(
    "--rsna",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="First make DIR a source of adults' films of this download of the RSNA Pneumonia Detection Challenge.",
)
def data(folder: Path, fetch: bool, rsna: Path | None) -> None:
    """Check the data set in DIR, data/chest_xray unless given: films, patients, damaged and identical files, split.

    DIR may be a source of another hospital, too: films in DIR/NORMAL, DIR/PNEUMONIA and DIR/OTHER, with labels.csv.
    """
    if rsna:
        from pneumo.data.rsna import arrange

        arrange(rsna, folder)
    if (folder / "NORMAL").is_dir():
        for line in check_source(folder):
            click.echo(line)
        return
    if fetch and find(folder) is None:
        download(folder)
    found = find(folder)
    if found is None:
        raise FileNotFoundError(
            f"Expected the data set in {folder}, found none. Run `pneumo data --fetch`, or download "
            f"https://www.kaggle.com/datasets/{HANDLE} and unpack it so that {folder / 'train' / 'NORMAL'} "
            f"exists ({SOURCE})."
        )
    for line in check(found):
        click.echo(line)
    if not (folder.parent / "adults_nih").is_dir():
        click.echo(ADULTS)


def find(folder: Path) -> Path | None:
    """Find the folder, `folder` or one below it, that holds train/NORMAL, val/NORMAL or test/NORMAL."""
    for place in (folder / inner for inner in NESTED):
        if any((place / split / "NORMAL").is_dir() for split in SPLITS):
            return place
    return None


def download(folder: Path) -> None:
    """Download the data set into kagglehub's cache and make `folder` a link to it (a copy where links are not allowed).

    Raises:
        FileExistsError: `folder` holds something else.
        click.ClickException: the download failed, most often for want of internet (exit code 1).
    """
    import kagglehub
    from kagglehub import exceptions

    if folder.is_symlink():
        folder.unlink()  # it leads to no data set, or `find` would have found one
    elif folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"Expected {folder} to be empty or missing, found other files in it.")
    try:
        cached = Path(kagglehub.dataset_download(HANDLE))
    except (
        OSError,  # every failure of `requests` is one
        exceptions.BackendError,
        exceptions.CredentialError,
        exceptions.DataCorruptionError,
        exceptions.NotFoundError,
        exceptions.UnauthenticatedError,
    ) as error:
        reason = str(error).strip().split("\n")[0]
        raise click.ClickException(f"The download from Kaggle failed ({type(error).__name__}: {reason}).") from None
    found = find(cached)
    if found is None:
        raise click.ClickException(f"Expected train/NORMAL in what Kaggle sent, found none in {cached}.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.is_dir():
        folder.rmdir()
    try:
        folder.symlink_to(found.resolve(), target_is_directory=True)
    except OSError:  # Windows without the privilege to link
        shutil.copytree(found, folder, ignore=shutil.ignore_patterns("chest_xray", "__MACOSX", "._*", ".DS_Store"))


def check(folder: Path) -> Iterator[str]:
    """Read every film of `folder/{train,val,test}`, as far as they exist, and describe them line by line."""
    from pneumo.data import dataset

    splits = {split: dataset.scan(folder / split) for split in SPLITS if (folder / split).is_dir()}
    films = [(split, example) for split, examples in splits.items() for example in examples]
    unreadable, same, hashes = {}, defaultdict(list), defaultdict(list)
    results = progress(each(_digest, [example.path for _, example in films]), "reading", len(films))
    for (split, example), (digest, reason) in zip(films, results, strict=True):
        hashes[split].append(digest)
        same[digest].append(split)
        if reason:
            unreadable[example.path] = reason

    def row(name: str, examples: list[dataset.Example]) -> str:
        label = Counter(e.label for e in examples)
        kind = Counter(e.aetiology for e in examples)
        patients = len({e.patient for e in examples})
        broken = sum(e.path in unreadable for e in examples)
        kinds = (label["NORMAL"], label["PNEUMONIA"], kind["bacteria"], kind["virus"])
        return f"{name:<15}" + "".join(f"{number:>11}" for number in (len(examples), *kinds, patients, broken))

    yield f"{folder} ({SOURCE})"
    heads = ("films", "NORMAL", "PNEUMONIA", "bacterial", "viral", "patients", "unreadable")
    yield f"{'folder':<15}" + "".join(f"{head:>11}" for head in heads)
    for split, examples in splits.items():
        yield row(split, examples)
    copies = [where for where in same.values() if len(where) > 1]
    across = sum(len(set(where)) > 1 for where in copies)
    yield f"byte-identical: {len(copies)} groups of {sum(map(len, copies))} files, {across} of them across folders"
    if "train" in splits:
        yield f"our split of train, by patient, identical files together (seed {dataset.SPLIT_SEED}):"
        try:
            for part, examples in dataset.split(splits["train"], hashes["train"]).items():
                yield row(part, examples)
        except PneumoError as error:
            yield str(error)
        yield f"fingerprint of train: {dataset.fingerprint(hashes['train'])}"
    for path, reason in unreadable.items():
        yield f"unreadable: {click.format_filename(path)}: {reason}"


def check_source(folder: Path) -> Iterator[str]:
    """Read every film of a source, and describe it line by line."""
    from pneumo.data.sources import read_source

    examples = read_source(folder, folder.name)
    results = progress(each(_digest, [example.path for example in examples]), "reading", len(examples))
    reasons = [reason for _, reason in results]

    def tell(values: Iterable[str | None]) -> str:
        return ", ".join(f"{count} {value or 'unknown'}" for value, count in sorted(Counter(values).items(), key=str))

    labels = ", ".join(f"{n} {label}" for label, n in Counter(example.label for example in examples).items())
    yield f"{folder}: {len(examples)} films of {len({e.patient for e in examples})} patients: {labels}"
    yield f"view: {tell(example.view for example in examples)}"
    boxed = sum(example.boxes is not None for example in examples)
    readers = tell(example.read_by for example in examples)
    unreadable = sum(reason is not None for reason in reasons)
    yield f"labelled by: {readers}; boxes on {boxed} films; unreadable: {unreadable}"
    for example, reason in zip(examples, reasons, strict=True):
        if reason:
            yield f"unreadable: {click.format_filename(example.path)}: {reason}"


def _digest(path: Path) -> tuple[str, str | None]:
    """Hash a film with SHA-256, and give the reason if it cannot be read."""
    from pneumo.films.images import decode

    content = path.read_bytes()
    try:
        decode(content)
    except PneumoError as error:
        return hashlib.sha256(content).hexdigest(), str(error)
    return hashlib.sha256(content).hexdigest(), None
