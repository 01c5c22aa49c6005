"""What is claimed of any stream through a bridge, compressed or not: what sender, receiver and Kubernetes saw."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hack.demo.account import ClaimError, Scene, pause, zero
from hack.lab import clip, measure, picture
from hack.lab.bridge import target
from hack.lab.ffmpeg import PACKET_SIZE
from hack.lab.report import Row
from hack.lab.stage import Seen
from hack.progress import say


def watched(scene: Scene, loops: int, settle_s: float = 0) -> tuple[Seen, tuple[int, int]]:
    """What both sides saw, and the first and last timestamp of the last `loops` whole passes of the clip."""
    loop_s = float(scene.stream.clip.frames / scene.stream.clip.fps)
    pause(settle_s + (loops + 1) * loop_s, f"measuring {loops * loop_s:.0f} s of it")
    seen = scene.stage.look()
    if not seen.received.frames:
        raise ClaimError("no video reached the receiver")
    span = seen.timeline.whole_loops(seen.received.frames[-1].timestamp, loops)
    if span is None:
        raise ClaimError(f"fewer than {loops} passes of the clip reached the receiver")
    return seen, span


def crossing_rows(seen: Seen, crossed: measure.Crossing, least: int, late: str = "") -> list[Row]:
    """`least`: frames that must have come out; `late`: why some did not."""
    audio, received = seen.audio, seen.received
    return [
        Row("frames_in", "frames in", crossed.frames_in),
        Row("frames_out", "frames out", crossed.frames_out, "", f">= {least}", crossed.frames_out >= least, late),
        zero("frames_unmarked", "frames without the 16-byte extension on their first packet", crossed.unmarked),
        zero("packets_lost", "packets lost or out of order at the receiver", received.lost + received.reordered),
        Row(
            "largest_packet",
            "largest packet",
            received.largest_packet,
            "B",
            f"<= {PACKET_SIZE}",
            received.largest_packet <= PACKET_SIZE,
        ),
        Row(
            "audio_untouched",
            "Opus packets that arrived unchanged",
            audio.same,
            f"of {audio.sent:,}",
            "all",
            0 < audio.sent == audio.same,
        ),
    ]


@dataclass(frozen=True, slots=True)
class Recorded:
    """The recording up to the end of what was measured, with the sender's RTP timestamp of each picture."""

    path: Path
    times: list[int]
    row: Row


def recorded(scene: Scene, seen: Seen, span: tuple[int, int]) -> Recorded:
    first = seen.received.frames[0].timestamp
    until_s = (span[1] - first) / clip.RTP_VIDEO_HZ + 0.5 / float(scene.stream.clip.fps)
    snapshot = scene.stage.snapshot(until_s, scene.work)
    decoded = picture.decode_strictly(snapshot)
    expected = sum(1 for frame in seen.received.frames if frame.timestamp <= span[1])
    row = Row(
        "frames_decoded",
        "frames decoded without error, from the first on",
        decoded.frames,
        "",
        f"{expected}",
        decoded.clean and decoded.frames == expected,
        "; ".join(decoded.errors[:2]),
    )
    return Recorded(snapshot, picture.picture_times(snapshot, first), row)


def latency_rows(scene: Scene, seen: Seen, span: tuple[int, int], stages: Mapping[str, str]) -> list[Row]:
    """`stages`: of the pod's own figures those that are shown, and what they are; without a figure there is no row."""
    said = scene.bridge.own_words()["aic_compression"]["latency_ms"]
    rows = [
        Row(f"latency_{stage}_{p}", f"{name}, {p}", float(said[stage][p]), "ms")
        for stage, name in stages.items()
        for p in ("p50", "p95", "p99")
        if said[stage][p] is not None
    ]
    hop = measure.crossing(seen.sent, seen.received, *span).hop
    if hop is not None:
        outside = {"p50": hop.p50, "p95": hop.p95, "p99": hop.p99}
        what = "seen from outside, last packet to last packet"
        rows += [Row(f"latency_hop_{p}", f"{what}, {p}", value, "ms") for p, value in outside.items()]
    return rows


def edit_target(scene: Scene, percent: int) -> list[Row]:
    """Edits the policy while the stream runs: who has acknowledged it, and how soon."""
    before = scene.bridge.status()["config"]["ackedGeneration"]
    say(f"kubectl patch roompolicy {scene.bridge.policy} --type merge -p '{json.dumps(target(percent))}'")
    took = scene.bridge.aim(percent)
    config = scene.bridge.status()["config"]
    acked, wanted = config["ackedGeneration"], config["desiredGeneration"]
    say(f"generation {before} -> {acked}, acknowledged by every pod after {took:.2f} s")
    what = "generation of the configuration that every pod has acknowledged"
    return [
        Row("acked_generation", what, acked, "", str(wanted), acked == wanted, f"{before} before the edit"),
        Row("policy_ack_s", "from the edit to the pods' acknowledgement", took, "s"),
    ]


def restarts(name: str, lives: Mapping[str, int], scene: Scene) -> Row:
    """Pods of before that are gone or restarted."""
    after = scene.bridge.lives()
    changed = sum(1 for uid, count in lives.items() if after.get(uid) != count)
    return zero(name, "pods replaced or restarted", changed)


def recording_rows(recording: Path) -> list[Row]:
    """The whole of it, by a strict decoder."""
    decoded = picture.decode_strictly(recording)
    return [
        Row("recording_decoded", "pictures of the whole recording decoded", decoded.frames),
        zero("recording_errors", "errors of the decoder", len(decoded.errors) + (not decoded.clean),
             "; ".join(decoded.errors[:2])),
    ]  # fmt: skip
