"""A pipeline with a twin on either side: the packet core's, and a scripted AI Core that keeps its word."""

from collections import Counter, deque
from dataclasses import dataclass, field, replace

from auralink_dataplane.media.frames import (
    Advice,
    Disposition,
    Frame,
    Mode,
    ModeApplied,
    Result,
    StreamFailed,
    SubmitRefused,
)
from auralink_dataplane.media.pipeline import Decision, Failure, Limits, Pipeline, Refusal, State
from auralink_dataplane.media.pipeline import decisions as act
from auralink_dataplane.policy import Compression

from tests.fakes.packets import FakePackets, Source

FRAME_S = 1 / 30


@dataclass
class Core:
    """An AI Core's session that keeps its word: one answer per frame, in order, a key of its own after native frames.
    A Promote is one of those that wait, and asks for the last picture."""

    session: int
    waiting: deque[act.Send | act.Promote] = field(default_factory=deque)
    ours: bool = False
    force_key: bool = False
    picture: int = -1
    made: int = 0

    @property
    def sends(self) -> list[act.Send]:
        """Frames among what waits."""
        return [one for one in self.waiting if isinstance(one, act.Send)]

    def answer(
        self, *, disposition: Disposition | None = None, advice: Advice = Advice.KEEP, key: bool = False
    ) -> Result:
        send = self.waiting.popleft()
        if isinstance(send, act.Promote):
            what = disposition or Disposition.COMPRESSED
            return self._ours(self.picture, what, key=True) if what is Disposition.COMPRESSED else Result(-1, what)
        self.picture = send.frame.frame_id
        if send.mode is Mode.SHADOW:
            self.ours = False
            return Result(send.frame.frame_id, disposition or Disposition.UNCHANGED, advice=advice)
        what = disposition or Disposition.COMPRESSED
        if what is Disposition.COMPRESSED:
            own_key = key or not self.ours or send.frame.key or self.force_key
            return self._ours(send.frame.frame_id, what, key=own_key, advice=advice)
        if what is Disposition.UNCHANGED:
            self.ours = False
        return Result(send.frame.frame_id, what, advice=advice)

    def _ours(self, frame_id: int, what: Disposition, *, key: bool, advice: Advice = Advice.KEEP) -> Result:
        """The payload tells who made it, and the how many-eth it is."""
        self.ours, self.force_key = True, False
        self.made += 1
        payload = f"{self.session} {self.made}".encode()
        return Result(frame_id, what, payload, key, ratio=400, quality=950, advice=advice)


