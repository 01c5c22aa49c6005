"""What documents in any order and quality make of a pod's rooms."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from auralink_dataplane.app.duty import Duty
from auralink_dataplane.settings import parse_documents

PROPAGATION_S = 5.0
ENDPOINTS = [{"name": "meet", "type": "Jitsi", "jitsi": {"xmppUrl": "wss://meet/x", "domain": "meet"}}]


def room(name: str, port: int, codec: str = "H264") -> dict[str, Any]:
    video = {"payloads": [{"type": 96, "codec": codec}]}
    legs: list[tuple[str, str, dict[str, Any]]] = [
        ("in", "Receive", {"listenPort": port}),
        ("out", "Send", {"remote": "h:1"}),
    ]
    return {"name": name, "legs": [{"name": n, "direction": d, "rtp": {"video": video | at}} for n, d, at in legs]}


class Bench:
    """A duty with the Secrets that a test gives it."""

    def __init__(self, pod: str = "pod-1") -> None:
        self.secrets: dict[tuple[str, str], bytes] = {}
        self.generation = 0
        self.duty = Duty(pod, lambda name, key: self.secrets.get((name, key)), PROPAGATION_S)

    def take(
        self, bridge: Mapping[str, Any], owners: Mapping[str, str] | None = None, now: float = 0.0, **more: Any
    ) -> bool:
        self.generation += 1
        config = {"version": 1, "generation": self.generation, "bridge": bridge, "policies": more.pop("policies", [])}
        data = {"config.json": json.dumps(config)}
        if owners is not None:
            data["owners.json"] = json.dumps(owners)
        return self.duty.take(parse_documents(data), now, refusing=more.pop("refusing", False))

    @property
    def rooms(self) -> list[str]:
        return [one.name for one in self.duty.rooms]


@pytest.fixture
def bench() -> Bench:
    return Bench()


TWO = {"rooms": [room("a", 5000), room("b", 5002)]}


def test_it_serves_the_rooms_that_are_its_own_in_the_configurations_order(bench: Bench) -> None:
    assert bench.take(TWO, {"b": "pod-1", "a": "pod-1", "gone": "pod-1"})
    assert bench.rooms == ["a", "b"]
    assert Bench("pod-2").rooms == []


def test_a_bad_configuration_leaves_the_old_one_in_force_and_rooms_move_all_the_same(bench: Bench) -> None:
    bench.take(TWO, {"a": "pod-2", "b": "pod-1"})
    assert not bench.take({"logLevel": "Loud"}, {"a": "pod-1", "b": "pod-1"})
    assert (bench.duty.generation, bench.rooms) == (1, ["a", "b"])
    assert "logLevel" in bench.duty.problems()["ConfigInvalid"]
    bench.take(TWO, {"a": "pod-1"})
    assert "ConfigInvalid" not in bench.duty.problems()


def test_the_same_configuration_again_changes_nothing(bench: Bench) -> None:
    bench.take(TWO, {"a": "pod-1"})
    bench.generation -= 1
    assert not bench.take(TWO, {"a": "pod-1", "b": "pod-1"})
    assert bench.rooms == ["a", "b"]


def test_a_pod_that_goes_takes_no_room_and_keeps_those_it_has(bench: Bench) -> None:
    bench.take(TWO, {"a": "pod-1"})
    bench.take(TWO, {"a": "pod-1", "b": "pod-1"}, refusing=True)
    assert bench.rooms == ["a"]


def test_a_room_named_elsewhere_is_served_until_it_is_quiet(bench: Bench) -> None:
    bench.take(TWO, {"a": "pod-1"})
    bench.take(TWO, {"a": "pod-2"}, now=10.0)
    assert (bench.rooms, sorted(bench.duty.elsewhere)) == (["a"], ["b"])
    assert bench.duty.look({"a": 7}, 11.0) == frozenset()
    assert bench.duty.look({"a": 7}, 11.0 + PROPAGATION_S) == {"a"}
    assert (bench.rooms, sorted(bench.duty.elsewhere)) == ([], ["a", "b"])


def test_a_room_that_leaves_the_configuration_ends_at_once(bench: Bench) -> None:
    bench.take(TWO, {"a": "pod-1", "b": "pod-1"})
    bench.take({"rooms": [room("b", 5002)]}, {"a": "pod-1", "b": "pod-1"})
    assert (bench.rooms, sorted(bench.duty.elsewhere)) == (["b"], [])


def test_outside_kubernetes_every_room_is_served(bench: Bench) -> None:
    config = parse_documents({"config.json": json.dumps({"version": 1, "generation": 1, "bridge": TWO})}).config
    assert config
    bench.duty.serve_all(config, 0.0)
    assert bench.rooms == ["a", "b"]


def test_it_compresses_when_a_room_that_it_serves_does(bench: Bench) -> None:
    off = [{"name": "p", "rooms": {"names": ["a"]}, "compression": {"mode": "Disabled"}}]
    bench.take(TWO, {"a": "pod-1"}, policies=off)
    assert not bench.duty.compresses
    bench.take(TWO, {"a": "pod-1", "b": "pod-1"}, policies=off)
    assert bench.duty.compresses


def test_rooms_that_this_version_cannot_serve_are_told_and_disturb_no_other(bench: Bench) -> None:
    call = {"name": "call", "legs": [{"name": name, "endpoint": "meet"} for name in ("x", "y")]}
    bench.take({"rooms": [room("a", 5000), call], "endpoints": ENDPOINTS}, {"a": "pod-1"})
    assert bench.rooms == ["a"]
    problems = bench.duty.problems()
    assert problems["JitsiUnavailable"].startswith("room call, leg x: this version does not bridge rooms of endpoints")


def test_missing_secrets_are_named_and_of_many_the_rest_counted(bench: Bench) -> None:
    def ref(name: str) -> dict[str, str]:
        return {"name": name, "key": "k"}

    services = {
        "api": {"tokenRef": ref("api")},
        "redis": {"addresses": ["r:1"], "passwordRef": ref("redis"), "caRef": ref("ca")},
        "dashboard": {"url": "http://d", "apiKeyRef": ref("dash")},
        "postgres": {"address": "p:1", "passwordRef": ref("pg")},
    }
    bench.take(services)
    assert bench.duty.problems() == {
        "CredentialsMissing": "missing or empty Secrets: api/k (api.tokenRef), dash/k (dashboard.apiKeyRef), "
        "pg/k (postgres.passwordRef) and 2 more; create them, what needs them stays off"
    }
    bench.secrets = {(name, "k"): b"x" for name in ("redis", "ca", "dash", "pg")} | {("api", "k"): b" \n"}
    bench.duty.look_for_secrets()
    assert "Secrets: api/k (api.tokenRef); create" in bench.duty.problems()["CredentialsMissing"]
    bench.secrets["api", "k"] = b"x"
    bench.duty.look_for_secrets()
    assert not bench.duty.problems()


@pytest.mark.parametrize(("held", "token"), [(b" t\n", b"t"), (b"\n", None), (b"", None), (None, None)])
def test_a_blank_token_is_none(held: bytes | None, token: bytes | None, bench: Bench) -> None:
    """None switches the protected API off; an empty one would let everybody in."""
    if held is not None:
        bench.secrets["api", "k"] = held
    assert bench.duty.api_token() is None, "not before its configuration"
    bench.take({"api": {"tokenRef": {"name": "api", "key": "k"}}})
    assert bench.duty.api_token() == token
