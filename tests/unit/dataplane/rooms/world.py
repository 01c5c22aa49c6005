"""A conference and a room as they truly are, the lossy way their news take to us, and a worker that carries out plans.

The world is told what happens and says it as facts; the channel loses 30 % of them, doubles 30 %, and delays each by
its own time. Commands take time, fail, or work without anybody hearing of it. All by one seeded generator.
"""

import heapq
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random

from auralink_dataplane.policy import Rules
from auralink_dataplane.rooms.attributes import parse_origin
from auralink_dataplane.rooms.commands import (
    Answer,
    Asked,
    CloseRoom,
    Command,
    Done,
    Failed,
    ListRoom,
    Mirror,
    Refuse,
    Registered,
    RemoveMirror,
    Tell,
    UpdateMirror,
)
from auralink_dataplane.rooms.events import (
    Event,
    Left,
    Listed,
    Participant,
    RoomEnded,
    RoomOpened,
    Seen,
    Side,
    Source,
    Track,
    TrackSource,
    Version,
)
from auralink_dataplane.rooms.plan import plan
from auralink_dataplane.rooms.state import Change, RoomState, apply, opened

from tests.unit.dataplane.rooms.facts import JID

LOST, DOUBLED = 0.3, 0.3
LONGEST_DELAY_S = 60.0  # shorter than a tombstone's 120 s, as the real ones are
NAMES = ("ann", "bob", "cas", "dee", "eve")
SKEW_MS = 1500  # event_sync's clock against ours, and its seconds


