"""A key, and the check of a body by the served /openapi.json."""

import hashlib

from jsonschema import Draft202012Validator

KEY = "correct horse battery staple"
HASH = hashlib.sha256(KEY.encode()).hexdigest()


def conforms(client, body, schema):
    document = client.get("/openapi.json").json
    root = {"$ref": f"#/components/schemas/{schema}", "components": document["components"]}
    Draft202012Validator(root).validate(body)
