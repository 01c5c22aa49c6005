"""A pydantic model as the structural schema that Kubernetes wants.

pydantic writes JSON schema. The difference is small: no references, no null, no titles, defaults of objects written
out. What a structural schema can say and JSON schema cannot (list types, CEL) is already in the models.
"""

from typing import Any

from auralink_operator.models import Model

Schema = dict[str, Any]

_DROPPED = ("title", "propertyNames", "additionalProperties")


def structural(model: type[Model]) -> Schema:
    """The model as a structural schema."""
    raw = model.model_json_schema(by_alias=True)
    found = _convert(raw, raw.get("$defs", {}))
    found.pop("default", None)
    return found


def _convert(node: Schema, defs: dict[str, Schema]) -> Schema:
    if "$ref" in node:
        target = defs[node["$ref"].rsplit("/", 1)[1]]
        return _joined(_convert(target, defs), _convert({k: v for k, v in node.items() if k != "$ref"}, defs))
    if "anyOf" in node and "x-kubernetes-int-or-string" not in node:
        (only,) = [choice for choice in node["anyOf"] if choice.get("type") != "null"]
        return _convert({**only, **{k: v for k, v in node.items() if k not in ("anyOf", "default")}}, defs)
    found = {name: value for name, value in node.items() if name not in (*_DROPPED, "$defs")}
    if isinstance(node.get("additionalProperties"), dict):
        found["additionalProperties"] = _convert(node["additionalProperties"], defs)
    if "properties" in node:
        found["properties"] = {name: _convert(value, defs) for name, value in node["properties"].items()}
        found.pop("description", None) if "\n" in node.get("description", "") else None
    if "items" in node:
        found["items"] = _convert(node["items"], defs)
    if "default" in node:
        found["default"] = _without_none(node["default"])
        if node["default"] is None:
            del found["default"]
    return found


def _joined(target: Schema, more: Schema) -> Schema:
    """A referenced schema with what its user adds; rules of both hold, the user's description wins."""
    rules = [*target.get("x-kubernetes-validations", ()), *more.get("x-kubernetes-validations", ())]
    joined = {**target, **more}
    return {**joined, "x-kubernetes-validations": rules} if rules else joined


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_none(item) for name, item in value.items() if item is not None}
    return value
