"""`make demo`: a bridge recompresses a live stream, shown step by step and measured from outside.

Every line of the tables is a measurement of this run, and every claim is checked: the demo ends with exit code 1 and
says which one is false. Progress goes to stderr, results to stdout, so `--json` gives a clean document. A demo that
fails reports what it measured until then.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.lab import clip, kube, measure, picture, report
from hack.lab.bridge import QUICKSTART, AICore, Bridge, install, target
from hack.lab.ffmpeg import PACKET_SIZE
from hack.lab.report import Row
from hack.lab.stage import Seen, Stage
from hack.progress import say

NAMESPACE = "auralink-demo"
REPORT = kube.ROOT / "build" / "demo" / "report.json"
FIRST_TARGET, SECOND_TARGET = 40, 20  # % of bytes; the first is the example's
TOLERANCE = 5.0  # points
ATTEMPTS = 3
SETTLE_S = 6.0  # the controller looks back 5 s
OUTAGE_S = 20.0
KEY_EVERY_S = 2.0
FREEZE_LIMIT_S = KEY_EVERY_S + 0.5  # the sender's next key, and noticing
BROKEN_VMAF = 60.0  # native pictures on foreign references score 1 to 16, the worst of the sender's own 86


class ClaimError(Exception):
    """Something that the demo shows is not so."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything the steps act on."""

    kube: kube.Kube
    bridge: Bridge
    ai_core: AICore
    stage: Stage
    stream: clip.SenderStream
    work: Path


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make demo", description="Show and measure a bridge at work.")
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON on stdout, nothing else")
    parser.add_argument("--keep", action="store_true", help="leave the bridge, the sender and the receiver running")
    parser.add_argument("--clip", type=Path, help="a video of your own instead of the default clip")
    options = parser.parse_args(arguments)
    REPORT.unlink(missing_ok=True)  # whatever happens, it would not be this run's
    account = Account(options)
    try:
        with tempfile.TemporaryDirectory() as work:
            scene = show(account, Path(work))
    except KeyboardInterrupt:
        account.close("interrupted")
        say("interrupted; what was started is still there. make cluster-down removes it all")
        return 130
    except (ClaimError, kube.KubeError, kube.NotInTime, subprocess.CalledProcessError, OSError, RuntimeError) as error:
        account.close(str(error))
        say(f"everything is left as it is; look with: kubectl get pods,auralinkbridges -n {NAMESPACE}")
        return 1
    made = account.close()
    finish(scene, keep=options.keep)
    return 1 if made.missed else 0


