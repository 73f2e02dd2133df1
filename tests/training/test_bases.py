"""Weights to begin with: what names them, and what a card says of them."""

import hashlib
import json

import pytest

from pneumo.training.bases import describe_base, find_base
from pneumo.training.recipes import IMAGENET


def test_a_base_is_a_name_or_a_file(tmp_path):
    weights = tmp_path / "some.base.npz"
    with pytest.raises(FileNotFoundError, match=r"Expected base weights at .*some\.base\.npz, found none"):
        find_base(str(weights))
    weights.write_bytes(b"abc")
    assert [find_base(name) for name in (str(weights), "imagenet", "none")] == [weights, IMAGENET, None]


def test_a_card_says_of_a_base_what_is_known(tmp_path):
    weights = tmp_path / "some.base.npz"
    weights.write_bytes(b"abc")
    known = {"file": "some.base.npz", "sha256": hashlib.sha256(b"abc").hexdigest()}
    assert describe_base(weights) == known
    (tmp_path / "some.base.json").write_text(json.dumps({"command": "make base"}))
    assert describe_base(weights) == known | {"command": "make base"}
    assert describe_base(IMAGENET) == {"command": "keras.applications, imagenet"}
    assert describe_base(None) == {"command": "none: from scratch"}