@dataclass
class World:
    seed: int
    rng: Random = field(init=False)
    now: float = 1000.0
    people: dict[Side, dict[str, Participant]] = field(default_factory=lambda: {side: {} for side in Side})
    sids: dict[Side, str] = field(default_factory=lambda: dict.fromkeys(Side, ""))
    told: list[Event] = field(default_factory=list)  # and not yet on its way
    numbers: "count[int]" = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)  # noqa: S311 - it makes tests repeatable

    def open(self, side: Side) -> None:
        if not self.sids[side]:
            self.sids[side] = f"{side.value}-{next(self.numbers)}"
            self.told.append(RoomOpened(side, self.sids[side], Source.WEBHOOK))

    def join(self, side: Side, name: str, /, **more: object) -> Participant:
        """Whoever has the name already is thrown out, as LiveKit does."""
        self.leave(side, name)
        self.open(side)
        incarnation = round(self.now * 1000) + next(self.numbers)
        one = Participant(side, name, Version(incarnation))
        self.people[side][name] = one = replace(one, **{"name": name.title(), **more})  # type: ignore[arg-type]
        self._say(one)
        return one

    def change(self, side: Side, name: str, /, **more: object) -> None:
        if (one := self.people[side].get(name)) is not None:
            version = Version(one.version.incarnation, one.version.number + 1)
            self.people[side][name] = one = replace(one, version=version, **more)  # type: ignore[arg-type]
            self._say(one)

    def leave(self, side: Side, name: str) -> None:
        one = self.people[side].pop(name, None)
        if one is None:
            return
        sid = self.sids[side]
        vague = self.rng.random() < 0.2
        source = Source.WEBHOOK if side is Side.LIVEKIT else Source.PRESENCE
        self.told.append(Left(side, name, Version(0) if vague else one.version, source, "" if vague else sid))
        if side is Side.JITSI:
            self.told.append(Left(side, name, self._by_event_sync(one.version), Source.WEBHOOK))

    def end(self, side: Side) -> None:
        for name in list(self.people[side]):
            self.leave(side, name)
        if self.sids[side]:
            self.told.append(RoomEnded(side, self.sids[side], Source.WEBHOOK))
            self.sids[side] = ""

    def listing(self, side: Side, asked_at: float) -> Listed:
        return Listed(side, self.sids[side], tuple(self.people[side].values()), asked_at)

    def real(self, side: Side) -> dict[str, Participant]:
        return {name: one for name, one in self.people[side].items() if not one.origin}

    def mirrors(self, side: Side) -> list[Participant]:
        return [one for one in self.people[side].values() if one.origin]

    def _say(self, one: Participant) -> None:
        sid = self.sids[one.side]
        if one.side is Side.LIVEKIT:
            self.told.append(Seen(one, Source.WEBHOOK, sid))
            self.told.append(Seen(one, Source.SIGNALLING, sid))
        else:
            self.told.append(Seen(one, Source.PRESENCE, ""))
            plain = replace(one, version=self._by_event_sync(one.version), origin="", is_bridge=False)
            self.told.append(Seen(plain, Source.WEBHOOK, sid))

    def _by_event_sync(self, version: Version) -> Version:
        return Version((version.incarnation + SKEW_MS) // 1000 * 1000)


def act(world: World) -> None:
    """Something happens."""
    rng, side, name = world.rng, world.rng.choice(list(Side)), world.rng.choice(NAMES)
    kind = rng.random()
    if kind < 0.45:
        if name in world.real(side):
            world.leave(side, name)
        world.join(side, name)
    elif kind < 0.65:
        world.leave(side, name)
    elif kind < 0.93:
        track = Track(f"{name}-v0", TrackSource.CAMERA, muted=rng.random() < 0.5)
        world.change(side, name, name=f"{name} {rng.randrange(9)}", hand_raised=rng.random() < 0.5, tracks=(track,))
    elif kind < 0.97:
        world.end(side)
    elif mirrors := world.mirrors(side):
        world.leave(side, rng.choice(mirrors).id)  # thrown out, or its leg died


class Bridge:
    """A worker: the room's state, the channel that feeds it, and the commands it carries out if it may act."""

    def __init__(self, world: World, rules: Rules | None = None, *, trouble: bool = True, acts: bool = True) -> None:
        self.world = world
        self.rules = rules or Rules()
        self.plans = acts
        self.trouble = trouble
        self.state: RoomState = opened(JID, world.now)
        self.changes: list[Change] = []
        self.begun: list[Command] = []
        self._to_come: list[tuple[float, int, Event | Answer]] = []
        self._to_do: list[tuple[float, int, Command]] = []
        self._order = count()
        self._ours: dict[str, str] = {}  # Jitsi endpoint -> origin, as Redis keeps it

    def take(self, event: Event | Answer) -> None:
        self.state, changes = apply(self.state, event, self.world.now)
        self.changes += changes

    def send(self, event: Event | Answer, delay_s: float = 0.0) -> None:
        heapq.heappush(self._to_come, (self.world.now + delay_s, next(self._order), event))

    def hear(self) -> None:
        """What the world said goes on its way."""
        rng = self.world.rng
        for event in self.world.told:
            if self.trouble and rng.random() < LOST:
                continue
            for _ in range(2 if self.trouble and rng.random() < DOUBLED else 1):
                self.send(event, self._delay_s())
        self.world.told.clear()

    def ask_both(self) -> None:
        for side in Side:
            self._list(side)

    def second(self, *, acts: bool = False) -> None:
        """Its parts: the world moves, news and effects arrive, the plan is begun."""
        self.world.now += 1.0
        if acts:
            act(self.world)
        while self._to_do and self._to_do[0][0] <= self.world.now:
            self._carry_out(heapq.heappop(self._to_do)[2])
        self.hear()
        while self._to_come and self._to_come[0][0] <= self.world.now:
            self.take(heapq.heappop(self._to_come)[2])
        for command in plan(self.state, self.rules, self.world.now) if self.plans else ():
            self.begun.append(command)
            self.take(Asked(command))
            delay = self.world.rng.random() * (3.0 if self.trouble else 0.5)
            heapq.heappush(self._to_do, (self.world.now + delay, next(self._order), command))

    def move_to_another_pod(self) -> None:
        """Of the former one only what Redis keeps is left; its legs die."""
        self._to_come.clear()
        self._to_do.clear()
        self.state = opened(JID, self.world.now)
        for endpoint, origin in self._ours.items():
            self.take(Registered(Side.JITSI, endpoint, origin))

    def _delay_s(self) -> float:
        if not self.trouble:
            return 0.1
        return self.world.rng.choice((0.1, self.world.rng.uniform(0, 5), self.world.rng.uniform(0, LONGEST_DELAY_S)))

    def _list(self, side: Side) -> None:
        """Asked for now, read now, and answered later."""
        if not (self.trouble and self.world.rng.random() < LOST):
            self.send(self.world.listing(side, self.world.now), self._delay_s() if self.trouble else 0.1)

    def _carry_out(self, command: Command) -> None:
        luck = self.world.rng.random() if self.trouble else 1.0
        if luck < 0.15:
            self.send(Failed(command, "refused"), self._delay_s() / 10)
            return
        answer = self._effect(command)
        if luck < 0.25:
            self.send(Failed(command, "answer lost"), self._delay_s() / 10)
        elif luck >= 0.3:  # between the two nobody hears of it
            self.send(answer, self._delay_s() / 10)

    def _effect(self, command: Command) -> Answer:
        world = self.world
        match command:
            case Mirror(origin, to, name, shown):
                if to is Side.JITSI:
                    name = f"feed{next(world.numbers):04x}"
                    self._ours[name] = origin
                    self.take(Registered(to, name, origin))
                one = world.join(
                    to, name, name=shown.name, hand_raised=shown.hand_raised, tracks=shown.tracks,
                    origin=origin, is_bridge=True,
                )  # fmt: skip
                return Done(command, name, one.version)
            case UpdateMirror(_, to, name, shown):
                world.change(to, name, name=shown.name, hand_raised=shown.hand_raised, tracks=shown.tracks)
            case RemoveMirror(_, to, name):
                world.leave(to, name)
            case ListRoom(side):
                self._list(side)
            case CloseRoom(side, sid):
                if world.sids[side] == sid:
                    world.end(side)
            case Tell() | Refuse():
                pass
        return Done(command)

    # --- what must hold -----------------------------------------------------------------------------------------

    def expected(self, side: Side) -> set[tuple[str, str, bool, tuple[Track, ...]]]:
        """The mirrors that `side` should show."""
        home = side.other
        room = JID if home is Side.JITSI else self.world.sids[home]
        if not self.world.sids[side]:
            return set()
        return {
            (f"{home.value}:{room}/{one.id}", one.name, one.hand_raised, one.tracks)
            for one in self.world.real(home).values()
        }

    def shown(self, side: Side) -> list[tuple[str, str, bool, tuple[Track, ...]]]:
        return [(one.origin, one.name, one.hand_raised, one.tracks) for one in self.world.mirrors(side)]


def is_mirror_of_a_mirror(world: World, one: Participant) -> bool:
    parts = parse_origin(one.origin)
    assert parts is not None
    return parts[2].startswith(("auralink:", "feed"))
