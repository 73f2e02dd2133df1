"""Several hospitals' films: what their tables say, parts without a common patient, weights that tell nothing."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from pneumo.data.dataset import Example, content_hashes, load, scan, split
from pneumo.data.sources import MOST, find_population, read_sources, split_sources, weigh_films
from pneumo.errors import PneumoError

HEAD = "file,label,patient,age,sex,view,source"


def write_source(root, rows, table=True):
    """Write a file for each row (label, patient, number, age, view), and labels.csv."""
    lines = [HEAD]
    for label, patient, number, age, view in rows:
        path = root / label / f"{patient}_{number:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{patient} {number}")
        lines.append(f"{label}/{path.name},{label},{patient},{age},F,{view},radiologist (RSNA)")
    if table:
        (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def adults(tmp_path):
    """30 adults: 10 with an opacity, 10 normal, 10 with other findings, one film each, and a second of the first."""
    rows = [(("PNEUMONIA", "NORMAL", "OTHER")[n % 3], f"{n:08}", 0, 20 + n, ("AP", "PA")[n % 2]) for n in range(30)]
    return write_source(tmp_path / "adults", [*rows, ("OTHER", "00000000", 1, 21, "PA")])


@pytest.fixture
def children(tmp_path):
    """Kaggle's layout: 40 patients, a film each."""
    for number in range(40):
        label = ("NORMAL", "PNEUMONIA")[number % 2]
        name = f"IM-{number:04}-0001.jpeg" if label == "NORMAL" else f"person{number}_virus_1.jpeg"
        path = tmp_path / "chest_xray" / "train" / label / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"child {number}")
    return tmp_path / "chest_xray"


def test_tables_say_who_and_how_old_and_where_the_opacity_is(children, adults):
    (adults / "boxes.csv").write_text(
        "image,x,y,width,height\n00000000_000,256,512,128,64\n00000000_000,0,0,1024,1024\n"
    )
    films = read_sources([children, adults])
    assert [e.source for e in films] == ["chest_xray"] * 40 + ["adults"] * 31
    first = next(e for e in films if e.path.name == "00000000_000.jpg")
    assert (first.label, first.target, first.patient, first.age, first.view) == ("PNEUMONIA", 1, "00000000", 20, "AP")
    assert first.read_by == "radiologist (RSNA)"
    assert first.boxes == ((0.25, 0.5, 0.375, 0.5625), (0.0, 0.0, 1.0, 1.0))
    assert [e.target for e in films if e.label == "OTHER"] == [0] * 11
    child = films[0]
    assert (child.age, child.view, child.boxes, child.read_by, child.aetiology) == (None, None, None, None, "normal")
    films = (first, child, Example(child.path, "NORMAL", None, "p", age=17))
    assert [find_population(e) for e in films] == ["adult", None, "child"]


def test_what_a_table_lacks_is_said(adults):
    table = (adults / "labels.csv").read_text()
    for changed, words in (
        (table.replace("view", "vue"), "found no view"),
        (table.replace("PNEUMONIA/00000003_000.jpg", "PNEUMONIA/x.jpg"), "a row for PNEUMONIA/00000003_000.jpg"),
        (table.replace(",23,", ",old,"), "age of PNEUMONIA/00000003_000.jpg in years, received 'old'"),
    ):
        (adults / "labels.csv").write_text(changed)
        with pytest.raises(PneumoError, match=words):
            read_sources([adults])
    (adults / "labels.csv").write_text(table.replace(",23,", ",,"))
    (adults / "boxes.csv").write_text("image,x,y,width,height\n00000003_000,left,0,1,1\n")
    with pytest.raises(PneumoError, match="Expected numbers of pixels for 00000003_000"):
        read_sources([adults])
    with pytest.raises(PneumoError, match="different names, received adults twice"):
        read_sources([adults, adults])


def test_every_source_is_divided_and_the_first_as_if_it_were_alone(children, adults):
    films = read_sources([children, adults])
    parts = split_sources(films, content_hashes(films))
    assert sorted(e.path for part in parts.values() for e in part) == sorted(e.path for e in films)
    alone = scan(children / "train")
    for name, part in split(alone, content_hashes(alone)).items():
        assert [e.path for e in parts[name] if e.source == "chest_xray"] == [e.path for e in part]
        assert {e.target for e in parts[name] if e.source == "adults"} == {0, 1}


