"""`make demo`: a bridge between a live sender and a receiver, shown step by step and measured from outside.

Every line of the tables is a measurement of this run, and every claim is checked: the demo ends with exit code 1 and
says which one is false. Progress goes to stderr, results to stdout, so `--json` gives a clean document. A demo that
fails reports what it measured until then.
"""

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from hack.demo import compressed
from hack.demo.account import KEY_EVERY_S, REPORT, Account, ClaimError, Scene, step
from hack.lab import clip, kube
from hack.lab.bridge import QUICKSTART, AICore, Bridge, install
from hack.lab.codec import CODECS, H264
from hack.lab.ffmpeg import VIDEO_PAYLOAD_TYPE
from hack.lab.report import Row
from hack.lab.stage import Stage
from hack.progress import say

NAMESPACE = "auralink-demo"
SMALL_HEIGHT = 360  # where one core has time for every codec


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make demo", description="Show and measure a bridge at work.")
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON on stdout, nothing else")
    parser.add_argument("--keep", action="store_true", help="leave the bridge, the sender and the receiver running")
    parser.add_argument("--codec", choices=CODECS, default=H264.name, help="of the video (default: %(default)s)")
    parser.add_argument("--clip", type=Path, help="a video of your own instead of the default clip")
    parser.add_argument("--height", type=int, help=f"of the pictures (default: {H264.name} the clip's own, others 360)")
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


def show(account: Account, work: Path) -> Scene:
    step(1, "a Kubernetes cluster, and the images on it")
    make("cluster", "images")
    scene = prepare(account, work)
    account.begin(scene)
    step(2, "helm install of charts/auralink: CRDs, operator, reference AI Core")
    install(scene.kube, kube.images())
    scene.ai_core.scale(1)  # an interrupted demo may have left it at zero
    scene.ai_core.wait_ready(1)
    codec = scene.stream.codec
    instead = "" if codec is H264 else f", with {codec.name} in place of {H264.name}"
    step(3, f"kubectl apply -f {QUICKSTART.relative_to(kube.ROOT)}{instead}")
    account.rows += apply(scene)
    account.show()
    compressed.show(account, scene)
    return scene


def prepare(account: Account, work: Path) -> Scene:
    os.nice(10)  # from here on this process only looks on; what it looks at comes first
    shown = clip.probe(account.clip) if account.clip else clip.default_clip()
    codec = CODECS[account.codec]
    if height := account.height or (0 if codec is H264 else SMALL_HEIGHT):
        shown = clip.scaled(shown, height)
    stream = clip.sender_stream(shown, kbps_for(shown), key_every_s=KEY_EVERY_S, codec=codec)
    cluster = kube.Kube(kube.access())
    bridge = Bridge.of_example(cluster, NAMESPACE)
    stage = Stage(cluster, NAMESPACE, kube.images()["media-tools"], stream)
    return Scene(cluster, bridge, AICore(cluster), stage, stream, work)


def kbps_for(shown: clip.Clip) -> int:
    """What a well-fed sender spends: 4 Mb/s at 720p, 1.5 at 360p, for smaller pictures need more bits a pixel."""
    return 100 * round(40 * math.pow(shown.width * shown.height / (1280 * 720), 0.7))


def apply(scene: Scene) -> list[Row]:
    scene.kube.namespace(NAMESPACE)
    leave_nothing(scene)
    scene.stage.receive()  # first, so that the name of the bridge's peer resolves
    started = time.monotonic()
    scene.kube.apply(speaking(scene.stream.codec.name), NAMESPACE)
    scene.bridge.wait_ready()
    took = time.monotonic() - started
    return [Row("apply_to_ready", "from kubectl apply to Ready", took, "s", "< 60", took < 60)]


def speaking(codec: str) -> Path | list[kube.Obj]:
    """The example as it is, or with another video codec on each leg."""
    if codec == H264.name:
        return QUICKSTART
    documents = list(yaml.safe_load_all(QUICKSTART.read_text()))
    for leg in (leg for document in documents for room in rooms_of(document) for leg in room["legs"]):
        leg["rtp"]["video"]["payloads"] = [{"type": VIDEO_PAYLOAD_TYPE, "codec": codec}]
    return documents


def rooms_of(document: kube.Obj) -> list[kube.Obj]:
    return list(document["spec"]["rooms"]) if document["kind"] == "AuraLinkBridge" else []


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


if __name__ == "__main__":
    sys.exit(main())
