from hack.lab.rooms import Rooms
from tests.e2e.crowd import everybody_goes_on

UNDISTURBED_MS = 1000


def test_nobody_notices_that_the_operator_is_gone(rooms: Rooms) -> None:
    lives, owners = rooms.bridge.lives(), rooms.owners()

    with rooms.watching() as told:
        rooms.kill_operator()

    found = everybody_goes_on(told)
    assert found.moved == 0
    assert found.gap_ms_max - found.stalled_ms < UNDISTURBED_MS, found
    assert rooms.bridge.lives() == lives
    assert rooms.owners() == owners