def test_a_patient_of_two_sources_is_in_one_part(children, adults, tmp_path):
    # the same adults once more under their numbers, and copies of the children's films under other names
    again = write_source(tmp_path / "again", [("NORMAL", f"{n:08}", 7, 30, "PA") for n in range(30)], table=False)
    write_source(again, [("PNEUMONIA", f"{n:08}", 8, 30, "AP") for n in range(30)])
    table = (again / "labels.csv").read_text().splitlines()
    table += [f"NORMAL/{n:08}_007.jpg,NORMAL,{n:08},30,F,PA,text" for n in range(30)]
    for number in range(40):
        (again / "NORMAL" / f"copy{number}.jpg").write_text(f"child {number}")
        table.append(f"NORMAL/copy{number}.jpg,NORMAL,,30,F,PA,text")
    (again / "labels.csv").write_text("\n".join(table))
    films = read_sources([children, adults, again])
    hashes = content_hashes(films)
    parts = split_sources(films, hashes)
    content = dict(zip((e.path for e in films), hashes, strict=True))
    for key in (lambda e: e.patient, lambda e: content[e.path]):
        sets = [{key(e) for e in part} for part in parts.values()]
        assert len(set.union(*sets)) == sum(map(len, sets))


def film(source, view, age, label, read_by=None):
    return Example(None, label, None, "p", age=age, view=view, source=source, read_by=read_by)


def test_weights_by_hand_tell_nothing_of_the_label():
    counts = {
        ("kaggle", None, None, "NORMAL"): 3,
        ("kaggle", None, None, "PNEUMONIA"): 6,
        ("nih", "AP", 50, "PNEUMONIA"): 4,
        ("nih", "AP", 50, "NORMAL"): 1,
        ("nih", "AP", 50, "OTHER"): 3,
        ("nih", "PA", 50, "NORMAL"): 8,  # no pneumonia of that view: these would teach that PA is normal
    }
    films = [film(*cell) for cell, count in counts.items() for _ in range(count)]
    weights = weigh_films(films)
    assert weights.mean() == pytest.approx(1)
    total = {cell: weights[[(e.source, e.view, e.age, e.label) == cell for e in films]].sum() for cell in counts}
    assert total["nih", "PA", 50, "NORMAL"] == 0
    # 25 films; the sources' roots are 3 and 4, and half of what each weighs is pneumonia's
    for kaggle in ("NORMAL", "PNEUMONIA"):
        assert total["kaggle", None, None, kaggle] == pytest.approx(25 * 3 / 14)
    assert total["nih", "AP", 50, "PNEUMONIA"] == pytest.approx(25 * 4 / 14)
    assert total["nih", "AP", 50, "NORMAL"] == pytest.approx(25 / 14)
    assert total["nih", "AP", 50, "OTHER"] == pytest.approx(25 * 3 / 14)


def test_a_film_that_was_read_counts_more_than_one_labelled_by_text():
    films = [film("a", "PA", 50, "NORMAL")] * 2 + [film("a", "PA", 50, "PNEUMONIA", "text")]
    films += [film("a", "PA", 50, "PNEUMONIA", "radiologist (RSNA)")]
    # half of the weight, 4, for each label; of pneumonia's, 2 : 1 for the film that was read
    assert weigh_films(films) == pytest.approx([1, 1, 2 / 3, 4 / 3])


def test_no_film_of_a_small_cell_outweighs_the_others():
    films = [film("a", "PA", 5, "NORMAL")] * 100 + [film("a", "PA", 5, "PNEUMONIA")] * 100
    films += [film("a", "PA", 50, "NORMAL")] + [film("a", "PA", 50, "PNEUMONIA")] * 50
    weights = weigh_films(films)
    # 251 films: the lone one weighs MOST, and so do the 50 beside it together; the 200 children share what is left
    assert weights[200] == pytest.approx(MOST)
    assert weights[201:].sum() == pytest.approx(MOST)
    assert weights[:100].sum() == pytest.approx(weights[100:200].sum()) == pytest.approx((251 - 2 * MOST) / 2)
    with pytest.raises(PneumoError, match="with and without pneumonia from the same source"):
        weigh_films(films[:100] + films[201:])


def test_films_on_disk_take_no_memory(tmp_path):
    """Ten times as many films, as much memory: each film is 64 kB, 180 more would be 12 MB."""
    (tmp_path / "film.png").touch()
    Image.fromarray(np.arange(256, dtype=np.uint8)[None].repeat(256, axis=0)).save(tmp_path / "film.png")
    peaks = []
    for count in (20, 200):
        examples = [Example(tmp_path / "film.png", "NORMAL", None, str(number)) for number in range(count)]
        tracemalloc.start()
        films = load(examples, 256, path=tmp_path / f"{count}.npy")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert films.shape == (count, 256, 256)
        assert (films[-1] == np.arange(256)).all()
    assert peaks[1] < peaks[0] + 180 * 2**16 / 2
