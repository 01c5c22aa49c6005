"""A live sender and a receiver as pods, on either side of a bridge, each with a tap.

    FFmpeg -> tap -> Service of the bridge ... the bridge ... Service of the receiver -> tap -> FFmpeg

Files go in and out through `kubectl exec`. Everything a stage makes lives in one namespace and is labelled, so that
`remove` finds all of it.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.lab import ffmpeg, measure, picture, tap, tool_pods
from hack.lab.clip import SenderStream
from hack.lab.codec import Codec
from hack.lab.kube import Kube, Obj, wait_for
from hack.lab.tool_pods import FOLDER

RECEIVER, SENDER = "auralink-demo-receiver", "auralink-demo-sender"
VIDEO_PORT, AUDIO_PORT = 5004, 5006
_LABEL = {"app.kubernetes.io/part-of": "auralink-lab"}
_INNER_VIDEO, _INNER_AUDIO = 6004, 6006  # where FFmpeg and the tap of a pod meet


@dataclass(frozen=True, slots=True)
class Seen:
    """What both taps wrote down so far."""

    sent: measure.Flow
    received: measure.Flow
    audio: measure.Payloads
    timeline: measure.Timeline
    reports: int  # RTCP packets that reached the receiver


class Stage:
    """One sender and one receiver of `stream`. Call `receive`, then `send`; `look` as often as wanted; `finish`."""

    def __init__(self, kube: Kube, namespace: str, image: str, stream: SenderStream) -> None:
        self._kube = kube
        self._namespace = namespace
        self._image = image
        self._stream = stream

    def receive(self) -> None:
        """Starts the receiver and its Service; FFmpeg waits for the first packet as long as it takes."""
        ports = [
            {"name": f"{name}-{kind}", "protocol": "UDP", "port": port + offset, "targetPort": port + offset}
            for name, port in (("video", VIDEO_PORT), ("audio", AUDIO_PORT))
            for kind, offset in (("rtp", 0), ("rtcp", 1))
        ]
        service = self._object("v1", "Service", RECEIVER, {"selector": {"app": RECEIVER}, "ports": ports})
        routes = [
            f"{VIDEO_PORT}=127.0.0.1:{_INNER_VIDEO}",
            f"{AUDIO_PORT}=127.0.0.1:{_INNER_AUDIO}",
            *(f"{port + 1}=" for port in (VIDEO_PORT, AUDIO_PORT)),
        ]
        containers = [
            self._tap(routes),
            *(
                self._container(kind, _record(kind, inner, self._stream.codec))
                for kind, inner in (("video", _INNER_VIDEO), ("audio", _INNER_AUDIO))
            ),
        ]
        self._kube.apply([service, self._pod(RECEIVER, containers)], self._namespace)
        self._wait_running(RECEIVER)

    def send(self, rtp_service: str, video_port: int = VIDEO_PORT, audio_port: int = AUDIO_PORT) -> None:
        """Starts the sender towards a bridge's RTP Service; returns when video reaches the receiver."""
        routes = [
            f"{inner + offset}={rtp_service}:{port + offset}"
            for inner, port in ((_INNER_VIDEO, video_port), (_INNER_AUDIO, audio_port))
            for offset in (0, 1)
        ]
        codec = self._stream.codec
        clip = f"{FOLDER}/clip.{codec.container}"
        wait = f"until [ -f {clip} ]; do sleep 0.1; done; "
        containers = [
            self._tap(routes),
            self._container("video", wait + _exec(ffmpeg.send_video(clip, f"127.0.0.1:{_INNER_VIDEO}", codec))),
            self._container("audio", wait + _exec(ffmpeg.send_audio(f"127.0.0.1:{_INNER_AUDIO}"))),
        ]
        self._kube.apply([self._pod(SENDER, containers)], self._namespace)
        self._wait_running(SENDER)
        self._kube.write_file(self._namespace, SENDER, "tap", clip, self._stream.path.read_bytes())
        wait_for("video at the receiver", self._video_arrived, 30, every_s=0.5)

    def _video_arrived(self) -> bool:
        packets = tap.read(self._tapped(RECEIVER))
        return any(packet.payload_type == ffmpeg.VIDEO_PAYLOAD_TYPE for packet in packets)

    def look(self) -> Seen:
        """Reads both taps. Costs a transfer of a few megabytes."""
        raw_sent, raw_received = self._tapped(SENDER), self._tapped(RECEIVER)  # in this order: what came was sent
        went, came = list(tap.read(raw_sent)), list(tap.read(raw_received))
        sent = measure.flow(went, ffmpeg.VIDEO_PAYLOAD_TYPE)
        start = sent.frames[0].timestamp
        clip = self._stream.clip
        return Seen(
            sent=sent,
            received=measure.flow(came, ffmpeg.VIDEO_PAYLOAD_TYPE, near=start),
            audio=measure.untouched(went, came, ffmpeg.AUDIO_PAYLOAD_TYPE),
            timeline=measure.Timeline(start, clip.ticks_per_frame, clip.frames),
            reports=sum(tap.count_other(raw_received, port + 1) for port in (VIDEO_PORT, AUDIO_PORT)),
        )

    def snapshot(self, seconds: float, folder: Path) -> Path:
        """The first `seconds` of the recording, which goes on."""
        grown = folder / "growing.mkv"
        grown.write_bytes(self._recording())
        return picture.cut(grown, seconds, folder / "snapshot.mkv")

    def finish(self, folder: Path) -> Path:
        """Ends the recording in order, then the sender; the whole recording."""
        for container in ("video", "audio"):
            self._interrupt(RECEIVER, container)
        wait_for("the end of the recording", lambda: self._ended(RECEIVER, "video"), 15, every_s=0.5)
        whole = folder / "recording.mkv"
        whole.write_bytes(self._recording())
        return whole

    def remove(self) -> None:
        """Deletes the pods and the Service."""
        selector = ",".join(f"{key}={value}" for key, value in _LABEL.items())
        self._kube.kubectl(
            "delete", "pods,services", "-n", self._namespace, "-l", selector, "--ignore-not-found", "--now"
        )

    def _tapped(self, pod: str) -> bytes:
        return self._kube.read_file(self._namespace, pod, "tap", f"{FOLDER}/packets.tap")

    def _recording(self) -> bytes:
        return self._kube.read_file(self._namespace, RECEIVER, "tap", f"{FOLDER}/video.mkv")

    def _interrupt(self, pod: str, container: str) -> None:
        command = ["exec", "-n", self._namespace, pod, "-c", container, "--", "sh", "-c", "kill -INT 1"]
        self._kube.kubectl(*command)

    def _status(self, pod: str) -> Obj:
        found = self._kube.get(f"/api/v1/namespaces/{self._namespace}/pods/{pod}") or {}
        return dict(found.get("status") or {})

    def _ended(self, pod: str, container: str) -> bool:
        states = {c["name"]: c["state"] for c in self._status(pod).get("containerStatuses", [])}
        return "terminated" in states.get(container, {})

    def _wait_running(self, pod: str) -> None:
        def running() -> bool:
            states = self._status(pod).get("containerStatuses", [])
            return bool(states) and all("running" in c["state"] for c in states)

        wait_for(f"pod {pod}", running, 60, seen=lambda: str(self._status(pod).get("containerStatuses", ""))[:300])

    def _object(self, version: str, kind: str, name: str, spec: Obj) -> Obj:
        metadata: dict[str, Any] = {"name": name, "labels": {**_LABEL, "app": name}}
        return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}

    def _pod(self, name: str, containers: Sequence[Obj]) -> Obj:
        return tool_pods.pod(name, containers, {**_LABEL, "app": name})

    def _tap(self, routes: Sequence[str]) -> Obj:
        command = ["python3", "/opt/auralink/tap.py", "--out", f"{FOLDER}/packets.tap", *routes]
        return self._container("tap", _exec(command))

    def _container(self, name: str, script: str) -> Obj:
        return tool_pods.container(name, self._image, script)


def _exec(command: Sequence[str]) -> str:
    return "exec " + shlex.join(command)


def _record(kind: str, port: int, codec: Codec) -> str:
    sdp, out = f"{FOLDER}/{kind}.sdp", f"{FOLDER}/{kind}.mkv"
    return f"printf %s {shlex.quote(ffmpeg.sdp(kind, port, codec))} > {sdp} && {_exec(ffmpeg.record(sdp, out, codec))}"
