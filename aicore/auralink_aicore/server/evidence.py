"""Takes answers into the evidence, and sessions' samples to the scorer; on the server's loop, never in a frame's way.

A session is sampled where the AI Core was told AICORE_EVIDENCE=vmaf and the session's policy leaves that open
(`collect` unset: the server's default) or asks for it (PAIRS). Nothing of a sample outlives its score.
"""

import asyncio
import functools
import logging
import time
from typing import Any, Final

from auralink_pb.aicore.v1 import aicore_pb2 as pb

from auralink_aicore.codecs import Codec
from auralink_aicore.evidence.report import QUALITY_UNKNOWN, Report
from auralink_aicore.evidence.sampling import Sample, Sampling, Score
from auralink_aicore.evidence.scorer import Job, Outcome, Scorer, with_libvmaf
from auralink_aicore.metrics import Metrics
from auralink_aicore.server.call import Call
from auralink_aicore.settings import Evidence as Level
from auralink_aicore.transcoder import Disposition, Result
from auralink_aicore.worker.wire import Timed

log = logging.getLogger(__name__)

GATHERED: Final = 2  # sessions that may gather a sample at a time: bounds what is held
SAMPLED: Final = (pb.COLLECT_UNSPECIFIED, pb.COLLECT_PAIRS)


class Evidence:
    """All sessions'."""

    def __init__(self, metrics: Metrics, level: Level, ffmpeg: str) -> None:
        """`ffmpeg`: to be tried for VMAF."""
        self.report = Report() if level is not Level.OFF else None
        self._scorer = Scorer(self._outcome) if level is Level.VMAF else None
        self._ffmpeg = ffmpeg
        self._metrics = metrics
        self._gathering: set[Call] = set()
        self._task: asyncio.Task[None] | None = None
        # Looking a label up takes as long as everything else a frame costs the metrics.
        self._psnr = {codec: metrics.psnr_db.labels(codec.name) for codec in Codec}

    def start(self) -> None:
        """Begin; nothing waits for it."""
        if self._scorer is not None:
            self._task = asyncio.create_task(self._run(self._scorer), name="scorer")

    async def _run(self, scorer: Scorer) -> None:
        """Find out what can be computed, say so, and score."""
        if await with_libvmaf(self._ffmpeg):
            scorer.ffmpeg = self._ffmpeg
            log.info("samples are scored", extra={"by": "VMAF, PSNR, SSIM", "ffmpeg": self._ffmpeg})
        else:
            lacking = {"by": "PSNR, SSIM", "ffmpeg": self._ffmpeg, "remedy": "AICORE_FFMPEG: an FFmpeg with libvmaf"}
            log.warning("samples are scored without VMAF", extra=lacking)
        await scorer.run()

    async def stop(self) -> None:
        """End the scorer, and what it is at."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def opened(self, call: Call, collect: pb.Collect.ValueType) -> None:
        """A session begins."""
        if self.report is not None and call.room:
            self.report.opened(call.room, call.load.codec.name)
        self.allowed(call, collect)

    def allowed(self, call: Call, collect: pb.Collect.ValueType) -> None:
        """By its policy, now."""
        wanted = self._scorer is not None and call.room is not None and collect in SAMPLED
        if wanted and call.sampling is None:
            call.sampling = Sampling(call.load.codec)
        elif not wanted:
            self.closed(call)

    def closed(self, call: Call) -> None:
        """It is sampled no more."""
        call.sampling = None
        self._gathering.discard(call)

    def answered(self, call: Call, timed: Timed, source_bytes: int, pair: tuple[bytes, bool] | None) -> None:
        """One answer; `pair`: the sender's frame and whether it is a key, None where there is none of its own."""
        result = timed.result
        if result.disposition is Disposition.COMPRESSED:
            if result.psnr_db is not None:
                self._psnr[call.load.codec].observe(result.psnr_db)
            if self.report is not None and call.room and source_bytes:
                self.report.compressed(
                    call.room,
                    call.load.codec.name,
                    bytes_in=source_bytes,
                    bytes_out=len(result.payload),
                    psnr_db=result.psnr_db,
                    quality=result.quality,
                )
        if call.sampling is not None:
            self._sample(call, call.sampling, result, pair)

    def _sample(self, call: Call, sampling: Sampling, result: Result, pair: tuple[bytes, bool] | None) -> None:
        now, scorer = time.monotonic(), self._scorer
        if scorer is None or call.room is None:
            return
        if pair is None or result.disposition is not Disposition.COMPRESSED:
            sample = sampling.cut(now)
        else:
            senders, key = pair
            free = len(self._gathering) < GATHERED and scorer.has_room()
            if free and sampling.wants(now, senders_key=key, our_key=result.key):
                sampling.begin()
                self._gathering.add(call)
            loss = None if result.quality == QUALITY_UNKNOWN else 100 - result.quality / 10
            sample = sampling.took(now, senders, result.payload, loss)
        if not sampling.running:
            self._gathering.discard(call)
        if sample is not None:
            scorer.submit(Job(sample, functools.partial(self._scored, call.room)))

    def _scored(self, room: tuple[str, str], sample: Sample, score: Score) -> None:
        codec = sample.codec.name
        if score.vmaf is not None:
            self._metrics.vmaf.labels(codec).observe(score.vmaf)
        if self.report is not None:
            self.report.scored(room, codec, score, sample.predicted_loss)

    def _outcome(self, outcome: Outcome) -> None:
        self._metrics.samples.labels(outcome.value).inc()

    def told(self) -> dict[str, Any] | None:
        """What `/evidence` says; None where it is off."""
        if self.report is None:
            return None
        scored_by = None if self._scorer is None else ["psnr", "ssim"] + ["vmaf"] * (self._scorer.ffmpeg is not None)
        return {"against": "the sender's pictures", "samples_scored_by": scored_by, "rooms": self.report.told()}
