"""Requests as they go out, errors as they come back, and politeness; the wire itself is the library's."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from auralink_operator.cluster import ApiError, Bucket, Cluster, Connection, NotLeaderError, Waited, waited
from auralink_operator.index import BRIDGE, Key
from auralink_operator.metrics import Metrics

from tests.unit.operator import samples


class Wire:
    """Stands for the library's client: keeps what was asked and plays back what a server would say."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self.answers = list(answers)
        self.retry_after = "0"
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []

    async def param_serialize(self, verb: str, path: str, *, header_params: Any, body: Any, auth_settings: Any) -> Any:
        assert auth_settings == ["BearerToken"]
        self.asked.append((verb, path, header_params, body))
        return (verb, path, header_params, body, None)

    async def call_api(self, *_: Any, **__: Any) -> Any:
        status, answer = self.answers.pop(0)
        if status == 0:
            raise TimeoutError("no answer")
        text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()

        async def read() -> bytes:
            return text

        return SimpleNamespace(status=status, headers={"Retry-After": self.retry_after}, read=read)


def over(wire: Wire, monkeypatch: pytest.MonkeyPatch, held: bool = True) -> Cluster:
    monkeypatch.setattr("auralink_operator.cluster._RETRIES_S", (0.0, 0.0))
    bucket = Bucket(1000, 1000, 0.0)
    return Cluster(Connection(wire), Metrics(), bucket, lambda: 0.0, lambda: 0.5, lambda: held)


async def test_an_apply_goes_to_the_object_s_path_in_our_name(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire((200, {"metadata": {}}))
    await over(wire, monkeypatch).apply(samples.bridge(), manager="us", subresource="status")
    ((verb, path, headers, body),) = wire.asked
    assert verb == "PATCH"
    assert path == "/apis/auralink.io/v1alpha1/namespaces/ns/auralinkbridges/b/status?fieldManager=us&force=true"
    assert headers["Content-Type"] == "application/apply-patch+yaml"
    assert body == samples.bridge()


async def test_what_is_not_there_is_none_and_a_deletion_of_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = over(Wire((404, {}), (404, {})), monkeypatch)
    assert await cluster.get(Key("Pod", "ns", "p")) is None
    await cluster.delete(Key("Pod", "ns", "p"), uid="u", resource_version="1")


async def test_a_deletion_names_the_object_and_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire((200, {}))
    await over(wire, monkeypatch).delete(Key("Service", "ns", "s"), uid="u", resource_version="7")
    assert wire.asked[0][3]["preconditions"] == {"uid": "u", "resourceVersion": "7"}


async def test_a_list_follows_its_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire((200, {"items": [{"n": 1}], "metadata": {"continue": "next"}}), (200, {"items": [{"n": 2}]}))
    found = [item async for item in over(wire, monkeypatch).list_metadata(BRIDGE, "ns", "a=b")]
    assert found == [{"n": 1}, {"n": 2}]
    assert "labelSelector=a%3Db" in wire.asked[0][1]
    assert "continue=next" in wire.asked[1][1]
    assert "PartialObjectMetadataList" in wire.asked[0][2]["Accept"]


@pytest.mark.parametrize("status", [0, 429, 500, 503])
async def test_what_passes_by_itself_is_tried_again(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    wire = Wire((status, b"busy"), (200, {"metadata": {"name": "p"}}))
    assert await over(wire, monkeypatch).get(Key("Pod", "ns", "p")) == {"metadata": {"name": "p"}}
    assert len(wire.asked) == 2


async def test_in_the_end_the_error_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(*[(500, {"reason": "InternalError", "message": "etcd"})] * 3)
    with pytest.raises(ApiError, match="500 InternalError: etcd"):
        await over(wire, monkeypatch).get(Key("Pod", "ns", "p"))
    assert len(wire.asked) == 3


async def test_an_event_is_posted_once_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire((500, {}))
    with pytest.raises(ApiError):
        await over(wire, monkeypatch).create({"kind": "Event", "metadata": {"namespace": "ns"}})
    assert wire.asked[0][1] == "/apis/events.k8s.io/v1/namespaces/ns/events"
    assert len(wire.asked) == 1


async def test_a_refusal_carries_the_server_s_causes(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"reason": "Forbidden", "message": "no", "details": {"causes": [{"reason": "NamespaceTerminating"}]}}
    with pytest.raises(ApiError) as error:
        await over(Wire((403, answer)), monkeypatch).get(Key("Pod", "ns", "p"))
    assert error.value.causes == ("NamespaceTerminating",)
    assert not error.value.transient


async def test_an_answer_that_is_no_json_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ApiError, match="<html>"):
        await over(Wire((400, b"<html>")), monkeypatch).get(Key("Pod", "ns", "p"))
    with pytest.raises(ApiError, match="400"):
        await over(Wire((400, b"[]")), monkeypatch).get(Key("Pod", "ns", "p"))


async def test_without_the_lease_nothing_is_written_and_all_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire((200, {}))
    cluster = over(wire, monkeypatch, held=False)
    pod = Key("Pod", "ns", "p")
    writes = (
        cluster.apply(samples.bridge(), manager="us"),
        cluster.delete(pod, uid="u", resource_version="1"),
        cluster.merge(pod, {}, manager="us"),
        cluster.create({"kind": "Event", "metadata": {"namespace": "ns"}}),
    )
    for write in writes:
        with pytest.raises(NotLeaderError):
            await write
    assert wire.asked == []
    await cluster.get(pod)
    assert len(wire.asked) == 1


async def test_a_merge_says_who_merges_and_a_pod_that_has_gone_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire((200, {"metadata": {"name": "p"}}), (404, {}))
    cluster, pod = over(wire, monkeypatch), Key("Pod", "ns", "p")
    cost = {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "5"}}}
    assert await cluster.merge(pod, cost, manager="us") == {"metadata": {"name": "p"}}
    assert await cluster.merge(pod, cost, manager="us") is None
    verb, path, headers, body = wire.asked[0]
    assert (verb, path) == ("PATCH", "/api/v1/namespaces/ns/pods/p?fieldManager=us")
    assert headers["Content-Type"] == "application/merge-patch+json"
    assert body == cost


