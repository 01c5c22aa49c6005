from hack.lab.rooms import Rooms
from tests.e2e.crowd import everybody_goes_on


def test_every_pod_is_evicted_within_the_disruption_budget(rooms: Rooms) -> None:
    """What `kubectl drain` does to each pod, one after the other: there is one node, and cordoning it would leave the
    new pods no place."""
    with rooms.watching() as told:
        rooms.evict_all()
    assert everybody_goes_on(told).moved == rooms.count
