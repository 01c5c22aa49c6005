"""A room is served by somebody at every instant of its way from one pod to another."""

from collections.abc import Mapping

from auralink_dataplane.rooms.ownership import QUIET_S, Custody, follow, look
from hypothesis import given
from hypothesis import strategies as st

PROPAGATION_S = 5.0
ROOMS = ("a", "b", "c")


class Pod:
    """One pod's custody in virtual time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.custody = Custody()
        self.packets: dict[str, int] = {}

    def named(self, *rooms: str, exist: tuple[str, ...] = ROOMS) -> frozenset[str]:
        self.custody = follow(self.custody, rooms, exist, self.now)
        return self.custody.rooms

    def after(self, seconds: float, **packets: int) -> frozenset[str]:
        """The rooms it serves then; `packets` have come from each room meanwhile."""
        self.now += seconds
        for room, count in packets.items():
            self.packets[room] = self.packets.get(room, 0) + count
        self.custody = look(self.custody, self.packets, self.now, propagation_s=PROPAGATION_S)
        return self.custody.rooms


def test_a_room_that_is_named_elsewhere_goes_on_while_packets_come() -> None:
    pod = Pod()
    pod.named("a", "b")
    pod.after(1, a=50, b=50)
    assert pod.named("b") == {"a", "b"}
    for _ in range(60):
        assert pod.after(1, a=50, b=50) == {"a", "b"}
    assert pod.after(QUIET_S - 1, b=50) == {"a", "b"}
    assert pod.after(1, b=50) == {"b"}


def test_a_silent_room_is_kept_for_as_long_as_the_news_take() -> None:
    pod = Pod()
    pod.named("a")
    pod.named()
    assert pod.after(PROPAGATION_S - 0.1) == {"a"}
    assert pod.after(0.1) == frozenset()


def test_packets_from_before_the_move_are_no_sign_of_life() -> None:
    pod = Pod()
    pod.named("a")
    pod.after(1, a=5000)
    pod.named()
    pod.after(0.1)
    assert pod.after(PROPAGATION_S) == frozenset()


def test_a_room_that_comes_back_was_never_away() -> None:
    pod = Pod()
    pod.named("a")
    pod.named()
    pod.after(1, a=50)
    assert pod.named("a") == {"a"}
    assert not pod.custody.leaving
    assert pod.after(3600) == {"a"}


def test_a_second_document_does_not_start_the_leaving_anew() -> None:
    pod = Pod()
    pod.named("a")
    for _ in range(10):
        pod.named("b")
        pod.after(1)
    assert pod.custody.rooms == {"b"}


def test_a_room_that_is_gone_from_the_configuration_ends_at_once() -> None:
    pod = Pod()
    pod.named("a", "b")
    pod.named("b")
    assert pod.named("b", exist=("b",)) == {"b"}


def test_a_room_that_nobody_has_is_kept_by_who_had_it() -> None:
    pod = Pod()
    pod.named("a")
    pod.named()
    for _ in range(30):
        assert pod.after(1, a=1) == {"a"}


@given(st.lists(st.tuples(st.sampled_from("xy"), st.sampled_from("xy"), st.floats(0.1, 9)), max_size=30))
def test_somebody_serves_the_room_wherever_its_packets_go(moves: list[tuple[str, str, float]]) -> None:
    """The operator names a pod, packets follow some time later or stay: who gets them serves them."""
    pods = {"x": Pod(), "y": Pod()}
    for owner, flow, seconds in [("x", "x", 1.0), *moves]:
        for name, pod in pods.items():
            pod.named(*(["a"] if name == owner else []))
        if "a" not in pods[flow].custody.rooms:
            flow = owner  # nobody sends to a closed socket for long: kube-proxy knows one way only
        steps: Mapping[str, int] = {"a": 10}
        for _ in range(int(seconds / 0.5) + 1):
            for name, pod in pods.items():
                pod.after(0.5, **(steps if name == flow else {}))
            assert "a" in pods[flow].custody.rooms
            assert "a" in pods[owner].custody.rooms
