"""H.264: what of it is served, the decoder to use, and libx264's settings.

Settings are text pairs for ``x264_param_parse``, each with its reason; the preset and tune come first. The binding
is `shim._x264`.
"""

from typing import ClassVar, Final

import av
from av.codec.context import Flags
from av.video.frame import VideoFrame

from auralink_aicore.codecs import h264_syntax as syntax
from auralink_aicore.codecs.bits import nal_units
from auralink_aicore.codecs.interface import (
    FOR_FEATURES,
    NOT_SERVED,
    AccessUnit,
    BitstreamError,
    Coded,
    Encoder,
    EncoderError,
    Limits,
    OutputFormat,
    colour_of,
    open_decoder,
    refusal_of_format,
)

try:
    from auralink_aicore.shim import _x264
except ImportError as error:  # pragma: no cover - only without a build
    raise ImportError("the libx264 binding is not built; run: python -m auralink_aicore.shim.build") from error

# libx264's settings for live recompression on one core. Measured against its defaults at 40 % saved, AQ off with
# trellis on is the largest single gain: 2.4 to 4.7 points of VMAF for at most one millisecond.
SETTINGS: Final = (
    ("threads", "1"),  # a worker owns one core; slices or frame threads only add delay
    ("sliced-threads", "0"),
    ("crf", "28"),  # rate control by constant quality; the controller moves it before every picture
    ("aq-mode", "1"),  # only so that offsets for each macroblock are taken; see STILL_STRENGTH
    ("aq-strength", "0.0001"),  # VMAF does not reward adaptive quantisation
    ("trellis", "1"),
    ("scenecut", "0"),  # keys are mirrored from the sender or asked for, never our own idea
    ("keyint", "infinite"),
    ("repeat-headers", "1"),  # parameter sets before every key
    ("annexb", "1"),
    ("fps", "30"),  # a name for the ticks we count in: told the real, varying times libx264 holds one picture back
    ("psnr", "1"),  # ours against the decoded input; needs the log level that the binding sets
)
PRESET: Final = b"superfast"
TUNE: Final = b"zerolatency"

# Steps of QP by which a macroblock is coded finer for each doubling of the time that it is thought to stay as it is: as
# much as x264's macroblock tree gives what it sees coming. Loss at 40 % saved, without it and with it, at 2.5 Mb/s of
# people before a camera: 4.0 and 2.8, 2.0 and 1.6, with noise 5.5 and 3.9; where everything moves, the same within 0.2.
# Three steps cost a sharp stream more than they give a noisy one. What moves loses 0.4 to 1.2 dB.
STILL_STRENGTH: Final = 2.0

# Small pictures leave time for a better preset, and psycho-visual decisions cost VMAF.
SMALL_PIXELS: Final = 960 * 540
SMALL_PRESET: Final = b"veryfast"
SMALL_SETTINGS: Final = (("psy", "0"),)

# A key at the P frames' quantiser is 8 to 20 times their size; six steps coarser it is 6 times, and the next
# pictures refine it.
KEY_QP_STEP: Final = 6
# The first one is no larger than the sender's if it is three steps coarser: less to make up for.
FIRST_KEY_STEP: Final = 3
MAX_QP: Final = 51

# libavcodec sets 4 KB aside per NAL unit before it looks at any: 8 MB of start codes would take the machine's memory.
# More slices than packets in the data plane's largest frame come from no sane sender.
MAX_NAL_UNITS: Final = 2048

# A parameter set is some ten bytes; with every scaling list and a picture order cycle it still fits. Of each id one is
# in force, and reading takes time that is other streams' too.
MAX_SPS_BYTES: Final = 1024
MAX_SPS_UNITS: Final = 32

_BASELINE, _MAIN, _HIGH = 2, 3, 4
_PROFILE_NAMES: Final = {_BASELINE: b"baseline", _MAIN: b"main", _HIGH: b"high"}
_LEVEL_1B: Final = 9


class X264:
    """One libx264 instance; use from one thread, and close it."""

    def __init__(self, output: OutputFormat) -> None:
        self.output = output
        self._lib = _x264.lib
        self._ffi = _x264.ffi
        small = output.width * output.height <= SMALL_PIXELS
        settings = [*SETTINGS, ("level", str(output.level))]
        if small:
            settings.extend(SMALL_SETTINGS)
        names = [self._ffi.new("char[]", name.encode()) for name, _ in settings]
        values = [self._ffi.new("char[]", value.encode()) for _, value in settings]
        error = self._ffi.new("char[]", 200)
        self._handle = self._lib.al_x264_open(
            output.width,
            output.height,
            SMALL_PRESET if small else PRESET,
            TUNE,
            _PROFILE_NAMES[output.profile],
            names,
            values,
            len(settings),
            list(output.colour),
            STILL_STRENGTH,
            error,
            200,
        )
        if not self._handle:
            raise EncoderError(self._ffi.string(error).decode())
        self._frame = self._ffi.new("al_x264_frame *")
        self._mean_qp: float | None = None
        self._before: VideoFrame | None = None

    def encode(self, picture: VideoFrame, q: int, *, key: bool) -> Coded:
        """Encode one picture at CRF q, a key coarser. Raises EncoderError."""
        key_qp = -1
        if key and self._mean_qp is not None:
            key_qp = min(round(self._mean_qp) + KEY_QP_STEP, MAX_QP)
        elif key:
            q = min(q + FIRST_KEY_STEP, MAX_QP)
        y, u, v = picture.planes
        pixels = self._ffi.from_buffer
        before = self._before.planes[0] if self._before is not None else None
        failed = self._lib.al_x264_encode(
            self._handle,
            pixels("uint8_t[]", y),
            y.line_size,
            pixels("uint8_t[]", u),
            u.line_size,
            pixels("uint8_t[]", v),
            v.line_size,
            pixels("uint8_t[]", before) if before is not None else self._ffi.NULL,
            before.line_size if before is not None else 0,
            q,
            key,
            key_qp,
            self._frame,
        )
        if failed:
            raise EncoderError("libx264 returned no picture")
        self._before = picture
        out = self._frame
        if not out.key:
            self._mean_qp = out.qp if self._mean_qp is None else 0.8 * self._mean_qp + 0.2 * out.qp
        return Coded(bytes(self._ffi.buffer(out.data, out.size)), bool(out.key), out.qp, out.psnr)

    def set_speed(self, level: int) -> None:
        """The governor's one step: without trellis a picture takes a sixth less time and 1.1 VMAF more."""
        self._lib.al_x264_set_speed(self._handle, int(level == 0))  # refused, it only goes on as it was

    def close(self) -> None:
        """Free libx264's memory."""
        if self._handle:
            self._lib.al_x264_close(self._handle)
            self._handle = None


