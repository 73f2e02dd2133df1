"""README and docs: links lead somewhere, commands run, settings and refusals are all described.

Commands are the `sh` blocks. They run in a copy of the repository, but for lines with `# long`. `make run` is started
on a port of its own and stopped.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from pneumo import errors
from pneumo.films.images import decode
from tests.support.dicom import dicom
from tests.support.films import SAMPLES
from tests.support.server import environment, free_port, until

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", ROOT / "MODEL_CARD.md", *sorted((ROOT / "docs").glob("*.md"))]
SETTING = re.compile(r"\bPNEUMO_[A-Z]+(?:_[A-Z]+)*\b")
COPIED = {
    *("app.py", "gunicorn.conf.py", "pyproject.toml", "Makefile", "requirements.txt", "requirements-serve.txt"),
    "requirements-node.txt",
    *("README.md", "MODEL_CARD.md", "CHANGELOG.md", "docs", "deploy", "compose.yaml"),
    *("pneumo", "templates", "static", "models", "reports", "notebooks", "benchmarks", "tests"),
}
CACHES = {"__pycache__"}


def blocks(page, language):
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def anchors(page):
    """What a link to a heading of the page ends in: GitHub's rule, lower case with hyphens for blanks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_one_page():
    assert len(README.read_text().splitlines()) <= 130


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page):
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}"


def test_every_page_is_reached_from_the_readme():
    reached, left = set(), [README]
    while left:
        page = left.pop()
        reached.add(page)
        links = re.findall(r"\]\(([^)#\s]+\.md)", page.read_text())
        left += {(page.parent / link).resolve() for link in links if "://" not in link} - reached
    assert set(PAGES) <= reached


def test_every_setting_is_in_the_table_of_settings():
    code = [ROOT / "app.py", ROOT / "gunicorn.conf.py", *(ROOT / "pneumo").rglob("*.py")]
    used = {name for path in code for name in SETTING.findall(path.read_text())}
    described = re.findall(r"^\| `(PNEUMO_[A-Z_]+)` \|", (ROOT / "docs" / "deploying.md").read_text(), re.MULTILINE)
    assert used == set(described)
    assert len(described) == len(set(described))


def test_every_refusal_of_a_request_is_in_the_table_of_refusals():
    rows = re.findall(r"^\| ([\d, ]+) \| (`[^|]+`) \|", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    told = {(int(status), word) for statuses, words in rows for status in statuses.split(",")
            for word in re.findall(r"`(\w+)`", words)}  # fmt: skip
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind.status not in (500, 503)]
    assert {(kind.status, kind.error) for kind in (*kinds, errors.BusyError)} <= told


@pytest.fixture(scope="module")
def copy(tiny_chest_xray, tmp_path_factory):
    """A copy of the repository with a small data set, the sample films as DIR/LABEL, and one of them as film.dcm."""
    root = tmp_path_factory.mktemp("copy") / "pneumo"
    shutil.copytree(ROOT, root, ignore=lambda folder, names: set(names) - COPIED if folder == str(ROOT) else CACHES)
    (root / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (root / ".venv" / name).symlink_to(Path(sys.prefix, name))
    shutil.copytree(tiny_chest_xray, root / "data" / "chest_xray")
    for path in SAMPLES:
        film = root / "DIR" / ("NORMAL" if path.name.startswith("IM") else "PNEUMONIA") / path.stem / path.name
        film.parent.mkdir(parents=True)
        shutil.copy(path, film)
    (root / "film.dcm").write_bytes(dicom(decode(SAMPLES[0].read_bytes()).pixels))
    (root / ".curlrc").write_text("fail-with-body\nsilent\n")
    for name in (".made", ".serve", ".all"):  # so that make installs nothing
        (root / ".venv" / name).touch()
    return root


@contextmanager
def served(copy, command):
    """Start a server by `command`, a line that ends in `make run`; yields its port."""
    port, log = free_port(), copy / "server.log"
    settings = environment(PORT=port, WEB_CONCURRENCY=1, PYTHONPATH=copy)
    with log.open("w") as stream:
        server = subprocess.Popen(
            ["bash", "-c", command], cwd=copy, env=settings, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        until(lambda: run(copy, f"curl http://localhost:{port}/health/ready") or server.poll() is not None, "a server")
        assert server.poll() is None, log.read_text()
        yield port
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def run(copy, script):
    """Output of a script in the copy; raises OSError with it where a command fails."""
    settings = environment(PYTHONPATH=copy, CURL_HOME=copy)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=copy, env=settings, capture_output=True, text=True
    )
    if done.returncode:
        raise OSError(f"{script}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


@pytest.fixture(scope="module")
def port(copy):
    """The port of a server started by the README's own line."""
    line = next(line for block in blocks(README, "sh") for line in block.splitlines() if line.startswith("make run"))
    with served(copy, line.partition("#")[0].strip()) as number:
        yield number


def test_the_readmes_question_gets_the_readmes_answer(copy, port):
    (question,) = [block for block in blocks(README, "sh") if "curl" in block]
    answer = json.loads(run(copy, question.replace("localhost:5000", f"localhost:{port}")))
    (shown,) = map(json.loads, blocks(README, "json"))
    assert list(answer) == list(shown)
    assert answer["probability"] == pytest.approx(shown["probability"], abs=0.02)  # processors differ a little
    same = set(shown) - {"probability", "request_id"}
    assert {name: answer[name] for name in same} == {name: shown[name] for name in same}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh")], ids=lambda page: page.name)
def test_every_command_runs(copy, port, page):
    for block in blocks(page, "sh"):
        short = [line for line in block.splitlines() if not re.search(r"# long\b", line)]
        scripts = re.split(r"^((?:\w+=\S+ )*make run\b.*)$", "\n".join(short), flags=re.MULTILINE)
        for script in scripts:
            if "make run" in script:
                with served(copy, script.partition("#")[0].strip()):
                    continue
            if script.strip():
                run(copy, script.replace("localhost:5000", f"localhost:{port}"))
