"""Validation of JSON files by the schemas in the package."""

import copy
import json

import jsonschema

from crackflow.core import json_schema

ABSENT = object()


def validator(name):
    """Of files called `name`."""
    return jsonschema.Draft202012Validator(json_schema.load_schema(name))


def closed(schema):
    """`schema`, by which objects have no other keys than those that it describes, except where it says so."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {key: closed(part) for key, part in schema.items()}
    is_object = schema.get("type") == "object" and isinstance(schema.get("properties"), dict)
    return {"additionalProperties": False} | parts if is_object else parts


def require_valid(name, content):
    """`content`, or that of a file, is valid, of the version that is written now, and all its keys are described."""
    content = content if isinstance(content, dict) else json.loads(content.read_text())
    assert content[json_schema.KEY] == json_schema.VERSIONS[name]
    validator(name).validate(content)
    schema = closed(json_schema.load_schema(name))
    if name == json_schema.METRICS:  # each kind of it is described without the version
        schema = {
            key: part for key, part in schema.items() if key not in ("type", "properties", "additionalProperties")
        }
        content = {key: value for key, value in content.items() if key != json_schema.KEY}
        del schema["required"]
    jsonschema.Draft202012Validator(schema).validate(content)


def damaged(content, keep=()):
    """Yields (key, copy of `content`) with each value in turn of another type, and with each key in turn left out.

    Args:
        content: of a file.
        keep: names of keys that stay as they are, with all below them.
    """
    yield from _damaged(content, content, (), keep)


def _damaged(whole, part, path, keep):
    items = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, value in items:
        if key in keep:
            continue
        name = "/".join(map(str, (*path, key)))
        yield name, changed(whole, (*path, key), {"of another type": True} if not isinstance(value, dict) else 7)
        if isinstance(part, dict):
            yield f"no {name}", changed(whole, (*path, key))
        yield from _damaged(whole, value, (*path, key), keep)


def part_at(whole, path):
    for key in path:
        whole = whole[key]
    return whole


def changed(whole, path, value=ABSENT):
    """A copy of `whole` with `value` at `path`, or without that key."""
    copied = copy.deepcopy(whole)
    parent = part_at(copied, path[:-1])
    if value is ABSENT:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return copied
