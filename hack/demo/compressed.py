"""The demo of a codec that the AI Core recompresses: what is saved, and what happens while the AI Core is away."""

import math
import os
import time
from pathlib import Path

from hack.demo import facts
from hack.demo.account import KEY_EVERY_S, Account, ClaimError, Scene, pause, step
from hack.lab import clip, measure, picture
from hack.lab.report import Row
from hack.lab.stage import Seen
from hack.progress import say

FIRST_TARGET, SECOND_TARGET = 40, 20  # % of bytes; the first is the example's
TOLERANCE = 5.0  # points
ATTEMPTS = 3
SETTLE_S = 6.0  # the controller looks back 5 s
OUTAGE_S = 20.0
FREEZE_LIMIT_S = KEY_EVERY_S + 0.5  # the sender's next key, and noticing
BROKEN_VMAF = 40.0  # native pictures on foreign references score 1 to 16, the worst of ours (a key of VP8 at 360p) 58
STAGES = {"assembly": "waiting for a frame's packets", "ai_core": "AI Core", "pod": "pod's own processing"}


def show(account: Account, scene: Scene) -> None:
    """From step 4 on: the bridge is there, and nothing is sent yet."""
    mbps = scene.stream.bitrate_kbps / 1000
    step(4, f"FFmpeg sends {scene.stream.clip.content}, as {scene.stream.codec.name} at {mbps:.1f} Mb/s, with Opus")
    scene.stage.send(scene.bridge.rtp_service)
    scene.bridge.wait_mode("compress", timeout_s=20)
    seen, span = measured(scene, loops=4)
    step(5, "what a sender, a receiver and a viewer saw")
    account.print(scene.bridge.line())
    account.rows += crossing_facts(seen, span)
    account.rows += picture_facts(scene, seen, span)
    account.rows += facts.latency_rows(scene, seen, span, STAGES)
    account.show()
    step(6, f"the policy's target goes from {FIRST_TARGET} to {SECOND_TARGET} %, while the stream runs")
    account.rows += edit_policy(scene)
    account.show()
    step(7, f"the AI Core goes away for {OUTAGE_S:.0f} s, in the middle of the stream")
    account.rows += outage(scene)
    account.show()


def measured(scene: Scene, loops: int) -> tuple[Seen, tuple[int, int]]:
    """The last `loops` whole passes of the clip, once the controller has settled.

    Where the AI Core had too little CPU to answer in time, part of them went native or was skipped; that shows the
    machine's load and not the bridge, so it is said and measured again, at most twice.
    """
    seen, span = facts.watched(scene, loops, SETTLE_S)
    for _ in range(ATTEMPTS - 1):
        crossed = measure.crossing(seen.sent, seen.received, *span)
        if crossed.undisturbed:
            break
        late, load = f"{crossed.native} frames went native, {crossed.missing} were skipped", os.getloadavg()[0]
        say(f"{late}: the AI Core was too late for them (load {load:.1f}); measuring again")
        scene.bridge.wait_mode("compress", timeout_s=60)
        seen, span = facts.watched(scene, loops, SETTLE_S)
    return seen, span


def crossing_facts(seen: Seen, span: tuple[int, int]) -> list[Row]:
    crossed = measure.crossing(seen.sent, seen.received, *span)
    enough = math.ceil((1 - measure.LATE_SHARE) * crossed.frames_in)
    late = f"{crossed.missing} missing, {crossed.native} native: the AI Core was too late for them" * (
        crossed.missing + crossed.native > 0
    )
    return [
        Row("bytes_in", "video into the bridge", crossed.bytes_in, "B"),
        Row("bytes_out", "video out of the bridge, its header extension included", crossed.bytes_out, "B"),
        saving(crossed, FIRST_TARGET),
        *facts.crossing_rows(seen, crossed, enough, late),
    ]


def saving(crossed: measure.Crossing, wanted: int, name: str = "saved_percent") -> Row:
    got = crossed.saved_percent
    return Row(name, "saved", got, "%", f"{wanted} +- {TOLERANCE:.0f}", abs(got - wanted) <= TOLERANCE)


def picture_facts(scene: Scene, seen: Seen, span: tuple[int, int]) -> list[Row]:
    found = facts.recorded(scene, seen, span)
    say("scoring the pictures")
    shown = [seen.timeline.picture(t) if span[0] - 45 <= t <= span[1] + 45 else None for t in found.times]
    before = picture.vmaf_of_sender(scene.stream)
    after = picture.vmaf(found.path, shown, scene.stream.clip, subsample=2)
    return [
        found.row,
        Row("vmaf_in", "VMAF of the input", before.mean),
        Row("vmaf_out", "VMAF of the output", after.mean, note=f"{after.frames} pictures, lowest {after.lowest:.1f}"),
    ]


