"""H.265: what of it is served, the decoder to use, and libx265's settings.

Settings are text pairs for ``x265_param_parse``, each with its reason; the preset and tune come first. The binding
is `shim._x265`.
"""

from typing import ClassVar, Final

import av
from av.codec.context import Flags
from av.video.frame import VideoFrame

from auralink_aicore.codecs import h265_syntax as syntax
from auralink_aicore.codecs.bits import nal_units
from auralink_aicore.codecs.interface import (
    NOT_SERVED,
    AccessUnit,
    BitstreamError,
    Coded,
    Encoder,
    EncoderError,
    Limits,
    OutputFormat,
    colour_known,
    colour_of,
    open_decoder,
    refusal_of_format,
)

try:
    from auralink_aicore.shim import _x265
except ImportError as error:  # pragma: no cover - only without a build
    raise ImportError("the libx265 binding is not built; run: python -m auralink_aicore.shim.build") from error

PRESET: Final = b"ultrafast"  # the next one takes half as long again, and this one is over a frame's budget at 720p
TUNE: Final = b"zerolatency"
SETTINGS: Final = (
    ("frame-threads", "1"),  # more hold pictures back
    ("keyint", "-1"),  # keys are mirrored from the sender or asked for, never our own idea
    ("scenecut", "0"),
    ("open-gop", "0"),
    ("aq-mode", "0"),  # VMAF does not reward adaptive quantisation
    ("psy-rd", "0"),
    ("repeat-headers", "1"),  # parameter sets before every key
    ("annexb", "1"),
    ("info", "0"),  # libx265 would name itself in SEI
    ("high-tier", "0"),
    ("vui-timing-info", "0"),  # the sender's timing is its own
    ("fps", "15"),  # so that any level allows its largest picture; no more than a name for the ticks we count in
)
ONE_CORE: Final = (("pools", "none"), ("wpp", "0"))  # a worker owns one core; rows in parallel would cost bytes

# From here on a second core is worth its bytes: inter frames take 45 % less.
PARALLEL_PIXELS: Final = 1280 * 720

# A key at the other pictures' quantiser is 18 times their size; six steps coarser it is 8 times, and the next
# pictures refine it.
KEY_QP_STEP: Final = 6
MAX_QP: Final = 51

# libavcodec sets memory aside per NAL unit before it looks at any; see `h264`.
MAX_NAL_UNITS: Final = 2048

_MAIN = 1
_HIGHEST_LEVEL = 62
_KNOWN_COLOURS = (12, 18, 14)  # the highest numbers of primaries, transfer and matrix that libx265 writes


class X265:
    """One libx265 instance; use from one thread, and close it."""

    def __init__(self, output: OutputFormat, cores: int = 1) -> None:
        self.output = output
        self._lib = _x265.lib
        self._ffi = _x265.ffi
        parallel = cores > 1 and output.width * output.height >= PARALLEL_PIXELS
        settings = [*SETTINGS, *((("pools", str(cores)), ("wpp", "1")) if parallel else ONE_CORE)]
        self._handle = None
        if output.level:
            self._handle, _ = self._open([*settings, ("level-idc", str(output.level))])
        if not self._handle:  # the level is too low for the pictures, so it was the sender's mistake
            self._handle, reason = self._open(settings)
            if not self._handle:
                raise EncoderError(reason)
        self._frame = self._ffi.new("al_x265_frame *")
        self._coded_any = False

    def encode(self, picture: VideoFrame, q: int, *, key: bool) -> Coded:
        """Encode one picture at QP q, a key but for the first coarser. Raises EncoderError."""
        key = key or not self._coded_any
        qp = min(q + KEY_QP_STEP, MAX_QP) if key and self._coded_any else q
        y, u, v = picture.planes
        pixels = self._ffi.from_buffer
        failed = self._lib.al_x265_encode(
            self._handle,
            pixels("uint8_t[]", y),
            y.line_size,
            pixels("uint8_t[]", u),
            u.line_size,
            pixels("uint8_t[]", v),
            v.line_size,
            qp,
            key,
            self._frame,
        )
        if failed:
            raise EncoderError("libx265 returned no picture")
        self._coded_any = True
        out = self._frame
        return Coded(bytes(self._ffi.buffer(out.data, out.size)), bool(out.key), out.qp, None)

    def set_speed(self, level: int) -> None:
        """There is nothing cheaper."""

    def close(self) -> None:
        """Free libx265's memory."""
        if self._handle:
            self._lib.al_x265_close(self._handle)
            self._handle = None

    def _open(self, settings: list[tuple[str, str]]) -> tuple[object, str]:
        """(handle, "") or (NULL, why not)."""
        names = [self._ffi.new("char[]", name.encode()) for name, _ in settings]
        values = [self._ffi.new("char[]", value.encode()) for _, value in settings]
        error = self._ffi.new("char[]", 200)
        handle = self._lib.al_x265_open(
            self.output.width,
            self.output.height,
            PRESET,
            TUNE,
            names,
            values,
            len(settings),
            list(self.output.colour),
            error,
            200,
        )
        return handle, self._ffi.string(error).decode()


