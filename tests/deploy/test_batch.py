"""deploy/slurm and deploy/parallel: the scripts ask for each shard of an archive once."""

import os
import shutil
import subprocess

import pytest

from pneumo.cli.main import main
from tests.support.server import ROOT

COUNT = 3


@pytest.fixture
def asked(tmp_path):
    """Run a script with these arguments and variables; return the options of `pneumo` for which it asked."""
    program, log = tmp_path / "pneumo", tmp_path / "log"
    program.write_text(f'#!/bin/sh\nprintf "%s\\t" "$@" >> "{log}"; echo >> "{log}"\n')
    program.chmod(0o755)

    def run(*command, **variables):
        settings = os.environ | {"PNEUMO": str(program), "SHARDS": str(COUNT), **variables}
        subprocess.run([*map(str, command)], env=settings, check=True, capture_output=True, text=True)
        found = [line.rstrip("\t").split("\t") for line in log.read_text().splitlines()]
        assert {words[0] for words in found} == {"predict"}
        return [main.commands["predict"].make_context("predict", words[1:]).params for words in found]

    return run


def check(found):
    assert sorted(one["shard"] for one in found) == [(index, COUNT) for index in range(COUNT)]
    assert {(one["sources"], one["parts"]) for one in found} == {(("the films",), "the parts")}


def test_slurm(asked):
    script = ROOT / "deploy" / "slurm" / "archive.sbatch"
    for index in range(COUNT):
        found = asked("bash", script, "the films", "the parts", SLURM_ARRAY_TASK_ID=str(index))
    check(found)


def test_slurms_array_is_as_long_as_there_are_shards(asked):
    script = ROOT / "deploy" / "slurm" / "archive.sbatch"
    assert "#SBATCH --array=0-99\n" in script.read_text()
    (found,) = asked("bash", script, "the films", "the parts", SLURM_ARRAY_TASK_ID="99", SHARDS="")
    assert found["shard"] == (99, 100)


def test_gnu_parallel(asked):
    assert shutil.which("parallel"), "this test needs GNU parallel (Debian: apt install parallel)"
    check(asked(ROOT / "deploy" / "parallel" / "archive.sh", "the films", "the parts", "--jobs", "1"))