class Rig:
    """A pipeline between the twin of the packet core and scripted AI Cores, in virtual time."""

    def __init__(self, policy: Compression | None = None, limits: Limits | None = None, *, endpoints: int = 1) -> None:
        """With one of the `endpoints` no session finds a place beside another."""
        self.now = 100.0
        self.endpoints = endpoints
        self.owed: set[int] = set()  # frames handed up in COMPRESS that the packet core waits for
        self.answers: Counter[int] = Counter()
        self.payloads: dict[int, bytes] = {}
        self.packets = FakePackets()
        self.stream = self.packets.start_stream(self.packets.open_leg("r", {"direction": "Both", "media": {}}))
        self.packets.events.clear()
        self.policy, self.limits = policy or Compression(), limits or Limits()
        self.pipeline = Pipeline(self.policy, self.limits)
        self.cores: dict[int, Core] = {}
        self.done: list[Decision] = []
        self.run(self.pipeline.start(self.now))

    @property
    def source(self) -> Source:
        return self.packets.sources[self.stream]

    @property
    def core(self) -> Core:
        return self.cores[self.pipeline.session]

    @property
    def second(self) -> Core:
        """The standby's."""
        assert self.pipeline.standby.session is not None
        return self.cores[self.pipeline.standby.session]

    def state(self) -> State:
        return self.pipeline.state

    def run(self, decisions: list[Decision]) -> None:
        todo = deque(decisions)
        while todo:
            one = todo.popleft()
            self.done.append(one)
            match one:
                case act.Send():
                    self.cores[one.session].waiting.append(one)
                case act.Submit():
                    self.answered(one.frame_id)
                    self.payloads[one.frame_id] = one.data
                    self.packets.submit(self.stream, one.frame_id, one.data, one.extension, one.key)
                case act.SubmitNative():
                    self.answered(one.frame_id)
                    self.packets.submit(self.stream, one.frame_id, None, None, one.key)
                case act.Drop():
                    self.answered(one.frame_id)
                    self.packets.drop(self.stream, one.frame_id)
                case act.SetMode():
                    self.packets.set_mode(
                        self.stream,
                        one.mode,
                        extension=one.extension,
                        degraded=one.degraded,
                        at_frame=one.at_frame,
                    )
                case act.Hold():
                    self.owed.clear()
                    self.packets.hold(self.stream)
                case act.RequestKey():
                    self.packets.request_key(self.stream)
                case act.ForceKey():
                    self.cores[one.session].force_key = True
                case act.Promote(picture=True):
                    self.cores[one.session].waiting.append(one)
                case act.OpenSession():
                    self.cores[one.session] = Core(one.session)
                    if one.standby and self.endpoints < 2:
                        todo.extend(self.pipeline.refused(one.session, Refusal.NO_ENDPOINT, self.now))
        self.pump()

    def configure(self, policy: Compression | None = None, limits: Limits | None = None) -> None:
        self.policy, self.limits = policy or self.policy, limits or self.limits
        self.run(self.pipeline.configure(self.policy, self.limits, self.now))

    def answered(self, frame_id: int) -> None:
        self.answers[frame_id] += 1
        self.owed.discard(frame_id)

    def pump(self) -> None:
        for event in self.packets.poll():
            match event:
                case Frame():
                    if event.mode is Mode.COMPRESS:
                        self.owed.add(event.frame_id)
                    self.run(self.pipeline.receive(event, self.now))
                case ModeApplied():
                    self.run(self.pipeline.mode_applied(event.mode, self.now))
                case StreamFailed():
                    self.owed.clear()
                    self.run(self.pipeline.overflowed(self.now))
                case SubmitRefused(native=False):
                    self.run(self.pipeline.submit_refused(event.frame_id, self.now, malformed=False))

    def opened(self, *, probe: bool = False, max_in_flight: int = 16, standby: bool = False) -> None:
        session = self.second.session if standby else self.pipeline.session
        self.run(self.pipeline.opened(session, max_in_flight, self.now, probe=probe))

    def frame(self, *, key: bool = False) -> None:
        payload = b"\x00\x00\x01" + (b"\x65\x88" if key else b"\x41") + bytes(30)
        self.packets.feed(self.stream, key=key, size=len(payload), data=payload, now=self.now)
        self.pump()

    def answer(
        self,
        disposition: Disposition | None = None,
        *,
        advice: Advice = Advice.KEEP,
        key: bool = False,
        need_key: bool = False,
        standby: bool = False,
    ) -> None:
        core = self.second if standby else self.core
        result = core.answer(disposition=disposition, advice=advice, key=key)
        self.run(self.pipeline.result(core.session, replace(result, need_key=need_key), self.now))

    def answer_all(self) -> None:
        while self.core.waiting:
            self.answer()
        while self.pipeline.standby.live and self.second.waiting:
            self.answer(standby=True)

    def fail(self, failure: Failure = Failure.BROKEN, *, standby: bool = False) -> None:
        session = self.second.session if standby else self.pipeline.session
        self.run(self.pipeline.failed(session, failure, self.now))

    def round(self, count: int = 1, *, key_first: bool = False) -> None:
        """Frames that are answered at once, 30 a second."""
        for index in range(count):
            self.frame(key=key_first and index == 0)
            self.answer_all()
            self.wait(FRAME_S)

    def wait(self, seconds: float) -> None:
        """Time passes; the timer rings where the pipeline asked for it."""
        until = self.now + seconds
        while (at := self.pipeline.next_tick()) is not None and at <= until:
            self.now = max(self.now, at)
            self.run(self.pipeline.tick(self.now))
        self.now = until

    def did(self, kind: type[Decision]) -> list[Decision]:
        return [one for one in self.done if isinstance(one, kind)]


def sent(rig: Rig) -> str:
    """What left, in order: n and N native, o and O ours, capitals are keys."""
    return "".join(("o" if one.ours else "n").upper() if one.key else "on"[not one.ours] for one in rig.source.sent)


def broken_chains(rig: Rig) -> list[int]:
    """Frames of ours that went out and that follow, off a key, another frame than the one made before them."""
    before: tuple[int, int] | None = None
    found = []
    for one in rig.source.sent:
        session, _, number = rig.payloads[one.frame_id].partition(b" ") if one.ours else (b"0", b"", b"0")
        if one.ours and not one.key and before != (int(session), int(number) - 1):
            found.append(one.frame_id)
        before = (int(session), int(number)) if one.ours else None
    return found
