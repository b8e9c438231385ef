"""The JSON files that other programs may rely on: which schema describes each, and which version of it is written.

Synopsis::

    content = json_schema.with_version("findings.json", {"crackflow": "0.1.0", "photos": []})
    content["schema_version"]                                  # 1, the first key
    schema = json_schema.load_schema("findings.json")          # JSON Schema, draft 2020-12, as a dict
    json_schema.require_known("findings.json", content, path)  # UserError for a file of a later version

A version is raised when a key goes, gets another name, another unit or another meaning. New keys do not raise it: a
reader must ignore keys that it does not know. Files without a version were written before there was one.
"""

import importlib.resources
import json
from typing import Any

from crackflow.core.errors import UserError

KEY = "schema_version"
FINDINGS, REVIEWS = "findings.json", "reviews.json"
METRICS, DATASET, PARITY = "metrics.json", "dataset.json", "parity.json"
VERSIONS = {FINDINGS: 1, REVIEWS: 1, METRICS: 1, DATASET: 1, PARITY: 1}


def with_version(name: str, content: dict) -> dict:
    """Returns `content` of a file called `name` with the version that is written now as its first key."""
    return {KEY: VERSIONS[name]} | {key: value for key, value in content.items() if key != KEY}


def load_schema(name: str) -> dict:
    """Returns the JSON Schema of the files called `name`, one of VERSIONS."""
    file = importlib.resources.files("crackflow") / "schemas" / f"{name.removesuffix('.json')}.schema.json"
    return json.loads(file.read_text(encoding="utf-8"))


def require_known(name: str, content: dict[str, Any], path: str) -> None:
    """Raises: UserError if `content`, of the file `path`, is of a version that this crackflow does not know."""
    version = content.get(KEY, VERSIONS[name])
    if type(version) is not int or not 1 <= version <= VERSIONS[name]:
        raise UserError(
            f"{path!r}: expected {KEY} {VERSIONS[name]} of {name}, received {json.dumps(version)[:40]}; use a "
            "crackflow that is as new as the one that wrote it"
        )
