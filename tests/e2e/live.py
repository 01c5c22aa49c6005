"""What the tests of a live stream are given."""

import time
from dataclasses import dataclass

from hack.lab import clip, measure
from hack.lab.bridge import AICore, Bridge
from hack.lab.stage import Seen, Stage


@dataclass(frozen=True, slots=True)
class Live:
    """The quick start with a sender and a receiver on either side."""

    bridge: Bridge
    ai_core: AICore
    stage: Stage
    stream: clip.SenderStream

    def watch(self, seconds: float) -> tuple[Seen, measure.Crossing]:
        """What crosses the bridge in the next seconds; the last quarter second of the stream is left out."""
        began_ns = time.time_ns()
        time.sleep(seconds)
        seen = self.stage.look()
        during = [f.timestamp for f in seen.sent.frames if f.last_left_ns >= began_ns]
        last = seen.received.frames[-1].timestamp - round(0.25 * clip.RTP_VIDEO_HZ)
        return seen, measure.crossing(seen.sent, seen.received, during[0], last)

    def watch_undisturbed(self, seconds: float) -> tuple[Seen, measure.Crossing]:
        """The same; again, at most twice, where the AI Core had too little CPU: frames went native or were skipped."""
        for _ in range(3):
            time.sleep(6)  # the controller looks back five seconds
            seen, crossed = self.watch(seconds)
            if crossed.undisturbed:
                break
            self.bridge.wait_mode("compress", timeout_s=60)
        return seen, crossed
