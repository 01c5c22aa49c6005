"""Requests as they go out, errors as they come back, and politeness; the wire itself is the library's."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from auralink_operator.__main__ import RECONCILE_LIMIT_S
from auralink_operator.cluster import (
    _AT_ONCE,
    ApiError,
    Bucket,
    CallBudget,
    Cluster,
    Connection,
    NotLeaderError,
    call_budget,
    tell,
)
from auralink_operator.health import STUCK_S
from auralink_operator.index import BRIDGE, Key
from auralink_operator.metrics import Metrics

from tests.unit.operator import samples


class Wire:
    """Stands for the library's client: keeps what was asked and plays back what a server would say."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self.answers = list(answers)
        self.retry_after = "0"
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.timeouts_s: list[float] = []

    async def param_serialize(self, verb: str, path: str, *, header_params: Any, body: Any, auth_settings: Any) -> Any:
        assert auth_settings == ["BearerToken"]
        self.asked.append((verb, path, header_params, body))
        return (verb, path, header_params, body, None)

    async def call_api(self, *_: Any, _request_timeout: Any) -> Any:
        self.timeouts_s.append(_request_timeout.total)
        status, answer = self.answers.pop(0)
        if status == 0:
            raise TimeoutError("no answer")
        text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()

        async def read() -> bytes:
            return text

        return SimpleNamespace(status=status, headers={"Retry-After": self.retry_after}, read=read)


def over(wire: Wire, monkeypatch: pytest.MonkeyPatch, writing_s: float = 20.0) -> Cluster:
    monkeypatch.setattr("auralink_operator.cluster._RETRIES_S", (0.0, 0.0))
    bucket = Bucket(1000, 1000, 0.0)
    return Cluster(Connection(wire), Metrics(), bucket, lambda: 0.0, lambda: 0.5, lambda: writing_s)


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
    cluster = over(wire, monkeypatch, writing_s=0.0)
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


async def test_a_write_is_given_up_before_another_can_lead_and_a_read_need_not_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wire = Wire((200, {}), (200, {}))
    cluster = over(wire, monkeypatch, writing_s=4.5)
    await cluster.apply(samples.bridge(), manager="us")
    await cluster.get(Key("Pod", "ns", "p"))
    assert wire.timeouts_s == [4.5, 20.0]


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
    assert not await cluster.serves("monitoring.coreos.com/v2", "servicemonitors")
    assert not await cluster.serves("v1", "servicemonitors")
    assert [path for _, path, _, _ in wire.asked][-2:] == ["/apis/monitoring.coreos.com/v2", "/api/v1"]


async def test_a_creation_that_was_refused_unread_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire((429, {}), (201, {}))
    await over(wire, monkeypatch).create({"kind": "Event", "metadata": {"namespace": "ns"}})
    assert len(wire.asked) == 2