def edit_policy(scene: Scene) -> list[Row]:
    lives = scene.bridge.lives()
    rows = facts.edit_target(scene, SECOND_TARGET)
    seen, span = measured(scene, loops=3)
    return [
        *rows,
        facts.restarts("pods_restarted", lives, scene),
        saving(measure.crossing(seen.sent, seen.received, *span), SECOND_TARGET, "saved_percent_after_edit"),
    ]


def outage(scene: Scene) -> list[Row]:
    lives = scene.bridge.lives()
    went_ns = time.time_ns()
    say(f"kubectl scale deployment {scene.ai_core.name} --replicas 0")
    scene.ai_core.scale(0)
    degraded = scene.bridge.wait_condition("Degraded", true=True, timeout_s=OUTAGE_S + 10)
    noticed_s = (time.time_ns() - went_ns) / 1e9
    reason = degraded["reason"] if degraded else None
    if degraded is not None:
        say(f"the status says Degraded, {reason}: {degraded['message']}")
    pause(OUTAGE_S - noticed_s, "the AI Core is still away")
    back_ns = time.time_ns()
    scene.ai_core.scale(1)
    scene.ai_core.scale(1)  # an interrupted demo may have left it at zero
    scene.ai_core.wait_ready(1)
    scene.bridge.wait_mode("compress", timeout_s=60)
    say("compression is back; waiting for the status to say so")
    scene.bridge.wait_condition("Degraded", true=False, timeout_s=90)
    seen = scene.stage.look()
    recording = scene.stage.finish(scene.work)
    return [
        Row("degraded_reason", "reason in the status", reason, "", "AICoreUnavailable", reason == "AICoreUnavailable"),
        Row("degraded_after_s", "until the status said so", noticed_s, "s"),
        *outage_facts(scene, seen, recording, went_ns, back_ns),
        facts.restarts("pods_restarted_by_outage", lives, scene),
    ]


def outage_facts(scene: Scene, seen: Seen, recording: Path, went_ns: int, back_ns: int) -> list[Row]:
    after = [frame for frame in seen.received.frames if frame.last_arrived_ns >= went_ns]
    # From their own beginning: a stream that was native when the AI Core went has its key before that.
    runs = [run for run in measure.runs(seen.received.frames) if run.last.last_arrived_ns >= went_ns]
    native = next((run for run in runs if run.native), None)
    again = next((run for run in runs if not run.native and run.first.last_arrived_ns > back_ns), None)
    if native is None or again is None:
        raise ClaimError(f"the stream did not go native and back: {[(r.native, r.frames) for r in runs]}")
    freeze_s = measure.longest_silence_ms(after) / 1000
    say("scoring the pictures of the outage")
    first = seen.received.frames[0].timestamp
    times = picture.picture_times(recording, first)
    until = again.first.timestamp + 2 * clip.RTP_VIDEO_HZ
    shown = [seen.timeline.picture(t) if after[0].timestamp <= t <= until else None for t in times]
    scored = picture.vmaf(recording, shown, scene.stream.clip)
    return [
        Row("freeze_s", "longest time without a new picture", freeze_s, "s", f"<= {FREEZE_LIMIT_S:g}",
            freeze_s <= FREEZE_LIMIT_S),
        keyed("native_from_key", "native pictures begin with a key", native),
        keyed("compressed_from_key", "recompressed pictures begin with a key", again),
        Row("recovered_s", "from the AI Core's return to recompressed pictures",
            (again.first.last_arrived_ns - back_ns) / 1e9, "s"),
        *facts.recording_rows(recording),
        Row("outage_vmaf_lowest", "lowest VMAF of a picture from the outage on", scored.lowest, "",
            f">= {BROKEN_VMAF:g}", scored.lowest >= BROKEN_VMAF,
            f"{scored.frames} pictures, mean {scored.mean:.1f}"),
    ]  # fmt: skip


def keyed(name: str, what: str, run: measure.Run) -> Row:
    extension = run.first.extension
    is_key = extension is not None and extension.key
    return Row(name, what, "yes" if is_key else "no", "", "yes", is_key, f"then {run.frames - 1} more")