class H265:
    """One H.265 stream's knowledge: what its parameter sets said, and the order of its pictures.

    A slice of type B says nothing here: encoders of live video use it with earlier pictures only. What tells is the
    picture's number.
    """

    cheaper_levels: ClassVar[int] = 0

    def __init__(self, limits: Limits) -> None:  # noqa: ARG002 - they are H.264's; the sender's own sets bind us
        self._sets: dict[int, syntax.Sps] = {}
        self._picture_sets: dict[int, syntax.Pps] = {}
        self._sps: syntax.Sps | None = None  # in force
        self._order = 0  # picture order count of the last picture that others are numbered from
        self._highest_order = 0  # since the key

    def open_decoder(self, most_pixels: int, *, features: bool = False) -> av.VideoCodecContext:  # noqa: ARG002 - it tells none
        decoder = open_decoder("hevc", most_pixels)
        decoder.flags |= Flags.low_delay
        return decoder

    def open_encoder(self, output: OutputFormat, cores: int) -> Encoder:
        return X265(output, cores)

    def read(self, payload: bytes) -> AccessUnit:
        """Read one access unit. Raises BitstreamError when it is no H.265 access unit."""
        if payload.count(b"\0\0\1") > MAX_NAL_UNITS:
            raise BitstreamError(f"more than {MAX_NAL_UNITS} NAL units in one access unit")
        parts: list[bytes] = []
        done = 0
        first: syntax.Header | None = None
        late = layered = False
        for start, end in nal_units(payload):
            nal = payload[start:end]
            header = syntax.parse_header(nal)
            if header.layer:
                layered = layered or header.is_slice
            elif header.kind == syntax.NAL_SPS:
                sps = syntax.parse_sps(nal)
                self._sets[sps.id] = sps
                if sps.may_reorder:
                    parts += [payload[done:start], syntax.without_reordering(nal, sps)]
                    done = end
            elif header.kind == syntax.NAL_PPS:
                pps = syntax.parse_pps(nal)
                self._picture_sets[pps.id] = pps
            elif header.is_slice and first is None:
                first = header
                late = self._is_late(nal, header)
        if first is None:
            raise BitstreamError("no slice in the access unit")
        parts.append(payload[done:])
        return AccessUnit(
            key=first.is_key,
            bidirectional=late and self.may_reorder,
            for_decoder=b"".join(parts) if len(parts) > 1 else payload,
            refused=self._refusal(layered=layered),
        )

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) by the parameter set in force; (0, 0) before one."""
        return (self._sps.width, self._sps.height) if self._sps else (0, 0)

    @property
    def may_reorder(self) -> bool:
        """By the parameter set in force."""
        return self._sps is not None and self._sps.may_reorder

    def refusal_of(self, picture: VideoFrame) -> str:
        return _INTERLACED if picture.interlaced_frame else refusal_of_format(picture)

    def output_for(self, picture: VideoFrame) -> OutputFormat:
        """What our encoder has to be opened with to send this picture: main profile and tier, the sender's level."""
        level = 0 if self._sps is None else self._sps.level // 3
        return OutputFormat(
            picture.width,
            picture.height,
            colour_known(colour_of(picture), _KNOWN_COLOURS),
            _MAIN,
            level if level <= _HIGHEST_LEVEL else 0,
        )

    def _is_late(self, nal: bytes, header: syntax.Header) -> bool:
        """Take note of a picture by its first slice; whether it is shown before one that came earlier (8.3.1)."""
        pps = self._picture_sets.get(syntax.slice_pps(nal))
        self._sps = None if pps is None else self._sets.get(pps.sps)
        if pps is None or self._sps is None:
            return False  # the decoder will say what is missing
        count = syntax.order_count(nal, pps, self._sps)
        if header.is_key:
            self._order = self._highest_order = count
            return False
        half = 1 << (self._sps.order_bits - 1)
        order = self._order + (count - self._order + half) % (2 * half) - half
        late = order < self._highest_order
        self._highest_order = max(order, self._highest_order)
        if header.counts_for_order:
            self._order = order
        return late

    def _refusal(self, *, layered: bool) -> str:
        if layered:
            return "spatial layers are not served"
        sps = self._sps
        if sps is None:
            return ""
        if sps.interlaced:
            return _INTERLACED
        if sps.chroma_format != 1 or sps.bit_depth != 8:
            return NOT_SERVED
        return ""


_INTERLACED = "interlaced video is not served"
