"""A wheel has everything that is served but the model, and serves it from a folder with nothing in it."""

import shutil
import subprocess
import sys
import zipfile

from pneumo.model.card import find_card
from tests.support.films import SAMPLES
from tests.support.server import ROOT, Server

SOURCES = ("app.py", "LICENSE", "README.md", "pyproject.toml")
SERVE = ("-c", "from pneumo.cli.main import main; main()", "serve")


def test_a_wheel_is_whole_and_serves(tmp_path):
    source, wheels, installed, empty = (tmp_path / name for name in ("source", "wheels", "installed", "empty"))
    for folder in ("pneumo", "templates", "static"):  # a copy: setuptools leaves a build/ behind
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=ignored)
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", wheels, source]
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *build], check=True)
    (wheel,) = wheels.glob("pneumo-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
        archive.extractall(installed)
    expected = {"app.py"}
    for folder, there in (("pneumo", "pneumo"), ("templates", "pneumo/web/templates"), ("static", "pneumo/web/static")):
        files = [path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"]
        expected |= {f"{there}/{path.relative_to(ROOT / folder).as_posix()}" for path in files}
    assert len(expected) > 60
    assert expected <= inside
    empty.mkdir()
    script = installed / "pneumo" / "web" / "static" / "page.js"
    script.write_text("// of the wheel")
    settings = {"PNEUMO_MODEL": find_card("vgg16-chest-xray"), "PYTHONPATH": installed}
    with Server(tmp_path / "log", arguments=SERVE, folder=empty, **settings) as server:
        assert "Choose films" in server.get("/")[1]
        assert server.get("/static/page.js")[1] == "// of the wheel"
        assert server.post("/predict", "image/jpeg", SAMPLES[0].read_bytes())[0] == 200
    assert not any(empty.iterdir())