class Patience:
    """A cluster by a clock that stands for its pauses, and when each request went out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: int, retry_after: str) -> None:
        self.now = 0.0
        self.sent: list[float] = []
        self.wire = Wire(*((status, {}) for status in answers))
        self.wire.retry_after = retry_after
        bucket = Bucket(400, 800, 0.0)
        self.cluster = Cluster(Connection(self), Metrics(), bucket, lambda: self.now, lambda: 0.5)
        monkeypatch.setattr("asyncio.sleep", self._pause)
        self.param_serialize = self.wire.param_serialize

    async def _pause(self, seconds: float) -> None:
        self.now += seconds

    async def call_api(self, *arguments: Any, **more: Any) -> Any:
        self.sent.append(self.now)
        return await self.wire.call_api(*arguments, **more)

    async def ask(self) -> float:
        """How long whoever asks has to leave it alone; 0 after a good answer."""
        try:
            await self.cluster.get(Key("Pod", "ns", "p"))
        except ApiError as error:
            return error.retry_after_s
        return 0.0


async def test_what_the_server_asks_for_is_waited_for_and_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    at = Patience(monkeypatch, 503, 503, retry_after="30")
    call_budget.set(spent := CallBudget())
    assert await at.ask() == 30.0
    assert at.sent == [0.0, 30.0]
    assert at.now == spent.waited_s == 30.0


@pytest.mark.parametrize(("asked", "obeyed"), [("3600", 300.0), ("60", 60.0), ("soon", 0.0), ("-5", 0.0), ("nan", 0.0)])
async def test_the_error_says_for_how_long_the_server_wants_peace(
    monkeypatch: pytest.MonkeyPatch, asked: str, obeyed: float
) -> None:
    assert await Patience(monkeypatch, *[503] * 5, retry_after=asked).ask() == obeyed


async def test_a_server_that_is_asked_too_much_is_left_alone_by_all_for_as_long_as_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = Patience(monkeypatch, 429, 429, 200, retry_after="40")
    assert await at.ask() == 40.0
    assert [round(second, 1) for second in at.sent] == [0.0, 40.0]
    at.now += 0.005
    assert await at.ask() == 0.0
    assert [round(second, 1) for second in at.sent] == [0.0, 40.0, 80.0]

    at = Patience(monkeypatch, 429, 200, retry_after="100")
    assert await at.ask() == 100.0
    at.now += 20
    assert await at.ask() == 80.0
    assert at.sent == [0.0]
    at.now += 80
    assert await at.ask() == 0.0


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
    bucket.slow_down(0.0)
    assert bucket.take(0.0) == pytest.approx(1 / 50)
    bucket.take(60.0)
    bucket.take(60.0)
    assert bucket.take(60.0) == pytest.approx(2 / 100)


def test_requests_that_are_refused_together_halve_the_rate_once() -> None:
    bucket = Bucket(400, 1, 0.0)
    bucket.take(0.0)
    for number in range(16):
        bucket.slow_down(number * 0.01)
    assert bucket.take(0.15) == pytest.approx(1 / 200, rel=0.05)
    bucket.slow_down(1.0)
    first = bucket.take(1.0)
    assert bucket.take(1.0) - first == pytest.approx(1 / 100, rel=0.1)


def test_while_the_server_wants_peace_nothing_runs_in_and_then_the_rate_holds() -> None:
    bucket = Bucket(100, 10, 0.0)
    bucket.slow_down(0.0, 30.0)
    assert bucket.closed_s(10.0) == 20.0
    assert [bucket.take(10.0) for _ in range(3)] == pytest.approx([20.02, 20.04, 20.06])
    assert bucket.closed_s(30.0) == 0.0


class Hanging(Patience):
    """Answers nothing for as long as a request may take."""

    async def call_api(self, *arguments: Any, _request_timeout: Any) -> Any:
        self.sent.append(self.now)
        self.now += _request_timeout.total
        raise TimeoutError


async def test_a_server_that_hangs_leaves_a_look_time_to_tell_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each request after the first failure one attempt, of those that would begin late none; and then the status."""
    at = Hanging(monkeypatch, retry_after="0")
    call_budget.set(own := CallBudget())
    own.begin(at.now, hasty=False)
    for _ in range(50):
        await at.ask()
    assert len(at.sent) == 3
    assert at.now < 70.0
    with pytest.raises(ApiError, match="not tried yet"):
        await at.cluster.get(Key("Pod", "ns", "p"))
    tell()
    await at.ask()
    assert len(at.sent) == 4
    assert at.now < RECONCILE_LIMIT_S
    assert RECONCILE_LIMIT_S < STUCK_S


async def test_a_look_after_one_that_failed_tries_each_request_once(monkeypatch: pytest.MonkeyPatch) -> None:
    at = Hanging(monkeypatch, retry_after="0")
    call_budget.set(own := CallBudget())
    own.begin(at.now, hasty=True)
    await at.ask()
    assert at.sent == [0.0]


async def test_a_server_that_fails_many_requests_fast_is_asked_again_once_not_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = Patience(monkeypatch, *[500] * 60, retry_after="0")
    call_budget.set(own := CallBudget())
    own.begin(at.now, hasty=False)
    for _ in range(40):
        await at.ask()
    assert len(at.sent) == 5 + 39
    assert at.now < 10.0


class Held(Wire):
    """A wire on which requests stay until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.under_way, self.let_go = 0.0, 0, asyncio.Event()

    async def call_api(self, *_: Any, _request_timeout: Any) -> Any:
        self.under_way += 1
        self.answers.append((200, {}))
        await self.let_go.wait()
        return await super().call_api(_request_timeout=_request_timeout)


@pytest.mark.parametrize(("passed_s", "fails"), [(44.0, 0), (46.0, 40 - _AT_ONCE)])
async def test_so_many_are_under_way_at_once_and_what_waited_too_long_is_not_begun(passed_s: float, fails: int) -> None:
    wire = Held()
    cluster = Cluster(Connection(wire), Metrics(), Bucket(1000, 1000, 0.0), lambda: wire.now, lambda: 0.5)
    asking = [asyncio.create_task(cluster.get(Key("Pod", "ns", f"p{n}"))) for n in range(40)]
    await asyncio.sleep(0.01)
    assert wire.under_way == _AT_ONCE
    wire.now = passed_s
    wire.let_go.set()
    ends = await asyncio.gather(*asking, return_exceptions=True)
    assert [end.reason for end in ends if isinstance(end, ApiError)] == ["NotTried"] * fails
    assert wire.under_way == 40 - fails
