"""Every stream of the pod, and the root of everything that the packet core tells."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from auralink_dataplane.media.aic import AicClient
from auralink_dataplane.media.frames import Event, Frame, LegFailed, StreamEnded, StreamStarted
from auralink_dataplane.media.legs.plain_rtp import OpenLeg, PlainRtpLegs
from auralink_dataplane.media.packets import PacketEngine
from auralink_dataplane.media.pipeline import Limits
from auralink_dataplane.media.streams.books import Books
from auralink_dataplane.media.streams.stream import Shared, Stream
from auralink_dataplane.metrics import Metrics
from auralink_dataplane.policy import Rules

if TYPE_CHECKING:
    from auralink_dataplane.media.packets import Stats

log = logging.getLogger(__name__)


class Streams:
    """Every stream of the pod."""

    def __init__(
        self, engine: PacketEngine, metrics: Metrics, *, clock: Callable[[], float], jitter: Callable[[], float]
    ) -> None:
        self.books = Books(metrics)
        self._engine = engine
        self._metrics = metrics
        self._clock = clock
        self._jitter = jitter
        self._limits = Limits()
        self._shared: Shared
        self._legs: PlainRtpLegs
        self._streams: dict[int, Stream] = {}
        self._rules: Mapping[str, Rules] = {}

    def connect(self, aic: AicClient, legs: PlainRtpLegs) -> None:
        """The two that call back here."""
        self._shared = Shared(self._engine, aic, self.books, self._clock, self._jitter)
        self._legs = legs

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._engine.fileno(), self.pump)

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._engine.fileno())
        for stream in list(self._streams.values()):
            stream.close()
        self._streams.clear()

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._streams.values())

    def configure(self, rules: Mapping[str, Rules], limits: Limits) -> None:
        """`rules`: what each room gets."""
        self._rules = rules
        self._limits = limits
        for stream in list(self._streams.values()):
            stream.configure(rules.get(stream.room, stream.rules), limits, self._legs_of(stream.room))

    def endpoint_available(self) -> None:
        for stream in list(self._streams.values()):
            stream.endpoint_available()

    def leg_opened(self, leg: OpenLeg) -> None:
        for stream in self._streams.values():
            if stream.room == leg.room:
                stream.link(leg)

    def leg_closed(self, leg: OpenLeg) -> None:
        """Its own streams are gone with it; nothing may link them between now and their event."""
        for stream in list(self._streams.values()):
            stream.lose(leg.id)
            if stream.leg.id == leg.id:
                self._ended(stream.id, "leg closed")

    def pump(self) -> None:
        """Root of everything that the packet core tells. An error costs its stream one event, not the pod the rest."""
        for event in self._engine.poll():
            try:
                self._handle(event)
            except Exception:
                log.exception("event was not handled", extra={"event": type(event).__name__})

    def _handle(self, event: Frame | Event) -> None:
        match event:
            case Frame():
                if stream := self._streams.get(event.stream):
                    stream.receive(event)
            case StreamStarted():
                self._started(event)
            case StreamEnded():
                self._ended(event.stream, event.reason)
            case LegFailed():
                self._legs.failed(event.leg, event.reason)
            case _:
                if stream := self._streams.get(event.stream):
                    stream.happened(event)

    def _started(self, event: StreamStarted) -> None:
        leg = self._legs.by_id(event.leg)
        if leg is None:
            return  # closed meanwhile; the packet core ends the stream
        stream = Stream(self._shared, event, leg, self._rules.get(leg.room, Rules()), self._limits)
        self._streams[stream.id] = stream
        log.info(
            "stream started", extra={**stream.names(), "media": event.media, "codec": event.codec, "ssrc": event.ssrc}
        )
        for target in self._legs_of(stream.room):
            stream.link(target)
        stream.start()

    def _ended(self, stream: int, reason: str) -> None:
        if ended := self._streams.pop(stream, None):
            log.info("stream ended", extra={**ended.names(), "reason": reason})
            ended.close()

    def _legs_of(self, room: str) -> list[OpenLeg]:
        return [leg for leg in self._legs.open.values() if leg.room == room]

    # --- looking --------------------------------------------------------------------------------------------

    def sample(self, now: float) -> "Stats":
        """Once a second: what the packet core did meanwhile, also with frames that Python never sees. Returns its
        counters."""
        stats = self._engine.stats()
        for stream in self._streams.values():
            stream.account(stats, now)
        self.books.sampled(stats, now)
        self._metrics.circuit_breaker_open.set(self._shared.aic.circuit_breaker_open)
        return stats

    def live_legs(self) -> set[tuple[str, str]]:
        """Source legs with live media: the pod's sessions."""
        return {stream.leg.key for stream in self._streams.values()}
