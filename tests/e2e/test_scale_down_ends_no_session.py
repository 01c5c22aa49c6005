from hack.lab.rooms import Rooms
from tests.e2e.crowd import everybody_goes_on


def test_fewer_pods_carry_all_rooms_and_more_again(rooms: Rooms) -> None:
    with rooms.watching() as told:
        rooms.scale(1)
    assert everybody_goes_on(told).moved > 0
    assert list(rooms.rooms_of_pods().values()) == [rooms.count]

    with rooms.watching() as told:
        rooms.scale(rooms.replicas)
    everybody_goes_on(told)
