"""What a pod tells of itself: the documents behind `/status`, `/rooms` and the SDP of a leg. Only reads.

`/status` is open, so it counts and names no room, leg or peer: legs are numbers in it. What the numbers stand for,
and everything else of rooms, is for those with the token.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from auralink_dataplane import __version__
from auralink_dataplane.app.duty import Duty
from auralink_dataplane.media.aic import AicClient
from auralink_dataplane.media.frame_types import FrameType
from auralink_dataplane.media.legs.plain_rtp import PlainRtpLegs, sdp
from auralink_dataplane.media.legs.srtp import KeyProblemError, read_keys
from auralink_dataplane.media.streams import Stream, Streams
from auralink_dataplane.settings import LegSpec, RoomSpec, Settings, split_address

if TYPE_CHECKING:
    from auralink_dataplane.media.packets import Stats


class Views:
    def __init__(self, settings: Settings, duty: Duty, legs: PlainRtpLegs, streams: Streams, aic: AicClient) -> None:
        self._settings = settings
        self._duty = duty
        self._legs = legs
        self._streams = streams
        self._aic = aic

    # --- rooms ------------------------------------------------------------------------------------------------

    def rooms(self) -> list[dict[str, Any]]:
        return [self._room(room) for room in self._duty.rooms]

    def _room(self, room: RoomSpec) -> dict[str, Any]:
        rules = self._duty.rules[room.name]
        policy = rules.compression
        return {
            "name": room.name,
            "labels": dict(room.labels),
            "state": "leaving" if room.name in self._duty.custody.leaving else "owned",
            "compression": {
                "mode": policy.mode,
                "target_savings_percent": policy.target_savings_percent,
                "min_savings_percent": policy.min_savings_percent,
                "quality_level": policy.quality_level,
                "quality_floor": policy.quality_floor,
                "latency_budget_ms": policy.latency_budget_ms,
                "model": policy.model,
            },
            "media": {"audio": rules.media.audio, "video": rules.media.video},
            "codecs": list(rules.codecs) if rules.codecs else None,
            "legs": [self._leg(room.name, spec) for spec in room.legs],
        }

    def _leg(self, room: str, spec: LegSpec) -> dict[str, Any]:
        leg = self._legs.open.get((room, spec.name))
        return {
            "id": leg.id if leg else None,
            "name": spec.name,
            "direction": spec.direction,
            "open": leg is not None,
            "problem": self._legs.problems.get((room, spec.name)),
            "ports": dict(leg.ports) if leg else {},
            "remotes": dict(leg.remotes) if leg else {},
        }

    def leg_sdp(self, room: str, leg: str) -> str | None:
        """Of any plain-RTP leg of the bridge, also while another pod serves it; None where no address is known, or not
        the key that belongs in it."""
        rooms = self._duty.bridge.rooms if self._duty.bridge else ()
        legs = (spec for one in rooms if one.name == room for spec in one.legs)
        spec = next((one for one in legs if one.name == leg and one.rtp), None)
        if spec is None or spec.rtp is None:
            return None
        try:
            srtp, read = spec.rtp.srtp, self._duty.read_secret
            keys = read_keys(srtp, read, both_ways=spec.both_ways) if srtp else None
        except KeyProblemError:
            return None
        at = {medium: found for medium in spec.media if (found := self._reached_at(room, spec, medium))}
        return sdp(room, spec, at, keys) if len(at) == len(spec.media) else None

    def _reached_at(self, room: str, spec: LegSpec, medium: str) -> tuple[str, int] | None:
        """The peer's own address where we send to it, else ours: from outside, or of this pod where that is unknown."""
        leg = self._legs.open.get((room, spec.name))
        if spec.sends and (remote := (leg.remotes.get(medium) if leg else None) or spec.media[medium].remote):
            return split_address(remote)
        if public := self._duty.addresses.get(f"{room}/{spec.name}/{medium}"):
            return public.host, public.port
        if leg and medium in leg.ports:
            return self._settings.pod.ip or "127.0.0.1", leg.ports[medium]
        return None

    # --- all of it --------------------------------------------------------------------------------------------

    def status(
        self, *, phase: str, stage: str, sessions: int, problems: Iterable[str], stats: "Stats", now: float
    ) -> dict[str, Any]:
        bridge = self._duty.bridge
        return {
            "service": {
                "name": self._settings.service_name,
                "version": __version__,
                "environment": bridge.environment if bridge else "",
                "region": bridge.region if bridge else "",
                "bridge_id": self._settings.pod.bridge_id,
                "pod": self._settings.pod.name,
                "phase": phase,
                "stage": stage,
            },
            "config_generation": self._duty.generation,
            "problems": sorted(problems),
            "aic_compression": self._compression(stats, now),
            "room_sync": {"active_rooms": len(self._duty.rooms), "total_participants": sessions},
            "packets": packet_counters(stats),
        }

    def _compression(self, stats: "Stats", now: float) -> dict[str, Any]:
        books = self._streams.books
        processed, compressed = books.frames_processed, books.frames_compressed
        saved = books.savings.bytes_in - books.savings.bytes_out
        share = books.savings.share(now)
        book = books.latency
        return {
            "frames_processed": processed,
            "frames_compressed": compressed,
            "compression_rate_percent": _percent(compressed, processed) or 0.0,  # always a number
            "fallback_rate_percent": _percent(books.fallback_frames, processed),
            "total_bandwidth_saved_mb": f"{saved / 1e6:.2f}",
            "bytes_in": books.savings.bytes_in,
            "bytes_out": books.savings.bytes_out,
            "saved_percent": None if share is None else round(share * 100, 1),
            "latency_ms": {name: window.percentiles(now) for name, window in book.recent.items()},
            "grpc_stats": {
                "total_requests": books.requests,
                "successful_requests": books.successes,
                "failed_requests": books.failures,
                "success_rate_percent": _percent(books.successes, books.requests),
                "avg_latency_ms": round(book.ai_core_sum_ms / book.ai_core_count, 3) if book.ai_core_count else None,
                "total_bandwidth_saved_mb": f"{saved / 1e6:.2f}",
                "circuit_breaker_open": self._aic.circuit_breaker_open,
                "endpoints": self._aic.endpoints(),
                "promotions": dict(books.takeovers),
            },
            "streams": [self._stream(stream, stats, now) for stream in self._streams],
        }

    def _stream(self, stream: Stream, stats: "Stats", now: float) -> dict[str, Any]:
        source = stats["streams"].get(stream.id)
        outs = {leg: stats["outs"].get(out) for leg, out in stream.outs.items()}
        share, ask = stream.savings.share(now), stream.ask(now)
        return {
            "stream": stream.id,
            "leg": stream.leg.id,
            "media": stream.media,
            "codec": stream.codec,
            "ssrc": stream.ssrc,
            "mode": stream.pipeline.state.value if stream.pipeline else "bypass",
            "endpoint": stream.endpoint,
            "standby": _standby(stream),
            "fallback": stream.pipeline.fallback if stream.pipeline else None,
            "ask_sender_bps": ask.bps if ask else None,
            "ask_reason": ask.reason.value if ask else None,
            "frames_in": stream.counted.frames,
            "frames_out": stream.counted.frames_out,
            "frame_types": {kind.value: stream.pictures.types[kind] for kind in FrameType},
            "layers": {f"S{sid}T{tid}": n for (sid, tid), n in sorted(stream.pictures.layers.items())},
            "bytes_in": stream.savings.bytes_in,
            "bytes_out": stream.savings.bytes_out,
            "saved_percent": None if share is None else round(share * 100, 1),
            "source": dict(source) if source else {},
            "outs": [{**(counted or {}), "leg": leg} for leg, counted in outs.items()],
        }


def _standby(stream: Stream) -> str | None:
    """Whether another session could go on for this stream's."""
    if stream.pipeline is None or not stream.pipeline.standby.live:
        return None
    return "ready" if stream.pipeline.standby.ready else "waiting"


def packet_counters(stats: "Stats") -> dict[str, dict[str, int]]:
    return {
        "drops": dict(stats["drops"]),
        "packets": {
            "in": sum(one["packets"] for one in stats["streams"].values()),
            "out": sum(one["packets"] for one in stats["outs"].values()),
        },
    }


def _percent(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 1) if whole else None
