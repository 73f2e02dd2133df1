"""`pneumo node`: what its options mean, and what it says about those that cannot be meant."""

import pytest

from pneumo.cli.node import make_sender, read_peer
from pneumo.errors import SettingError
from pneumo.node.senders import StoreSender, WebSender
from tests.support.cli import run


@pytest.mark.parametrize(
    ("text", "peer"),
    [
        ("ORTHANC@localhost:4242", ("ORTHANC", "localhost", 4242)),
        ("WARD 3 ARCHIVE@10.0.0.7:104", ("WARD 3 ARCHIVE", "10.0.0.7", 104)),
        ("A@::1:65535", ("A", "::1", 65535)),
    ],
)
def test_a_peer(text, peer):
    assert read_peer(text) == peer


@pytest.mark.parametrize(
    "text",
    ["", "ORTHANC", "ORTHANC@localhost", "localhost:4242", "@localhost:4242", "ORTHANC@:4242", "ORTHANC@localhost:",
     "ORTHANC@localhost:dicom", "ORTHANC@localhost:-1", "  @localhost:4242", "A\\B@localhost:4242",
     "SEVENTEEN_LETTERS@localhost:4242", "RÖNTGEN@localhost:4242"],
)  # fmt: skip
def test_what_is_no_peer_is_said_with_an_example(text):
    with pytest.raises(SettingError) as told:
        read_peer(text)
    assert str(told.value) == (
        f"Expected --to as AE@HOST:PORT, for instance ORTHANC@localhost:4242, received {text!r}. "
        "An AE title has 1 to 16 ASCII characters; ask the archive's administrator for all three."
    )


@pytest.mark.parametrize("port", ["0", "65536"])
def test_a_port_that_there_is_not(port):
    with pytest.raises(SettingError, match=f"^Expected a port from 1 to 65535 in --to, received {port}.$"):
        read_peer(f"ORTHANC@localhost:{port}")


def test_where_results_go():
    peer = StoreSender("PNEUMO", "ORTHANC", "localhost", 4242)
    assert make_sender("PNEUMO", "ORTHANC@localhost:4242", None, None, None, False) == peer
    assert make_sender("PNEUMO", "ORTHANC@localhost:4242", None, None, None, True).tls.check_hostname
    assert make_sender("PNEUMO", None, "https://pacs", None, None, False) == WebSender("https://pacs")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "Expected either --to or --stow"),
        (("--to", "A@b:1", "--stow", "http://b"), "Expected either --to or --stow"),
        (("--to", "nowhere"), "Expected --to as AE@HOST:PORT"),
        (("--stow", "http://b", "--to-tls"), "Expected --to-tls with --to only."),
        (("--to", "A@b:1", "--trust", __file__), "Expected --certificate or --to-tls beside --trust"),
        (("--to", "A@b:1", "--certificate", __file__), "Expected a certificate and its key in one PEM file"),
        (("--to", "A@b:1", "--title", "SEVENTEEN_LETTERS"), "Expected an AE title of 1 to 16 ASCII characters"),
        (("--to", "A@b:1", "--caller", "XRAY", "--caller", " "), "Expected an AE title of 1 to 16 ASCII characters"),
    ],
)
def test_options_that_cannot_be_meant_are_said_before_anything_is_written(tmp_path, options, words):
    done = run("node", "--state", tmp_path / "state", *options)
    assert (done.exit_code, words in done.stderr) == (2, True), done.output
    assert not (tmp_path / "state").exists()
