"""Argo CD's health scripts, run by a real Lua as Argo CD runs them: over the cases beside them, and over everything."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from auralink_operator.models import Conflict, parse_policy
from auralink_operator.status import MatchedBridge, Status, derive_policy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hack.audit.rules import broken, kstatus
from tests.unit.operator import samples
from tests.unit.operator.status.scenes import NOW, conditions, message
from tests.unit.operator.status.strategies import histories

lua51: Any = import_module("lupa.lua51")  # untyped
SCRIPTS = Path(__file__).parents[3] / "examples/gitops/argocd/resource_customizations/auralink.io"
KINDS = ("AuraLinkBridge", "RoomPolicy")
CASES = [
    (kind, case)
    for kind in KINDS
    for case in yaml.safe_load((SCRIPTS / kind / "health_test.yaml").read_text())["tests"]
]
# Of Lua 5.1's libraries Argo CD loads these for a script from argocd-cm (argo-cd: util/lua/lua.go, useOpenLibs unset).
KEPT = {"_G", "_VERSION", "table", "package", "require", "module", "obj"} | {
    *("assert", "error", "getmetatable", "ipairs", "next", "pairs", "pcall", "print", "rawequal", "rawget", "rawset"),
    *("select", "setmetatable", "tonumber", "tostring", "type", "unpack", "xpcall"),
}


class Script:
    """One health script in a Lua of its own."""

    def __init__(self, kind: str) -> None:
        self._lua: Any = lua51.LuaRuntime(unpack_returned_tuples=True)
        for name in [name for name in self._lua.globals() if name not in KEPT]:
            self._lua.globals()[name] = None
        text = (SCRIPTS / kind / "health.lua").read_text()
        self._run: Any = self._lua.eval(f"function(it) obj = it\n{text}\nend")

    def health(self, obj: dict[str, Any]) -> tuple[str, str]:
        found = self._run(self._lua.table_from(obj, recursive=True))
        return found["status"], found["message"]


@pytest.fixture(scope="module")
def scripts() -> dict[str, Script]:
    return {kind: Script(kind) for kind in KINDS}


@pytest.mark.parametrize(("kind", "case"), CASES, ids=lambda part: part if isinstance(part, str) else part["inputPath"])
def test_each_case_is_as_healthy_as_it_says(scripts: dict[str, Script], kind: str, case: dict[str, Any]) -> None:
    obj = yaml.safe_load((SCRIPTS / kind / case["inputPath"]).read_text())
    want = case["healthStatus"]
    assert scripts[kind].health(obj) == (want["status"], want["message"])


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_of_test_data_is_a_case_and_a_status_that_we_would_write(kind: str) -> None:
    used = {case["inputPath"] for name, case in CASES if name == kind}
    files = sorted((SCRIPTS / kind / "testdata").glob("*.yaml"))
    assert used == {f"testdata/{file.name}" for file in files}
    for file in files:
        obj = yaml.safe_load(file.read_text())
        assert obj["kind"] == kind
        status = obj.get("status") or {}
        if status.get("conditions"):
            assert broken(status["observedGeneration"], status) == [], file.name


AGREED = {
    "Healthy": {"Current"},
    "Degraded": {"Failed"},
    "Progressing": {"InProgress"},
    "Suspended": {"Current", "InProgress", "Failed"},  # kstatus knows no suspension
}


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(history=histories(), newer=st.integers(0, 1))
def test_argo_cd_and_kstatus_agree_on_every_bridge(
    scripts: dict[str, Script], history: list[tuple[int, Status]], newer: int
) -> None:
    for generation, status in history:
        obj = samples.bridge(generation=generation + newer, status=status)
        health, said = scripts["AuraLinkBridge"].health(obj)
        found = conditions(status)
        assert kstatus(obj) in AGREED[health]
        assert (health == "Suspended") == ("Suspended" in found and not newer)
        assert said
        if health == "Healthy" and "Degraded" in found:
            assert said == message(status, "Degraded")


@given(
    matched=st.lists(
        st.builds(MatchedBridge, st.sampled_from("abc"), st.none() | st.integers(1, 2), dropped=st.booleans())
    ),
    newer=st.integers(0, 1),
)
def test_argo_cd_and_kstatus_agree_on_every_policy(
    scripts: dict[str, Script], matched: list[MatchedBridge], newer: int
) -> None:
    obj = samples.policy("p", mode="Auto")
    obj["status"] = derive_policy(parse_policy(obj), matched, NOW)
    obj["metadata"]["generation"] += newer
    health, said = scripts["RoomPolicy"].health(obj)
    assert kstatus(obj) in AGREED[health]
    assert said


def test_a_policy_that_lost_by_chance_is_healthy_and_says_so(scripts: dict[str, Script]) -> None:
    obj = samples.policy("p", mode="Auto")
    lost = MatchedBridge("a", 1, conflicts=(Conflict("codecs", "old", "p", 0, "old is older"),))
    obj["status"] = derive_policy(parse_policy(obj), [lost], NOW)
    health, said = scripts["RoomPolicy"].health(obj)
    assert health == "Healthy"
    assert "codecs to old on a" in said
