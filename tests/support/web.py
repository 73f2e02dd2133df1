"""A key, the check of a body by the served /openapi.json, and /metrics as numbers."""

import hashlib

from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families

KEY = "correct horse battery staple"
HASH = hashlib.sha256(KEY.encode()).hexdigest()


def conforms(client, body, schema):
    document = client.get("/openapi.json").json
    root = {"$ref": f"#/components/schemas/{schema}", "components": document["components"]}
    Draft202012Validator(root).validate(body)


def counts(text):
    """Every line of /metrics as {(name, label values in the order of the labels' names): value}."""
    return {
        (sample.name, *(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
