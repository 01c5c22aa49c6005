"""The examples are what the operator takes."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from auralink_operator.models import check, parse_bridge, parse_policy

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_parses_and_uses_no_unknown_field(path: Path) -> None:
    for obj in yaml.safe_load_all(path.read_text()):
        obj["metadata"] |= {"namespace": "ns", "uid": "u", "generation": 1}
        spec: Any
        if obj["kind"] == "AuraLinkBridge":
            bridge = parse_bridge(obj)
            assert check(bridge) == []
            spec = bridge.spec.written_out()
        else:
            spec = parse_policy(obj).spec.written_out()
        assert unknown(obj["spec"], spec) == []


def unknown(given: Any, known: Any, path: str = "spec") -> list[str]:
    """Paths in the example that the models have not taken over."""
    if isinstance(given, dict):
        return [p for name, value in given.items() for p in unknown(value, known.get(name), f"{path}.{name}")]
    if isinstance(given, list):
        return [p for n, value in enumerate(given) for p in unknown(value, known[n], f"{path}[{n}]")]
    return [] if given == known else [path]
