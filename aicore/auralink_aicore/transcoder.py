"""One video stream: encoded frames in, exactly one result for each out, same codec.

Used by `worker`, one `Transcoder` per session. What goes out must always decode, so the rules are about references:
after anything that breaks the chain on either side (a frame that does not decode, a gap in the ids, a change of size,
frames that were only watched) the next frame we send is a key of our own, and until the sender's chain is whole
again nothing is sent at all. Native and recompressed frames change places only at keys:

- UNCHANGED after COMPRESSED only at a native key, and then until a SHADOW frame was seen;
- COMPRESSED after UNCHANGED only as a key.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import av
import av.error
from av.video.frame import VideoFrame

from auralink_aicore.allocator import Curves
from auralink_aicore.asking import NOTHING, Ask, Asking, Standing
from auralink_aicore.codecs import MAX_PIXELS, MIN_SIDE, SERVED, Codec, Limits
from auralink_aicore.codecs.interface import AccessUnit, BitstreamError, Encoder, EncoderError, OutputFormat
from auralink_aicore.controller import Controller, Governor, Policy, Sample, Worth
from auralink_aicore.insight import Insight
from auralink_aicore.model import Model, StreamCurves, packaged

BAD_KEYS_ALLOWED = 2  # the third in a row is a sender we do not understand
FORMAT_CHANGE_EVERY_S = 1.0
B_FRAMES_SHOW_IN = 30  # pictures, where the parameter set allows them

FLAG_KEY = 0x02
FLAG_FLOOR_BINDS = 0x08
FLAG_SCREEN = 0x10
FLAG_DEGRADED = 0x20
FLAG_SKIPPED_BEFORE = 0x40

QUALITY_NATIVE = 1000


class Mode(IntEnum):
    """Numbered as on the wire."""

    COMPRESS = 1
    SHADOW = 2


class Disposition(IntEnum):
    """Numbered as on the wire."""

    COMPRESSED = 1
    UNCHANGED = 2
    SKIPPED = 3
    FAILED = 4


class Advice(IntEnum):
    """Numbered as on the wire."""

    KEEP = 1
    COMPRESS = 2
    NATIVE = 3


@dataclass(frozen=True, slots=True)
class Session:
    """What a stream was opened with."""

    codec: Codec
    policy: Policy
    limits: Limits
    screen: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """One encoded frame as it came."""

    frame_id: int
    payload: bytes
    key: bool
    mode: Mode
    arrived_s: float  # both times are of the transcoder's clock
    deadline_s: float  # infinite for none


@dataclass(slots=True)
class Result:
    """The answer to one frame; the header fields are those of the 16 bytes it will carry."""

    frame_id: int
    disposition: Disposition
    payload: bytes = b""
    key: bool = False
    ratio: int = 0
    quality: int = QUALITY_NATIVE
    model_hash: int = 0
    flags: int = 0
    advice: Advice = Advice.KEEP
    reason: str = ""
    need_key: bool = False
    ask: Ask = NOTHING  # of the sender
    psnr_db: float | None = None  # of ours against the decoded picture of the sender's; None where it is not told


@dataclass(frozen=True, slots=True)
class Report:
    """What a room's allocation has to know of one of its streams."""

    source_rate: float  # bytes per second
    target: float  # T by its policy
    allowed_loss: float  # L
    ln_bytes: tuple[float, ...]  # of bytes per second, over ascending quantisers
    loss: tuple[float, ...]  # points of VMAF


Judge = Callable[[int, int, Policy], str]
"""(width, height, policy) -> why this host cannot serve such a stream in time; empty when it can."""


