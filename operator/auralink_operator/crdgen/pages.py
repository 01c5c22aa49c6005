"""Tables of every field of a kind, for its page in `docs/kinds`: from the CRD, which is what the API server goes by.

A page holds a pair of marks for each table; what stands between them is replaced.
"""

import json
from collections.abc import Iterator
from typing import NamedTuple

from auralink_operator.crdgen.structural import Schema


class PageError(ValueError):
    """A page of `docs/kinds` lacks the marks that a table goes between."""


class Field(NamedTuple):
    """One row: a field by its path below spec or status."""

    path: str
    type: str
    bounds: str
    default: str
    text: str


def with_tables(page: str, crd: Schema) -> str:
    """The page with its tables put in anew."""
    root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    parts = {
        "spec": _table(fields(root["properties"]["spec"])),
        "rules": "".join(f"- {message}\n" for message in rules(root)),
        "status": _table(fields(root["properties"]["status"])),
    }
    for name, text in parts.items():
        begin, end = f"<!-- {name}: written by make generate -->\n", f"<!-- {name}: end -->"
        head, found, rest = page.partition(begin)
        _, closed, tail = rest.partition(end)
        if not found or not closed:
            raise PageError(f"docs/kinds/{crd['spec']['names']['singular']}.md lacks {begin.strip()} or {end}")
        page = head + begin + text + end + tail
    return page


def fields(node: Schema, path: str = "") -> Iterator[Field]:
    """Every field below a schema, parents before children; `[]` stands for each item of a list."""
    required = node.get("required", ())
    for name, schema in node.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        yield Field(here, _type(schema), _bounds(schema), _default(schema, name in required), schema["description"])
        yield from fields(schema, here)
        if schema.get("type") == "array":
            yield from fields(schema["items"], f"{here}[]")


def rules(node: Schema) -> Iterator[str]:
    """Messages of every rule below a schema, each once."""
    seen: dict[str, None] = {}

    def walk(inner: Schema) -> None:
        for rule in inner.get("x-kubernetes-validations", ()):
            seen[rule["message"]] = None
        for child in inner.get("properties", {}).values():
            walk(child)
        for name in ("items", "additionalProperties"):
            if isinstance(inner.get(name), dict):
                walk(inner[name])

    walk(node)
    yield from seen


def _type(schema: Schema) -> str:
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return "any object"
    kind = str(schema.get("type"))
    if kind == "array":
        items = _type(schema["items"])
        keys = schema.get("x-kubernetes-list-map-keys")
        return f"list of {items}" + (f", by {', '.join(keys)}" if keys else "")
    if kind == "object" and "additionalProperties" in schema:
        return "map of text"
    if schema.get("enum"):
        return " \\| ".join(schema["enum"])
    return {"object": "object", "string": "text", "boolean": "true \\| false"}.get(kind, kind)


def _bounds(schema: Schema) -> str:
    """The limits of a value, and of a list's items."""
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None or high is not None:
        return f"{'' if low is None else low}..{'' if high is None else high}"
    if "maxItems" in schema:
        least = schema.get("minItems", 0)
        items = _bounds(schema["items"]) if schema["items"].get("type") != "object" else ""
        count = f"{least}..{schema['maxItems']} items"
        return f"{count} of {items}" if items else count
    if "maxProperties" in schema:
        return f"up to {schema['maxProperties']} entries"
    if "maxLength" in schema:
        return f"{schema.get('minLength', 0)}..{schema['maxLength']} characters"
    return ""


def _default(schema: Schema, required: bool) -> str:
    if required:
        return "required"
    if "default" not in schema or (isinstance(schema["default"], dict) and schema.get("properties")):
        return ""  # an object's defaults are those of its fields
    return f"`{json.dumps(schema['default'])}`" if schema["default"] != "" else '`""`'


def _table(rows: Iterator[Field]) -> str:
    lines = ["| Field | Type | Bounds | Default | What it does |", "|---|---|---|---|---|"]
    for row in rows:
        text = row.text.replace("|", "\\|").replace("<", "\\<")
        lines.append(f"| `{row.path}` | {row.type} | {row.bounds} | {row.default} | {text} |")
    return "\n".join(lines) + "\n"
