from hack.lab.kube import wait_for
from hack.lab.rooms import Rooms, room_name
from tests.e2e.crowd import everybody_goes_on


def test_the_emptiest_pod_goes_and_its_rooms_alone_move(rooms: Rooms) -> None:
    """Every receiver goes on with what its new pod sends, and what it has got decodes from the first picture on."""

    rooms.spread()

    def told_by_all() -> bool:
        return sum(count > 0 for count in rooms.sessions_of_pods().values()) == rooms.replicas

    wait_for("sessions in every pod's status", told_by_all, 60, 1.0, lambda: str(rooms.sessions_of_pods()))
    before, sessions = rooms.owners(), rooms.sessions_of_pods()

    with rooms.watching() as told:
        rooms.scale(rooms.replicas - 1)
    after = rooms.owners()
    [gone] = set(before.values()) - set(rooms.rooms_of_pods())
    everybody_goes_on(told)

    moved = {room for room, pod in before.items() if after[room] != pod}
    assert sessions[gone] == min(sessions.values()), f"{gone} went, of {sessions}"
    assert moved == {room for room, pod in before.items() if pod == gone}
    assert {room_name(story.room) for story in told if story.sources > 1} == moved
    try:
        assert {room: one.errors for room, one in rooms.decode().items() if not one.clean} == {}
    finally:
        rooms.scale(rooms.replicas)
