from hack.lab.rooms import Rooms
from tests.e2e.crowd import everybody_goes_on


def test_every_pod_is_replaced_under_live_rooms(rooms: Rooms) -> None:
    with rooms.watching() as told:
        rooms.roll()
    assert everybody_goes_on(told).moved == rooms.count
