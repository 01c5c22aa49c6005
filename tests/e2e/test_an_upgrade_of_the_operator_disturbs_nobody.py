"""`helm upgrade` under live rooms: other operators lead, pods and rooms stay as they are."""

from hack.lab.bridge import AICore, install
from hack.lab.kube import images
from hack.lab.rooms import Rooms
from tests.e2e.crowd import everybody_goes_on

_UNDISTURBED_MS = 1000


def test_new_operators_take_over_while_rooms_are_live(rooms: Rooms, release: AICore) -> None:
    lives, owners = rooms.bridge.lives(), rooms.owners()
    built = images()
    try:
        with rooms.watching() as told:
            install(rooms.kube, built, {"operator.podAnnotations.example\\.test/upgraded": "yes"})
            rooms.bridge.wait_ready()
    finally:
        install(rooms.kube, built)

    found = everybody_goes_on(told)
    assert found.moved == 0
    assert found.gap_ms_max - found.stalled_ms < _UNDISTURBED_MS, found
    assert rooms.bridge.lives() == lives
    assert rooms.owners() == owners
