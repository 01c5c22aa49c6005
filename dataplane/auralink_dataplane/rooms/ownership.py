"""Which rtp rooms this pod serves while the operator moves them between pods.

`owners.json` names the pod of each room. A room that it gives to another pod is not let go at once: packets go on
coming here until every node has learned the new way, and until then nobody else can serve them. So the room is
*leaving*: it goes on as before until nothing has come for `QUIET_S`, and at least for as long as such news take
(`propagation_s`). The pod that takes over opens its sockets when it reads the same document; since packets reach one
pod only, a receiver never gets the room twice.

    not here --named--> owned --named elsewhere--> leaving --quiet--> not here
                          ^----------named again-----'
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

QUIET_S: Final = 3.0
"""Longer than two pictures of the slowest sender, or than a speaker's pause under DTX (400 ms), are apart."""


@dataclass(frozen=True, slots=True)
class Leaving:
    since: float  # it was named elsewhere
    heard: float  # the last packet came
    packets: int  # had come by then


@dataclass(frozen=True, slots=True)
class Custody:
    """The rooms that this pod serves."""

    owned: frozenset[str] = frozenset()
    leaving: Mapping[str, Leaving] = field(default_factory=dict)

    @property
    def rooms(self) -> frozenset[str]:
        return self.owned | frozenset(self.leaving)


def follow(custody: Custody, named: Collection[str], exist: Collection[str], now: float) -> Custody:
    """After a new document. `named`: rooms that it gives to this pod; `exist`: rooms of the configuration. One that is
    gone from the configuration ends here and now."""
    owned = frozenset(named) & frozenset(exist)
    leaving = {
        room: custody.leaving.get(room) or Leaving(since=now, heard=now, packets=-1)
        for room in sorted(custody.rooms - owned)
        if room in exist
    }
    return Custody(owned, leaving)


def look(custody: Custody, packets: Mapping[str, int], now: float, *, propagation_s: float) -> Custody:
    """Once in a while. `packets`: how many each room's sources have sent us so far."""
    leaving = {}
    for room, one in custody.leaving.items():
        count = packets.get(room, 0)
        if count > one.packets and one.packets >= 0:
            one = replace(one, heard=now)
        one = replace(one, packets=count)
        if now < one.since + propagation_s or now < one.heard + QUIET_S:
            leaving[room] = one
    return Custody(custody.owned, leaving)