class Account:
    """What was measured so far: shown as it comes, or at the end as JSON, and written down however the demo ends."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._json: bool = options.json
        self._shown = 0
        self.clip: Path | None = options.clip
        self.rows: list[Row] = []
        self.conditions = report.conditions(str(self.clip or "the default clip"))

    def begin(self, scene: Scene) -> None:
        sender = f"x264 {scene.stream.bitrate_kbps:.0f} kb/s, key every {KEY_EVERY_S:g} s"
        self.conditions = report.conditions(scene.stream.clip.content, sender=sender)
        self.print(*report.heading(self.conditions))

    def print(self, *lines: str) -> None:
        if not self._json:
            print("\n".join(lines), flush=True)

    def show(self) -> None:
        """One table of what was added since the last one."""
        if new := self.rows[self._shown :]:
            self.print(*report.lines(new))
            self._shown = len(self.rows)

    def close(self, failure: str = "") -> report.Report:
        """`failure`: why the demo ended before its last step."""
        self.show()
        ended = [Row("demo_complete", "the demo came to its end", "no", "", "yes", False, failure)] if failure else []
        made = report.Report(self.conditions, [*self.rows, *ended])
        report.write(REPORT, made)
        if self._json:
            print(REPORT.read_text(), end="", flush=True)
        for row in self.rows:
            if row.met is False:
                say(f"NOT SO: {row.what}: {report.shown(row)}, should be {row.target}. {row.note}".rstrip())
        if failure:
            say(f"FAILED: {failure}")
        return made


def show(account: Account, work: Path) -> Scene:
    step(1, "a Kubernetes cluster, and the images on it")
    make("cluster", "images")
    scene = prepare(account.clip, work)
    account.begin(scene)
    step(2, "helm install of charts/auralink: CRDs, operator, reference AI Core")
    install(scene.kube, kube.images())
    scene.ai_core.scale(1)  # an interrupted demo may have left it at zero
    scene.ai_core.wait_ready(1)
    step(3, f"kubectl apply -f {QUICKSTART.relative_to(kube.ROOT)}")
    account.rows += apply(scene)
    account.show()
    mbps = scene.stream.bitrate_kbps / 1000
    step(4, f"FFmpeg sends {scene.stream.clip.content}, as H.264 at {mbps:.1f} Mb/s, with Opus")
    seen, span = stream_until_measured(scene, loops=4)
    step(5, "what a sender, a receiver and a viewer saw")
    account.print(scene.bridge.line())
    account.rows += crossing_facts(seen, span)
    account.rows += picture_facts(scene, seen, span)
    account.rows += latency_facts(scene, seen, span)
    account.show()
    step(6, f"the policy's target goes from {FIRST_TARGET} to {SECOND_TARGET} %, while the stream runs")
    account.rows += edit_policy(scene)
    account.show()
    step(7, f"the AI Core goes away for {OUTAGE_S:.0f} s, in the middle of the stream")
    account.rows += outage(scene)
    account.show()
    return scene


def prepare(own_clip: Path | None, work: Path) -> Scene:
    os.nice(10)  # from here on this process only looks on; what it looks at comes first
    original = clip.probe(own_clip) if own_clip else clip.default_clip()
    stream = clip.sender_stream(original, key_every_s=KEY_EVERY_S)
    cluster = kube.Kube(kube.access())
    bridge = Bridge.of_example(cluster, NAMESPACE)
    stage = Stage(cluster, NAMESPACE, kube.images()["media-tools"], stream)
    return Scene(cluster, bridge, AICore(cluster), stage, stream, work)


def apply(scene: Scene) -> list[Row]:
    scene.kube.namespace(NAMESPACE)
    leave_nothing(scene)
    scene.stage.receive()  # first, so that the name of the bridge's peer resolves
    started = time.monotonic()
    scene.kube.apply(QUICKSTART, NAMESPACE)
    scene.bridge.wait_ready()
    took = time.monotonic() - started
    return [Row("apply_to_ready", "from kubectl apply to Ready", took, "s", "< 60", took < 60)]


def stream_until_measured(scene: Scene, loops: int) -> tuple[Seen, tuple[int, int]]:
    """Sends until `loops` whole passes of the clip went through compressed; their first and last timestamp."""
    scene.stage.send(scene.bridge.rtp_service)
    scene.bridge.wait_mode("compress", timeout_s=20)
    return measured(scene, loops)


def measured(scene: Scene, loops: int) -> tuple[Seen, tuple[int, int]]:
    """The last `loops` whole passes of the clip, once the controller has settled.

    Where the AI Core had too little CPU to answer in time, part of them went native or was skipped; that shows the
    machine's load and not the bridge, so it is said and measured again, at most twice.
    """
    seen, span = measured_once(scene, loops)
    for _ in range(ATTEMPTS - 1):
        crossed = measure.crossing(seen.sent, seen.received, *span)
        if crossed.undisturbed:
            break
        late, load = f"{crossed.native} frames went native, {crossed.missing} were skipped", os.getloadavg()[0]
        say(f"{late}: the AI Core was too late for them (load {load:.1f}); measuring again")
        scene.bridge.wait_mode("compress", timeout_s=60)
        seen, span = measured_once(scene, loops)
    return seen, span


def measured_once(scene: Scene, loops: int) -> tuple[Seen, tuple[int, int]]:
    loop_s = float(scene.stream.clip.frames / scene.stream.clip.fps)
    pause(SETTLE_S + (loops + 1) * loop_s, f"measuring {loops * loop_s:.0f} s of it")
    seen = scene.stage.look()
    if not seen.received.frames:
        raise ClaimError("no video reached the receiver")
    span = seen.timeline.whole_loops(seen.received.frames[-1].timestamp, loops)
    if span is None:
        raise ClaimError(f"fewer than {loops} passes of the clip reached the receiver")
    return seen, span


def crossing_facts(seen: Seen, span: tuple[int, int]) -> list[Row]:
    crossed = measure.crossing(seen.sent, seen.received, *span)
    audio, received = seen.audio, seen.received
    enough = math.ceil((1 - measure.LATE_SHARE) * crossed.frames_in)
    late = f"{crossed.missing} missing, {crossed.native} native: the AI Core was too late for them" * (
        crossed.missing + crossed.native > 0
    )
    return [
        Row("bytes_in", "video into the bridge", crossed.bytes_in, "B"),
        Row("bytes_out", "video out of the bridge, its header extension included", crossed.bytes_out, "B"),
        saving(crossed, FIRST_TARGET),
        Row("frames_in", "frames in", crossed.frames_in),
        Row("frames_out", "frames out", crossed.frames_out, "", f">= {enough}", crossed.frames_out >= enough, late),
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


def saving(crossed: measure.Crossing, wanted: int, name: str = "saved_percent") -> Row:
    got = crossed.saved_percent
    return Row(name, "saved", got, "%", f"{wanted} +- {TOLERANCE:.0f}", abs(got - wanted) <= TOLERANCE)


def zero(name: str, what: str, count: int, note: str = "") -> Row:
    return Row(name, what, count, "", "0", count == 0, note)


def picture_facts(scene: Scene, seen: Seen, span: tuple[int, int]) -> list[Row]:
    first = seen.received.frames[0].timestamp
    until_s = (span[1] - first) / clip.RTP_VIDEO_HZ + 0.5 / float(scene.stream.clip.fps)
    snapshot = scene.stage.snapshot(until_s, scene.work)
    decoded = picture.decode_strictly(snapshot)
    expected = sum(1 for frame in seen.received.frames if frame.timestamp <= span[1])
    say("scoring the pictures")
    times = picture.picture_times(snapshot, first)
    shown = [seen.timeline.picture(t) if span[0] - 45 <= t <= span[1] + 45 else None for t in times]
    before = picture.vmaf_of_sender(scene.stream)
    after = picture.vmaf(snapshot, shown, scene.stream.clip, subsample=2)
    return [
        Row(
            "frames_decoded",
            "frames decoded without error, from the first on",
            decoded.frames,
            "",
            f"{expected}",
            decoded.clean and decoded.frames == expected,
            "; ".join(decoded.errors[:2]),
        ),
        Row("vmaf_in", "VMAF of the input", before.mean),
        Row("vmaf_out", "VMAF of the output", after.mean, note=f"{after.frames} pictures, lowest {after.lowest:.1f}"),
    ]


def latency_facts(scene: Scene, seen: Seen, span: tuple[int, int]) -> list[Row]:
    stages = scene.bridge.own_words()["aic_compression"]["latency_ms"]
    names = {"assembly": "waiting for a frame's packets", "ai_core": "AI Core", "pod": "pod's own processing"}
    rows = [
        Row(f"latency_{stage}_{p}", f"{name}, {p}", float(stages[stage][p]), "ms")
        for stage, name in names.items()
        for p in ("p50", "p95", "p99")
    ]
    hop = measure.crossing(seen.sent, seen.received, *span).hop
    if hop is not None:
        outside = {"p50": hop.p50, "p95": hop.p95, "p99": hop.p99}
        what = "seen from outside, last packet to last packet"
        rows += [Row(f"latency_hop_{p}", f"{what}, {p}", value, "ms") for p, value in outside.items()]
    return rows


def edit_policy(scene: Scene) -> list[Row]:
    lives = scene.bridge.lives()
    before = scene.bridge.status()["config"]["ackedGeneration"]
    say(f"kubectl patch roompolicy {scene.bridge.policy} --type merge -p '{json.dumps(target(SECOND_TARGET))}'")
    took = scene.bridge.aim(SECOND_TARGET)
    config = scene.bridge.status()["config"]
    acked, wanted = config["ackedGeneration"], config["desiredGeneration"]
    say(f"generation {before} -> {acked}, acknowledged by every pod after {took:.2f} s")
    seen, span = measured(scene, loops=3)
    what = "generation of the configuration that every pod has acknowledged"
    return [
        Row("acked_generation", what, acked, "", str(wanted), acked == wanted, f"{before} before the edit"),
        Row("policy_ack_s", "from the edit to the pods' acknowledgement", took, "s"),
        zero("pods_restarted", "pods replaced or restarted", changed(lives, scene.bridge.lives())),
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
        zero("pods_restarted_by_outage", "pods replaced or restarted", changed(lives, scene.bridge.lives())),
    ]


def outage_facts(scene: Scene, seen: Seen, recording: Path, went_ns: int, back_ns: int) -> list[Row]:
    after = [frame for frame in seen.received.frames if frame.last_arrived_ns >= went_ns]
    runs = measure.runs(after)
    native = next((run for run in runs if run.native), None)
    again = next((run for run in runs if not run.native and run.first.last_arrived_ns > back_ns), None)
    if native is None or again is None:
        raise ClaimError(f"the stream did not go native and back: {[(r.native, r.frames) for r in runs]}")
    freeze_s = measure.longest_silence_ms(after) / 1000
    decoded = picture.decode_strictly(recording)
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
        Row("recording_decoded", "pictures of the whole recording decoded", decoded.frames),
        zero("recording_errors", "errors of the decoder", len(decoded.errors) + (not decoded.clean),
             "; ".join(decoded.errors[:2])),
        Row("outage_vmaf_lowest", "lowest VMAF of a picture from the outage on", scored.lowest, "",
            f">= {BROKEN_VMAF:g}", scored.lowest >= BROKEN_VMAF,
            f"{scored.frames} pictures, mean {scored.mean:.1f}"),
    ]  # fmt: skip


def changed(before: dict[str, int], after: dict[str, int]) -> int:
    """Pods of before that are gone or restarted."""
    return sum(1 for uid, restarts in before.items() if after.get(uid) != restarts)


def keyed(name: str, what: str, run: measure.Run) -> Row:
    extension = run.first.extension
    is_key = extension is not None and extension.key
    return Row(name, what, "yes" if is_key else "no", "", "yes", is_key, f"then {run.frames - 1} more")


def finish(scene: Scene, *, keep: bool) -> None:
    if keep:
        say(f"left running; the recording ended. The bridge: kubectl describe auralinkbridge -n {NAMESPACE}")
    else:
        took = leave_nothing(scene)
        say(f"bridge, sender and receiver are gone; nothing of the bridge was left after {took:.0f} s")
    say(f"report: {REPORT.relative_to(kube.ROOT)}")
    say("the cluster runs on. Look around:")
    say(f"  export KUBECONFIG={scene.kube.access.kubeconfig}; PATH={scene.kube.access.kubectl.parent}:$PATH")
    say("  kubectl get pods -A")
    say("remove it: make cluster-down")


def leave_nothing(scene: Scene) -> float:
    scene.stage.remove()
    return scene.bridge.delete()


def make(*targets: str) -> None:
    """Other targets of the Makefile; whatever they print is progress."""
    tool = shutil.which("make") or "make"
    done = subprocess.run([tool, *targets], cwd=kube.ROOT, stdout=sys.stderr)
    if done.returncode != 0:
        raise ClaimError(f"make {' '.join(targets)} failed; see above")


def step(number: int, text: str) -> None:
    say(f"{number} of 7: {text}")


def pause(seconds: float, meanwhile: str) -> None:
    """Waits, and says so every ten seconds."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        say(f"{meanwhile}, {left:.0f} s to go")
        time.sleep(min(10.0, left))


if __name__ == "__main__":
    sys.exit(main())
