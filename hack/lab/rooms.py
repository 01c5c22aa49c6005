"""A bridge with many plain-RTP rooms over several pods, a crowd that is live in all of them, and what moves rooms:
scaling, rollouts, evictions, an operator that dies. Used by the end-to-end tests and the benchmark of dropped sessions.
"""

import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import av

from hack.lab import clip, picture, tool_pods
from hack.lab.bridge import Bridge
from hack.lab.crowd import PAYLOAD_TYPE, Happened, read
from hack.lab.kube import (
    SYSTEM_NAMESPACE,
    Kube,
    KubeError,
    Obj,
    bridge_path,
    deployment_path,
    pods_path,
    wait_for,
)
from hack.lab.moves import Figures, Story, figures, stories

NAME, CROWD = "rooms", "crowd"
FPS = 15
KEY_EVERY_S = 1.0
LISTEN_PORT, RECEIVE_PORT = 20000, 30000
SILENCE_S = 3.0
"""What is watched after a scenario: receivers that go on do so here."""


def bridge(rooms: int, replicas: int) -> Obj:
    """Compression is off: this is about who serves, and two cores serve many. The even rooms' senders take PLI, the
    odd ones', like FFmpeg, do not."""
    return {
        "apiVersion": "auralink.io/v1alpha1",
        "kind": "AuraLinkBridge",
        "metadata": {"name": NAME},
        "spec": {
            "replicas": replicas,
            "compression": {"mode": "Disabled"},
            "drain": {"timeoutSeconds": 60, "propagationSeconds": 3},
            "resources": {"requests": {"cpu": "150m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}},
            "rooms": [_room(number) for number in range(rooms)],
        },
    }


def room_name(number: int) -> str:
    return f"room-{number:02}"


def _room(number: int) -> Obj:
    def leg(name: str, direction: str, **medium: object) -> Obj:
        video = {"payloads": [{"type": PAYLOAD_TYPE, "codec": "H264", "fmtp": "packetization-mode=1"}], **medium}
        rtp = {"video": video, "rtcpMux": True, "feedback": "None" if number % 2 else "AVPF"}
        return {"name": name, "direction": direction, "rtp": rtp}

    return {
        "name": room_name(number),
        "legs": [
            leg("in", "Receive", listenPort=LISTEN_PORT + 2 * number),
            leg("out", "Send", remote=f"{CROWD}:{RECEIVE_PORT + 2 * number}"),
        ],
    }


def crowd_clip() -> bytes:
    """Five seconds of the default clip, small and at low rate, a key every second; what `crowd --clip` reads."""
    encode = [
        *("-an", "-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-bf", "0"),
        *("-b:v", "120k", "-maxrate", "120k", "-bufsize", "120k", "-g", str(round(FPS * KEY_EVERY_S))),
        *("-sc_threshold", "0", "-x264-params", "repeat-headers=1", "-pix_fmt", "yuv420p"),
    ]
    with tempfile.TemporaryDirectory() as work:
        made = Path(work) / "crowd.h264"
        source = [str(clip.ffmpeg()), "-nostdin", "-v", "error", "-i", str(clip.default_clip().path), "-t", "5"]
        subprocess.run([*source, "-vf", f"scale=320:180,fps={FPS}", *encode, str(made)], check=True, timeout=120)
        with av.open(str(made)) as container:
            pictures = [bytes(packet).hex() for packet in container.demux(video=0) if packet.size]
    return json.dumps({"fps": FPS, "pictures": pictures}).encode()


@dataclass(frozen=True, slots=True)
class Rooms:
    """The stage: call `start`, then whatever moves rooms inside `watching`; `remove` at the end."""

    kube: Kube
    namespace: str
    image: str  # the media tools
    count: int = 12
    replicas: int = 3

    @property
    def bridge(self) -> Bridge:
        return Bridge(self.kube, self.namespace, NAME, policy="")

    def start(self) -> None:
        """Returns when every receiver gets pictures."""
        self.kube.apply([self._service(), self._pod()], self.namespace)
        self.kube.apply([bridge(self.count, self.replicas)], self.namespace)
        self.bridge.wait_ready()
        wait_for("the crowd's pod", self._crowd_runs, 60, 0.5)
        self.kube.write_file(self.namespace, CROWD, "crowd", "/data/clip.json", crowd_clip())
        wait_for("a picture in every room", lambda: self._all_live(self.look()), 60, 1.0, self._who_lacks)
        self.wait_settled(self.replicas)

    def spread(self) -> None:
        """Every pod has rooms. They stay with the pod that they moved to, so a bridge that has been through much is
        made anew."""
        if all(self.rooms_of_pods().values()):
            return
        self.kube.kubectl("delete", "auralinkbridge", NAME, "-n", self.namespace, "--timeout=60s", timeout_s=70)
        wait_for("the end of the bridge's objects", lambda: not self.bridge.remains(), 60, 0.5, self._pods_now)
        self.kube.apply([bridge(self.count, self.replicas)], self.namespace)
        self.bridge.wait_ready()
        self.wait_settled(self.replicas)
        self.kube.kubectl("exec", "-n", self.namespace, CROWD, "-c", "crowd", "--", "sh", "-c", "kill -HUP 1")
        wait_for("a picture in every room", lambda: self._all_live(self.look()), 60, 1.0, self._who_lacks)

    def remove(self) -> None:
        self.kube.kubectl("delete", "pod,service", CROWD, "-n", self.namespace, "--ignore-not-found", "--now")

    # --- looking ------------------------------------------------------------------------------------------------

    def look(self) -> list[Happened]:
        return list(read(self.kube.read_file(self.namespace, CROWD, "crowd", "/data/crowd.log")))

    def owners(self) -> dict[str, str]:
        """The operator's word: room -> pod."""
        found = self.kube.get(f"/api/v1/namespaces/{self.namespace}/configmaps/auralink-{NAME}-config")
        return dict(json.loads(found["data"]["owners.json"])) if found else {}

    def rooms_of_pods(self) -> dict[str, int]:
        """How many rooms each pod has that is not on its way out."""
        owners = list(self.owners().values())
        return {pod["metadata"]["name"]: owners.count(pod["metadata"]["name"]) for pod in self.bridge.pods()}

    def sessions_of_pods(self) -> dict[str, int]:
        """What the status says, in buckets."""
        return {one["name"]: int(one["sessions"]) for one in self.bridge.status().get("pods") or []}

    @contextlib.contextmanager
    def watching(self) -> "Iterator[list[Story]]":
        """The list is filled at the end: what became of each receiver from here to there."""
        told: list[Story] = []
        began_ns = time.time_ns()
        yield told
        time.sleep(SILENCE_S)
        happened = self.look()
        told += stories(happened, self.count, began_ns, max(one.at_ns for one in happened))

    def decode(self) -> dict[str, picture.Decoded]:
        """Everything that each receiver has got, by a decoder that forgives nothing."""
        found = {}
        with tempfile.TemporaryDirectory() as work:
            for number in range(self.count):
                recording = Path(work) / f"{room_name(number)}.h264"
                recording.write_bytes(self.kube.read_file(self.namespace, CROWD, "crowd", f"/data/{recording.name}"))
                found[room_name(number)] = picture.decode_strictly(recording)
        return found

    # --- what moves rooms ---------------------------------------------------------------------------------------

    def scale(self, replicas: int) -> None:
        self.kube.merge(bridge_path(self.namespace, NAME), {"spec": {"replicas": replicas}})
        self.wait_settled(replicas)

    def roll(self) -> None:
        """A change of the pod itself: every pod is replaced."""
        before = set(self.bridge.lives())
        stamp = {"spec": {"pod": {"annotations": {"example.test/rolled-at": str(time.time_ns())}}}}
        self.kube.merge(bridge_path(self.namespace, NAME), stamp)
        wait_for("every pod to be a new one", lambda: not before & set(self.bridge.lives()), 240, 1.0, self._pods_now)
        self.wait_settled(self.replicas)

    def evict_all(self) -> int:
        """What a node drain does, one pod after the other, by the eviction API: on one node the whole would leave no
        place for the new pods. Returns how often the disruption budget said not yet."""
        refused = 0
        for pod in [one["metadata"]["name"] for one in self.bridge.pods()]:
            deadline = time.monotonic() + 120
            while not self._evicted(pod):
                refused += 1
                if time.monotonic() > deadline:
                    raise KubeError(f"pod {pod} could not be evicted in two minutes")
                time.sleep(1)
        self.wait_settled(self.replicas)
        return refused

    def _evicted(self, pod: str) -> bool:
        path = f"{pods_path(self.namespace)}/{pod}/eviction"
        metadata = {"name": pod, "namespace": self.namespace}
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
        try:
            self.kube.request("POST", path, body)
        except KubeError as error:
            if ": 429 " in str(error):
                return False
            raise
        return True

    def kill_operator(self) -> None:
        """At once, without a chance to say goodbye; returns when a new one is there."""
        selector = "app.kubernetes.io/component=operator"
        before = {pod["metadata"]["uid"] for pod in self.kube.items(pods_path(SYSTEM_NAMESPACE, selector))}
        if not before:
            raise KubeError(f"no operator pod in {SYSTEM_NAMESPACE}")
        self.kube.kubectl("delete", "pod", "-n", SYSTEM_NAMESPACE, "-l", selector, "--grace-period=0", "--force")

        def back() -> bool:
            pods = self.kube.items(pods_path(SYSTEM_NAMESPACE, selector))
            new = [pod for pod in pods if pod["metadata"]["uid"] not in before]
            return bool(new) and all(_is_ready(pod) for pod in new)

        wait_for("a new operator", back, 120, 0.5)

    def wait_settled(self, replicas: int) -> None:
        """So many ready pods, none on its way out, and every room with one of them."""

        def settled() -> bool:
            pods = self.kube.items(pods_path(self.namespace, f"auralink.io/bridge={NAME}"))
            ready = {pod["metadata"]["name"] for pod in pods if _is_ready(pod)}
            deployment = self.kube.get(deployment_path(self.namespace, f"auralink-{NAME}")) or {"spec": {}}
            owners = self.owners()
            return (
                len(pods) == len(ready) == deployment["spec"].get("replicas") == replicas
                and len(owners) == self.count
                and set(owners.values()) <= ready
            )

        wait_for(f"{replicas} pods that have all rooms", settled, 180, 0.5, self._pods_now)

    # --- inside -------------------------------------------------------------------------------------------------

    def _all_live(self, happened: list[Happened]) -> bool:
        now_ns = max((one.at_ns for one in happened), default=0)
        told = stories(happened, self.count, now_ns - 1_500_000_000, now_ns)
        return bool(happened) and all(story.pictures > FPS for story in told)

    def _who_lacks(self) -> str:
        happened = self.look()
        now_ns = max((one.at_ns for one in happened), default=0)
        told = stories(happened, self.count, now_ns - 1_500_000_000, now_ns)
        return f"pictures {[story.pictures for story in told]}; {self.bridge.describe()}"

    def _pods_now(self) -> str:
        pods = self.kube.items(pods_path(self.namespace, f"auralink.io/bridge={NAME}"))
        lines = [
            f"{pod['metadata']['name']}{'' if _is_ready(pod) else ' not ready'}"
            f"{' going' if 'deletionTimestamp' in pod['metadata'] else ''}"
            for pod in pods
        ]
        return f"{', '.join(lines)}; owners {self.owners()}; {self.bridge.describe()}"

    def _crowd_runs(self) -> bool:
        found = self.kube.get(f"{pods_path(self.namespace)}/{CROWD}") or {}
        states = (found.get("status") or {}).get("containerStatuses", [])
        return bool(states) and all("running" in one["state"] for one in states)

    def _service(self) -> Obj:
        """Without an address of its own: the name is the pod's."""
        spec = {"clusterIP": "None", "selector": {"app": CROWD}, "publishNotReadyAddresses": True}
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": CROWD}, "spec": spec}

    def _pod(self) -> Obj:
        command = (
            f": > /data/crowd.log; "
            f"until [ -f /data/clip.json ] && getent hosts auralink-{NAME}-rtp >/dev/null; do sleep 0.2; done; "
            f"exec python3 /opt/auralink/crowd.py --clip /data/clip.json --rooms {self.count} --folder /data"
            f" --target auralink-{NAME}-rtp --target-port {LISTEN_PORT} --port {RECEIVE_PORT}"
        )
        crowd = tool_pods.container("crowd", self.image, command, cpu="150m", memory_limit="256Mi")
        return tool_pods.pod(CROWD, [crowd], {"app": CROWD, "app.kubernetes.io/part-of": "auralink-lab"}, grace_s=1)


def _is_ready(pod: Obj) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


SCENARIOS: Mapping[str, Callable[[Rooms], object]] = {
    "scale_down": lambda rooms: rooms.scale(rooms.replicas - 1),
    "scale_up": lambda rooms: rooms.scale(rooms.replicas),
    "rollout": Rooms.roll,
    "node_drain": Rooms.evict_all,
    "operator_killed": Rooms.kill_operator,
}
"""In an order in which each finds what it needs: `replicas` pods, but for the second."""


def measure(rooms: Rooms) -> dict[str, Figures]:
    """What each scenario costs the crowd, one after the other on one stage. `dropped` is the promised zero."""
    found = {}
    for name, act in SCENARIOS.items():
        with rooms.watching() as told:
            act(rooms)
        found[name] = figures(told)
    return found
