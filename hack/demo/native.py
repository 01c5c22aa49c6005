"""The demo of a codec that the AI Core has not: the stream crosses as it came, says so, and nothing holds it up."""

import time

from hack.demo import facts
from hack.demo.account import Account, Scene, pause, step, zero
from hack.demo.compressed import FIRST_TARGET, SECOND_TARGET
from hack.lab import measure, picture
from hack.lab.report import Row
from hack.lab.stage import Seen
from hack.progress import say

LOOPS = 3
OUTAGE_S = 10.0
SILENCE_LIMIT_S = 0.5  # at 25 pictures a second, on a busy machine
STAGES = {"assembly": "waiting for a frame's packets", "pod": "pod's own processing"}


def show(account: Account, scene: Scene) -> None:
    """From step 4 on: the bridge is there, and nothing is sent yet."""
    codec, mbps = scene.stream.codec.name, scene.stream.bitrate_kbps / 1000
    step(4, f"FFmpeg sends {scene.stream.clip.content}, as {codec} at {mbps:.1f} Mb/s, with Opus")
    scene.stage.send(scene.bridge.rtp_service)
    degraded = scene.bridge.wait_condition("Degraded", true=True, timeout_s=60)
    say(f"the AI Core does not serve {codec}, and the status says so: {(degraded or {}).get('message')}")
    seen, span = facts.watched(scene, LOOPS)
    step(5, "what a sender, a receiver and a viewer saw")
    account.print(scene.bridge.line())
    account.rows.append(told(degraded))
    account.rows += crossing_facts(scene, seen, span)
    account.rows += facts.latency_rows(scene, seen, span, STAGES)
    account.show()
    step(6, f"the policy's target goes from {FIRST_TARGET} to {SECOND_TARGET} %, while the stream runs")
    lives = scene.bridge.lives()
    account.rows += facts.edit_target(scene, SECOND_TARGET)
    account.show()
    step(7, f"the AI Core goes away for {OUTAGE_S:.0f} s, in the middle of the stream")
    account.rows += outage(scene)
    account.rows.append(facts.restarts("pods_restarted", lives, scene))
    account.show()


def told(degraded: dict[str, object] | None) -> Row:
    reason = str((degraded or {}).get("reason"))
    return Row(
        "degraded_reason", "reason in the status", reason, "", "CompressionDisabled", reason == "CompressionDisabled"
    )


def crossing_facts(scene: Scene, seen: Seen, span: tuple[int, int]) -> list[Row]:
    crossed = measure.crossing(seen.sent, seen.received, *span)
    found = facts.recorded(scene, seen, span)
    wanted = picture.fingerprints(scene.stream.path)
    shown = list(zip(picture.fingerprints(found.path), found.times, strict=True))
    other = sum(1 for print_, at in shown if print_ != wanted[seen.timeline.picture(at)])
    return [
        Row("bytes_in", "video into the bridge", crossed.bytes_in, "B"),
        Row("bytes_out", "video out of the bridge, its header extension included", crossed.bytes_out, "B"),
        *facts.crossing_rows(seen, crossed, crossed.frames_in),
        Row("frames_native", "frames that say that they are the sender's own", crossed.native, "",
            f"{crossed.frames_out}", crossed.native == crossed.frames_out),
        found.row,
        zero("pictures_changed", "decoded pictures that are not the sender's, pixel for pixel", other),
    ]  # fmt: skip


def outage(scene: Scene) -> list[Row]:
    went_ns = time.time_ns()
    say(f"kubectl scale deployment {scene.ai_core.name} --replicas 0")
    scene.ai_core.scale(0)
    pause(OUTAGE_S, "the AI Core is away")
    scene.ai_core.scale(1)
    scene.ai_core.wait_ready(1)
    seen = scene.stage.look()
    recording = scene.stage.finish(scene.work)
    after = [frame for frame in seen.received.frames if frame.last_arrived_ns >= went_ns]
    silence_s = measure.longest_silence_ms(after) / 1000
    return [
        Row("freeze_s", "longest time without a new picture", silence_s, "s", f"<= {SILENCE_LIMIT_S:g}",
            silence_s <= SILENCE_LIMIT_S),
        *facts.recording_rows(recording),
    ]  # fmt: skip
