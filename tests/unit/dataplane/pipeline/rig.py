"""A pipeline with a twin on either side: the packet core's, and a scripted AI Core that keeps its word."""

from collections import deque
from dataclasses import dataclass, field

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
from auralink_dataplane.media.pipeline import Decision, Limits, Pipeline, State
from auralink_dataplane.media.pipeline import decisions as act
from auralink_dataplane.policy import Compression

from tests.fakes.packets import FakePackets, Source

FRAME_S = 1 / 30


@dataclass
class Core:
    """An AI Core that keeps its word: one answer per frame, in order, a key of its own after native frames."""

    waiting: deque[act.Send] = field(default_factory=deque)
    ours: bool = False
    force_key: bool = False

    def answer(
        self, *, disposition: Disposition | None = None, advice: Advice = Advice.KEEP, key: bool = False
    ) -> Result:
        send = self.waiting.popleft()
        if send.mode is Mode.SHADOW:
            self.ours = False
            return Result(send.frame.frame_id, disposition or Disposition.UNCHANGED, advice=advice)
        what = disposition or Disposition.COMPRESSED
        if what is Disposition.COMPRESSED:
            own_key = key or not self.ours or send.frame.key or self.force_key
            self.ours, self.force_key = True, False
            return Result(send.frame.frame_id, what, b"ours", own_key, ratio=400, quality=950, advice=advice)
        if what is Disposition.UNCHANGED:
            self.ours = False
        return Result(send.frame.frame_id, what, advice=advice)


class Rig:
    """A pipeline between the twin of the packet core and a scripted AI Core, in virtual time."""

    def __init__(self, policy: Compression | None = None, limits: Limits | None = None) -> None:
        self.now = 100.0
        self.packets = FakePackets()
        self.stream = self.packets.start_stream(self.packets.open_leg("r", {"direction": "Both", "media": {}}))
        self.packets.events.clear()
        self.pipeline = Pipeline(policy or Compression(), limits or Limits())
        self.cores: dict[int, Core] = {}
        self.done: list[Decision] = []
        self.run(self.pipeline.start(self.now))

    @property
    def source(self) -> Source:
        return self.packets.sources[self.stream]

    @property
    def core(self) -> Core:
        return self.cores[self.pipeline.session]

    def state(self) -> State:
        return self.pipeline.state

    def run(self, decisions: list[Decision]) -> None:
        for one in decisions:
            self.done.append(one)
            match one:
                case act.Send():
                    self.cores[one.session].waiting.append(one)
                case act.Submit():
                    self.packets.submit(self.stream, one.frame_id, one.data, one.extension, one.key)
                case act.SubmitNative():
                    self.packets.submit(self.stream, one.frame_id, None, None, one.key)
                case act.Drop():
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
                    self.packets.hold(self.stream)
                case act.RequestKey():
                    self.packets.request_key(self.stream)
                case act.ForceKey():
                    self.cores[one.session].force_key = True
                case act.OpenSession():
                    self.cores[one.session] = Core()
        self.pump()

    def pump(self) -> None:
        for event in self.packets.poll():
            match event:
                case Frame():
                    self.run(self.pipeline.receive(event, self.now))
                case ModeApplied():
                    self.run(self.pipeline.mode_applied(event.mode, self.now))
                case StreamFailed():
                    self.run(self.pipeline.overflowed(self.now))
                case SubmitRefused(native=False):
                    self.run(self.pipeline.submit_refused(event.frame_id, self.now))

    def opened(self, *, probe: bool = False, max_in_flight: int = 16) -> None:
        self.run(self.pipeline.opened(self.pipeline.session, max_in_flight, self.now, probe=probe))

    def frame(self, *, key: bool = False) -> None:
        payload = b"\x00\x00\x01" + (b"\x65\x88" if key else b"\x41") + bytes(30)
        self.packets.feed(self.stream, key=key, size=len(payload), data=payload, now=self.now)
        self.pump()

    def answer(
        self, disposition: Disposition | None = None, *, advice: Advice = Advice.KEEP, key: bool = False
    ) -> None:
        result = self.core.answer(disposition=disposition, advice=advice, key=key)
        self.run(self.pipeline.result(self.pipeline.session, result, self.now))

    def round(self, count: int = 1, *, key_first: bool = False) -> None:
        """Frames that are answered at once, 30 a second."""
        for index in range(count):
            self.frame(key=key_first and index == 0)
            while self.core.waiting:
                self.answer()
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