class Transcoder:
    """Decoder, encoder and controller of one session; one thread only."""

    def __init__(
        self,
        session: Session,
        clock: Callable[[], float],
        cores: int = 1,
        judge: Judge = lambda *_: "",
        model: Model | None = None,
    ) -> None:
        """`cores`: how many may work on one picture; `model`: None for the packaged one."""
        self._session = session
        self._clock = clock
        self._cores = cores
        self._judge = judge
        self._judged = (0, 0)
        self._too_slow = ""  # for good, unless the policy changes
        self._refusing = False
        self._stream = SERVED[session.codec](session.limits)
        self._encoder: Encoder | None = None
        self._insight = Insight(model or packaged(), session.codec.name, screen=session.screen)
        self._decoder = self._open_decoder()
        curve = self._insight.model.curves[session.codec.name]
        self._controller = Controller(curve, session.policy, screen=session.screen)
        self._policy = session.policy
        self._worth = Worth(session.policy)
        self._asking = Asking()
        self._governor = Governor(levels=self._stream.cheaper_levels)
        self._last_id: int | None = None
        self._synced = False  # the decoder has every reference it needs
        self._renew = False  # the decoder, at the next key: it met damage, or another model wants to know more
        self._bad_keys = 0
        self._want_key = True  # what we send next must be a key
        self._native = False  # we said UNCHANGED; so until SHADOW
        self._ours = False  # the last frame the receivers got was ours
        self._skipped_last = False
        self._skipped_before = False
        self._failed = ""
        self._failed_by_input = False
        self._refused = ""  # why the latest key's picture is not served, though its parameter set promised it was
        self._b_frames = False
        self._pictures = 0
        self._output: OutputFormat | None = None  # what the latest picture has to be encoded as
        self._output_since_s = -math.inf
        self._picture: VideoFrame | None = None
        self._picture_id = 0

    @property
    def pixels(self) -> int:
        """Of the stream's pictures; 0 before the first parameter set."""
        width, height = self._stream.size
        return width * height

    @property
    def refused(self) -> bool:
        """Whether its frames are answered without decoding them, and so cost nothing."""
        return self._refusing

    def close(self) -> None:
        """Free the codecs."""
        if self._encoder is not None:
            self._encoder.close()
            self._encoder = None

    def fail(self, frame_id: int, reason: str, *, bad_input: bool = False) -> Result:
        """End this session's service: this frame and every later one is FAILED.

        With `bad_input` it asks for a key too: that is how the caller tells the sender's fault from ours.
        """
        self._failed, self._failed_by_input = reason, bad_input
        self.close()
        return Result(frame_id, Disposition.FAILED, reason=reason, need_key=bad_input)

    def force_key(self) -> None:
        """A receiver lost its references: our next frame is a key."""
        self._want_key = True

    def apply(self, policy: Policy) -> None:
        """In force from the next frame on."""
        self._policy = policy
        self._controller.apply(policy)
        self._worth.apply(policy)
        self._too_slow, self._judged = "", (0, 0)

    def use(self, model: Model) -> None:
        """Another model, from the next window on."""
        self._insight.use(model)

    def share(self, target: float | None) -> None:
        """T by the room's allocation, from the next frame on; None: the policy's."""
        self._controller.share(target)

    def report(self) -> Report | None:
        """For the room's allocation; None while nothing is being compressed."""
        source_rate = self._worth.source_bps() / 8
        table, prediction = self._controller.table_curves(), self._insight.prediction
        if table is None or not self._ours or not source_rate:
            return None
        curves: Curves = table if prediction is None else StreamCurves(prediction, table.q, table.byte_rate)
        candidates = self._controller.candidates()
        return Report(
            source_rate=source_rate,
            target=self._policy.target_savings,
            allowed_loss=self._policy.allowed_loss(screen=self._session.screen),
            ln_bytes=tuple(math.log(max(curves.bytes_at(q), 1.0)) for q in candidates),
            loss=tuple(curves.loss_at(q) for q in candidates),
        )

    def promote(self) -> Result:
        """The last decoded picture as a key, under its own id: this session takes over from another."""
        if self._failed:
            return self.fail(self._picture_id, self._failed, bad_input=self._failed_by_input)
        if self._picture is None or not self._synced:
            return Result(self._picture_id, Disposition.SKIPPED, reason="no picture to promote", need_key=True)
        self._native = False
        self._want_key = self._ours = True
        return self._encode_or_fail(self._picture, self._picture_id, source_bytes=0, source_key=True)

    def receive(self, frame: Frame) -> Result:
        """Answer one frame."""
        result = self._answer(frame)
        if frame.mode is Mode.SHADOW and result.disposition is not Disposition.FAILED:
            result.disposition = Disposition.UNCHANGED
        if result.disposition is not Disposition.SKIPPED:
            self._ours = result.disposition is Disposition.COMPRESSED
        if result.advice is Advice.KEEP:
            result.advice, reason = self._advise(frame)
            result.reason = result.reason or reason
        if result.disposition is not Disposition.FAILED:
            result.ask = self._ask(frame)
        return result

    def _ask(self, frame: Frame) -> Ask:
        now, policy = self._clock(), self._policy
        slow = self._governor.resting(now) and not policy.always
        standing = Standing(
            recompresses_well=self._session.codec is Codec.H264,
            target=policy.target_savings,
            limit_bps=policy.max_bitrate_bps,
            pixels=self.pixels,
            unserved=slow or self._b_frames or bool(self._too_slow),
            screen=self._session.screen,
        )
        return self._asking.saw(now, len(frame.payload), standing)

    def _advise(self, frame: Frame) -> tuple[Advice, str]:
        now = self._clock()
        if self._b_frames:
            return Advice.NATIVE, "the stream has B-frames"
        if self._governor.resting(now) and not self._policy.always:
            return Advice.NATIVE, "no time to compress within the budget"
        if frame.mode is Mode.SHADOW:
            known = self._synced and not (self._stream.may_reorder and self._pictures < B_FRAMES_SHOW_IN)
            return (Advice.COMPRESS, "") if known and self._worth.advise_go(now) else (Advice.KEEP, "")
        if self._ours and self._worth.advise_no_go(now, self._controller.predicted_saving(now)):
            return Advice.NATIVE, "too little to save"
        return Advice.KEEP, ""

    def _answer(self, frame: Frame) -> Result:
        if self._failed:
            return self.fail(frame.frame_id, self._failed, bad_input=self._failed_by_input)
        if frame.mode is Mode.SHADOW:
            self._native = False
            self._want_key = True
        if self._last_id is not None and frame.frame_id != self._last_id + 1:
            self._synced = False
        self._last_id = frame.frame_id
        try:
            unit = self._stream.read(frame.payload)
        except BitstreamError as error:
            return self._lost_sync(frame, key=frame.key, reason=str(error))
        if unit.key:
            self._refused = ""
            self._judge_size()
        refused = unit.refused or self._refusal_of_size(*self._stream.size) or self._refused or self._too_slow
        self._refusing = bool(refused)
        if refused:
            return self._refuse(frame, unit, refused)
        if frame.key and not unit.key:
            return self._lost_sync(frame, key=True, reason="marked as a key, but it is none")
        if not self._synced and not unit.key:
            return self._unsynced(frame, "waiting for a key")
        try:
            picture = self._decode(unit)
        except av.error.FFmpegError as error:
            self._renew = True
            return self._lost_sync(frame, key=unit.key, reason=f"does not decode: {error.strerror}")
        return self._compress(frame, unit, picture)

    def _judge_size(self) -> None:
        """The size is often known from a key only, and then it may be too much for this host."""
        if self._stream.size != self._judged and not self._too_slow:
            self._judged = self._stream.size
            self._too_slow = self._judge(*self._judged, self._policy)

    def _compress(self, frame: Frame, unit: AccessUnit, picture: VideoFrame | None) -> Result:
        if picture is not None:
            refused = self._stream.refusal_of(picture) or self._refusal_of_size(picture.width, picture.height)
            if refused:
                self._refused = refused
                return self._refuse(frame, unit, refused)
        if picture is not None and picture.is_corrupt:
            self._renew = True
            return self._lost_sync(frame, key=unit.key, reason="the picture is damaged")
        if unit.key:
            self._synced = True
            self._bad_keys = 0
        if unit.bidirectional:
            self._b_frames = True
            picture = None
        if picture is not None:
            if not self._is_steady(picture) and frame.mode is Mode.COMPRESS:
                return self.fail(
                    frame.frame_id, "the picture changes its format more than once a second", bad_input=True
                )
            self._picture, self._picture_id = picture, frame.frame_id
            self._pictures += 1
            self._worth.saw(self._clock(), len(frame.payload), self.pixels)
            self._insight.see(picture, unit.sender_q)
        if frame.mode is Mode.COMPRESS and unit.key and frame.key and self._ours:
            self._native = self._b_frames or self._worth.no_go(self._controller.predicted_saving(self._clock()))
        if frame.mode is Mode.SHADOW or self._native:
            self._want_key = True
            if picture is not None and self._insight.take(len(frame.payload), key=unit.key):
                self._foresee()
            return Result(frame.frame_id, Disposition.UNCHANGED, key=unit.key)
        if picture is None:
            return self._skip(frame, "no picture came out")
        late = self._clock() > frame.deadline_s
        if late and not (unit.key or self._want_key or self._skipped_last):
            return self._skip(frame, "past its deadline")
        result = self._encode_or_fail(picture, frame.frame_id, source_bytes=len(frame.payload), source_key=unit.key)
        if result.disposition is Disposition.COMPRESSED and not result.key:
            self._govern(frame)
        return result

    def _foresee(self) -> None:
        """A window is through: ask the model anew, or change to another first."""
        changed = self._insight.turn()
        if changed is not None:
            self._controller.use(changed.curves[self._session.codec.name])
            self._renew = True
        prediction, learned = self._insight.ask(self._worth.fps(), self.pixels), self._insight.learned
        if prediction is not None and learned is not None:
            self._controller.foresee(self._clock(), prediction, learned.moves)

    def _govern(self, frame: Frame) -> None:
        """Keep the latency budget."""
        now, level = self._clock(), self._governor.level
        self._governor.observe(now, 1000 * (now - frame.arrived_s), self._policy.latency_budget_ms)
        if self._governor.level != level and self._encoder is not None:
            self._encoder.set_speed(self._governor.level)

    def _open_decoder(self) -> av.VideoCodecContext:
        return self._stream.open_decoder(2 * MAX_PIXELS, features=self._insight.learned is not None)

    def _decode(self, unit: AccessUnit) -> VideoFrame | None:
        if unit.key and self._renew:
            # Not flushed: libavcodec's h264 keeps coefficients of a macroblock that it gave up, for the key's.
            self._decoder, self._renew = self._open_decoder(), False
        elif unit.key and not self._synced:
            self._decoder.flush_buffers()
        pictures = self._decoder.decode(av.Packet(unit.for_decoder))
        return pictures[-1] if pictures else None

    def _encode_or_fail(self, picture: VideoFrame, frame_id: int, *, source_bytes: int, source_key: bool) -> Result:
        try:
            return self._encode(picture, frame_id, source_bytes=source_bytes, source_key=source_key)
        except EncoderError as error:
            return self.fail(frame_id, str(error))

    def _encode(self, picture: VideoFrame, frame_id: int, *, source_bytes: int, source_key: bool) -> Result:
        encoder = self._encoder_for(self._stream.output_for(picture))
        q = self._controller.q
        coded = encoder.encode(picture, q, key=source_key or self._want_key)
        now = self._clock()
        quality, binds = self._controller.quality, self._controller.floor_binds
        model = self._insight.model
        self._controller.record(
            Sample(now, source_bytes, len(coded.data), comparable=not (source_key or coded.key)),
        )
        if source_bytes and self._insight.take(source_bytes, key=source_key or coded.key, q=q, psnr=coded.psnr_db):
            self._foresee()
        flags = FLAG_KEY if coded.key else 0
        flags |= FLAG_FLOOR_BINDS if binds else 0
        flags |= FLAG_SCREEN if self._session.screen else 0
        flags |= FLAG_DEGRADED if self._governor.level else 0
        flags |= FLAG_SKIPPED_BEFORE if self._skipped_before else 0
        self._want_key = self._skipped_last = self._skipped_before = False
        return Result(
            frame_id,
            Disposition.COMPRESSED,
            payload=coded.data,
            key=coded.key,
            ratio=self._controller.ratio(now),
            quality=quality,
            model_hash=model.hash,
            flags=flags,
            psnr_db=coded.psnr_db,
        )

    def _encoder_for(self, output: OutputFormat) -> Encoder:
        """The encoder there is, or a new one, which starts with a key. Raises EncoderError."""
        if self._encoder is None or self._encoder.output != output:
            self.close()
            self._encoder = self._stream.open_encoder(output, self._cores)
            if self._governor.level:
                self._encoder.set_speed(self._governor.level)
            self._want_key = True
        return self._encoder

    def _is_steady(self, picture: VideoFrame) -> bool:
        """False when the sender changes its format faster than encoders should be opened."""
        output, now = self._stream.output_for(picture), self._clock()
        if output == self._output:
            return True
        first, self._output = self._output is None, output
        steady = now - self._output_since_s >= FORMAT_CHANGE_EVERY_S
        self._output_since_s = -math.inf if first else now
        return steady

    def _lost_sync(self, frame: Frame, *, key: bool, reason: str) -> Result:
        self._synced = False
        if key:
            self._bad_keys += 1
            if self._bad_keys > BAD_KEYS_ALLOWED:
                text = f"{self._bad_keys} bad keys in a row, the last: {reason}"
                return self.fail(frame.frame_id, text, bad_input=True)
        return self._unsynced(frame, reason)

    def _unsynced(self, frame: Frame, reason: str) -> Result:
        self._want_key = True
        if self._native or frame.mode is Mode.SHADOW:
            return Result(frame.frame_id, Disposition.UNCHANGED, reason=reason, need_key=True)
        self._skipped_before = True
        return Result(frame.frame_id, Disposition.SKIPPED, reason=reason, need_key=True)

    def _skip(self, frame: Frame, reason: str) -> Result:
        self._skipped_last = self._skipped_before = True
        self._controller.record(Sample(self._clock(), len(frame.payload), 0, comparable=False))
        return Result(frame.frame_id, Disposition.SKIPPED, reason=reason)

    def _refuse(self, frame: Frame, unit: AccessUnit, reason: str) -> Result:
        """Not ours to serve, and nobody's fault: the stream stays, or at a key becomes, native."""
        self._synced = False
        if self._ours and not (unit.key and frame.key):  # of both: the caller may go by other headers than we
            return self._unsynced(frame, reason)
        self._native = self._want_key = True
        return Result(frame.frame_id, Disposition.UNCHANGED, key=frame.key, advice=Advice.NATIVE, reason=reason)

    @staticmethod
    def _refusal_of_size(width: int, height: int) -> str:
        """Empty when it is served, or not known yet."""
        served = not width or (min(width, height) >= MIN_SIDE and width * height <= MAX_PIXELS)
        return "" if served else "the picture size is not served"
