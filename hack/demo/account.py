"""What a demo has measured and claimed so far, and what its acts work with."""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

from hack.lab import clip, kube, report
from hack.lab.bridge import AICore, Bridge
from hack.lab.report import Row
from hack.lab.stage import Stage
from hack.progress import say

REPORT = kube.ROOT / "build" / "demo" / "report.json"
KEY_EVERY_S = 2.0


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


class Account:
    """What was measured so far: shown as it comes, or at the end as JSON, and written down however the demo ends."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._json: bool = options.json
        self._shown = 0
        self.clip: Path | None = options.clip
        self.codec: str = options.codec
        self.height: int | None = options.height
        self.rows: list[Row] = []
        self.conditions = report.conditions(str(self.clip or "the default clip"))

    def begin(self, scene: Scene) -> None:
        stream = scene.stream
        sender = f"{stream.codec.encoder[0]} {stream.bitrate_kbps:.0f} kb/s, key every {KEY_EVERY_S:g} s"
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


def zero(name: str, what: str, count: int, note: str = "") -> Row:
    return Row(name, what, count, "", "0", count == 0, note)


def step(number: int, text: str) -> None:
    say(f"{number} of 7: {text}")


def pause(seconds: float, meanwhile: str) -> None:
    """Waits, and says so every ten seconds."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        say(f"{meanwhile}, {left:.0f} s to go")
        time.sleep(min(10.0, left))
