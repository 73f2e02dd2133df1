"""The OpenAPI document is true: schemathesis asks what it allows and what it does not, and looks at the answers."""

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app import create_app
from tests.support.films import MeanGrey, saved

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
CASES = 40  # of each operation that takes anything


def films():
    """Grey pictures of every format, which the fake model reads, and bytes that are none."""
    greys = st.builds(
        lambda grey, side, kind: saved(Image.fromarray(np.full((side, 40), grey, np.uint8)), kind),
        st.integers(0, 255),
        st.integers(30, 60),  # from 32 on it is a film
        st.sampled_from(["JPEG", "PNG", "TIFF", "WEBP", "BMP"]),
    )
    return greys | st.binary(max_size=200)


for media_type in ("image/*", "image/jpeg", "application/dicom", "application/octet-stream"):
    schemathesis.openapi.media_type(media_type, films())


SCHEMA = schemathesis.openapi.from_wsgi("/openapi.json", create_app({"PREDICTOR": MeanGrey()}))
OPERATIONS = {result.ok().label: result.ok() for result in SCHEMA.get_all_operations()}


# only /predict takes something in which a request can be wrong
MODES = [(name, GenerationMode.POSITIVE) for name in OPERATIONS] + [("POST /predict", GenerationMode.NEGATIVE)]


@pytest.mark.parametrize(("name", "mode"), MODES)
def test_answers_are_those_of_the_document(name, mode):
    statuses = set()

    @settings(max_examples=CASES, deadline=None, derandomize=True, database=None, suppress_health_check=HealthCheck)
    @given(OPERATIONS[name].as_strategy(generation_mode=mode))
    def check(case):
        answer = case.call()
        statuses.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    check()
    expected = {200} if name.startswith("GET") else {200, 400, 415}
    assert expected <= statuses, "what is generated says little"