async def test_what_the_server_has_is_asked_of_discovery(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = {"resources": [{"name": "servicemonitors"}]}
    cluster = over(wire := Wire((200, listed), (200, listed), (404, {}), (200, {})), monkeypatch)
    assert await cluster.serves("monitoring.coreos.com/v1", "servicemonitors")
    assert not await cluster.serves("monitoring.coreos.com/v1", "podmonitors")
    assert not await cluster.serves("custom.metrics.k8s.io/v1beta1")
    assert await cluster.serves("v1")
    assert [path for _, path, _, _ in wire.asked][-2:] == ["/apis/custom.metrics.k8s.io/v1beta1", "/api/v1"]


async def test_a_creation_that_was_refused_unread_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire((429, {}), (201, {}))
    await over(wire, monkeypatch).create({"kind": "Event", "metadata": {"namespace": "ns"}})
    assert len(wire.asked) == 2


async def test_retry_after_is_obeyed_and_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that stands for the pauses: 30 s are waited once, and a second time would be too long."""
    now = 0.0

    async def pause(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("asyncio.sleep", pause)
    wire = Wire(*[(503, {"reason": "Busy"})] * 5)
    wire.retry_after = "3600"
    cluster = Cluster(Connection(wire), Metrics(), Bucket(1000, 1000, 0.0), lambda: now, lambda: 0.5)
    waited.set(spent := Waited())
    with pytest.raises(ApiError, match="503"):
        await cluster.get(Key("Pod", "ns", "p"))
    assert len(wire.asked) == 2
    assert now == spent.seconds == 30.0


async def test_that_the_server_is_away_is_said_once_and_so_is_its_return(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "auralink_operator.cluster")
    cluster = over(Wire((0, ""), (0, ""), (200, {}), (200, {})), monkeypatch)
    await cluster.get(Key("Pod", "ns", "p"))
    await cluster.get(Key("Pod", "ns", "p"))
    assert [record.getMessage() for record in caplog.records] == [
        "the API server does not answer",
        "the API server answers again",
    ]


@pytest.mark.parametrize(
    ("status", "fault"), [(0, "NoAnswer"), (409, "Conflict"), (429, "Throttled"), (503, "Server"), (400, "Refused")]
)
def test_an_error_names_its_class(status: int, fault: str) -> None:
    assert ApiError(status, "", "").fault == fault


def test_a_burst_goes_through_and_then_the_rate_holds() -> None:
    bucket = Bucket(10, 3, 0.0)
    assert [bucket.take(0.0) for _ in range(5)] == [0, 0, 0, pytest.approx(0.1), pytest.approx(0.2)]
    assert bucket.take(10.0) == 0


def test_the_rate_halves_when_told_to_and_recovers_in_a_minute() -> None:
    bucket = Bucket(100, 1, 0.0)
    bucket.take(0.0)
    bucket.slow_down()
    assert bucket.take(0.0) == pytest.approx(1 / 50)
    bucket.take(60.0)
    bucket.take(60.0)
    assert bucket.take(60.0) == pytest.approx(2 / 100)