class H264:
    """One H.264 stream's knowledge: what its parameter sets said and what we may send.

    A sender may hold 32 sequence parameter sets and 256 picture parameter sets in readiness; the one in force is
    named by the slices (7.4.1.2.1).
    """

    cheaper_levels: ClassVar[int] = 1

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._sets: dict[int, syntax.Sps] = {}
        self._set_of: dict[int, int] = {}  # picture parameter set -> sequence parameter set
        self._sps: syntax.Sps | None = None  # in force

    def open_decoder(self, most_pixels: int, *, features: bool = False) -> av.VideoCodecContext:
        decoder = open_decoder("h264", most_pixels, **(FOR_FEATURES | {"flags2": "+export_mvs"} if features else {}))
        decoder.flags |= Flags.low_delay
        return decoder

    def open_encoder(self, output: OutputFormat, cores: int) -> Encoder:  # noqa: ARG002 - slices would cost quality
        return X264(output)

    def read(self, payload: bytes) -> AccessUnit:
        """Read one access unit. Raises BitstreamError when it is no H.264 access unit."""
        if payload.count(b"\0\0\1") > MAX_NAL_UNITS:
            raise BitstreamError(f"more than {MAX_NAL_UNITS} NAL units in one access unit")
        parts: list[bytes] = []
        done = 0
        first: int | None = None
        bidirectional = False
        parameter_sets = 0
        for start, end in nal_units(payload):
            kind = payload[start] & 0x1F
            if kind == syntax.NAL_SPS:
                parameter_sets += 1
                if end - start > MAX_SPS_BYTES or parameter_sets > MAX_SPS_UNITS:
                    raise BitstreamError("more of sequence parameter sets than any sender needs")
                nal = payload[start:end]
                sps = syntax.parse_sps(nal)
                self._sets[sps.id] = sps
                if sps.may_reorder:
                    parts += [payload[done:start], syntax.without_reordering(nal, sps)]
                    done = end
            elif kind == syntax.NAL_PPS:
                pps, named = syntax.parse_pps(payload[start:end])
                self._set_of[pps] = named
            elif kind in (syntax.NAL_IDR, syntax.NAL_SLICE):
                part = syntax.parse_slice_start(payload[start : min(end, start + 16)])
                bidirectional = bidirectional or part.bidirectional
                if first is None:
                    first = kind
                    self._sps = self._sets.get(self._set_of.get(part.pps, -1))
        if first is None:
            raise BitstreamError("no slice in the access unit")
        parts.append(payload[done:])
        return AccessUnit(
            key=first == syntax.NAL_IDR,
            bidirectional=bidirectional,
            for_decoder=b"".join(parts) if len(parts) > 1 else payload,
            refused=self._refusal(),
        )

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) by the parameter set in force; (0, 0) before one."""
        return (self._sps.width, self._sps.height) if self._sps else (0, 0)

    @property
    def may_reorder(self) -> bool:
        """Whether B pictures may come, by the parameter set in force."""
        return self._sps is not None and self._sps.may_reorder

    def refusal_of(self, picture: VideoFrame) -> str:
        return refusal_of_format(picture)

    def output_for(self, picture: VideoFrame) -> OutputFormat:
        """What our encoder has to be opened with to send this picture: never more than sender and receivers allow."""
        sps = self._sps
        profile = _HIGH if sps is None else _output_profile(sps.profile)
        if self._limits.max_profile:
            profile = min(profile, max(self._limits.max_profile, _BASELINE))
        level = 0 if sps is None else _level(sps)
        if self._limits.max_level:
            level = min(level or self._limits.max_level, self._limits.max_level)
        return OutputFormat(picture.width, picture.height, colour_of(picture), profile, level)

    def _refusal(self) -> str:
        sps = self._sps
        if sps is None:
            return ""  # the decoder will say what is missing
        if not sps.progressive:
            return "interlaced video is not served"
        if sps.chroma_format != 1 or sps.bit_depth != 8:
            return NOT_SERVED
        return ""


def _output_profile(profile_idc: int) -> int:
    """The highest of our three profiles that a decoder of this one has."""
    if profile_idc in (66, 88):
        return _BASELINE
    return _MAIN if profile_idc == 77 else _HIGH


def _level(sps: syntax.Sps) -> int:
    if sps.level == 11 and sps.profile in (66, 77, 88) and sps.constraints & 0x10:
        return _LEVEL_1B
    return sps.level
