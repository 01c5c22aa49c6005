"""AV1: what of it is served, the decoder to use, and libaom's settings.

Settings are text pairs for ``aom_codec_set_option``, each with its reason; rate control and delay are set in the
binding, `shim._aom`. Quantisers are on libaom's scale of 0 to 63.
"""

from typing import ClassVar, Final

import av
from av.video.frame import VideoFrame

from auralink_aicore.codecs import av1_syntax as syntax
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
    from auralink_aicore.shim import _aom
except ImportError as error:  # pragma: no cover - only without a build
    raise ImportError("the libaom binding is not built; run: python -m auralink_aicore.shim.build") from error

SETTINGS: Final = (
    ("cpu-used", "10"),  # the fastest of real-time mode, and still the slowest of our encoders but one
    ("aq-mode", "3"),  # cyclic refresh: each picture sharpens a part of what stands still
    ("coeff-cost-upd-freq", "3"),  # costs of symbols are worked out once a key, not once a tile
    ("mode-cost-upd-freq", "3"),
    ("mv-cost-upd-freq", "3"),
    ("cdf-update-mode", "1"),
    ("enable-global-motion", "0"),  # tools that the fastest speed has no time for, but looks for
    ("enable-warped-motion", "0"),
    ("enable-obmc", "0"),
    ("enable-palette", "0"),
    ("enable-order-hint", "0"),  # for pictures out of order, of which we have none
    ("deltaq-mode", "0"),
)
# Far above what any quantiser gives, so that the rate control never raises ours.
TARGET_KBPS: Final = 20000

# From here on a second core is worth its bytes: keys take a third less, and they are the ones that are late.
PARALLEL_PIXELS: Final = 1280 * 720
PARALLEL: Final = (("row-mt", "1"), ("tile-columns", "1"))
ONE_CORE: Final = (("row-mt", "0"), ("tile-columns", "0"))

# A key at the other pictures' quantiser is 18 times their size; twelve steps coarser it is 9 times, and the next
# pictures refine it.
KEY_Q_STEP: Final = 12
MAX_Q: Final = 63

# Sixteen frames of sixty-four tile groups would be more than any live sender cuts a picture into.
MAX_OBUS: Final = 1024

# The highest numbers of primaries, transfer and matrix that libaom writes.
_KNOWN_COLOURS: Final = (22, 18, 14)


class Aom:
    """One libaom instance; use from one thread, and close it."""

    def __init__(self, output: OutputFormat, cores: int = 1) -> None:
        self.output = output
        self._lib = _aom.lib
        self._ffi = _aom.ffi
        parallel = cores > 1 and output.width * output.height >= PARALLEL_PIXELS
        settings = [*SETTINGS, *(PARALLEL if parallel else ONE_CORE)]
        names = [self._ffi.new("char[]", name.encode()) for name, _ in settings]
        values = [self._ffi.new("char[]", value.encode()) for _, value in settings]
        error = self._ffi.new("char[]", 200)
        self._handle = self._lib.al_aom_open(
            output.width,
            output.height,
            cores if parallel else 1,
            TARGET_KBPS,
            names,
            values,
            len(settings),
            list(output.colour),
            error,
            200,
        )
        if not self._handle:
            raise EncoderError(self._ffi.string(error).decode())
        self._frame = self._ffi.new("al_aom_frame *")
        self._coded_any = False

    def encode(self, picture: VideoFrame, q: int, *, key: bool) -> Coded:
        """Encode one picture at quantiser q, a key but for the first coarser. Raises EncoderError."""
        if key and self._coded_any:
            q = min(q + KEY_Q_STEP, MAX_Q)
        y, u, v = picture.planes
        pixels = self._ffi.from_buffer
        failed = self._lib.al_aom_encode(
            self._handle,
            pixels("uint8_t[]", y),
            y.line_size,
            pixels("uint8_t[]", u),
            u.line_size,
            pixels("uint8_t[]", v),
            v.line_size,
            q,
            key,
            self._frame,
        )
        if failed:
            raise EncoderError("libaom returned no picture")
        self._coded_any = True
        out = self._frame
        data = bytes(self._ffi.buffer(out.data, out.size)).removeprefix(syntax.TEMPORAL_DELIMITER)
        return Coded(data, bool(out.key), out.q, out.psnr)

    def set_speed(self, level: int) -> None:
        """There is nothing cheaper."""

    def close(self) -> None:
        """Free libaom's memory."""
        if self._handle:
            self._lib.al_aom_close(self._handle)
            self._handle = None


class AV1:
    """One AV1 stream's knowledge: what its sequence header said."""

    cheaper_levels: ClassVar[int] = 0
    may_reorder = False  # a frame may wait hidden, but each unit shows the next picture

    def __init__(self, limits: Limits) -> None:  # noqa: ARG002 - they are H.264's
        self._sequence: syntax.Sequence | None = None

    def open_decoder(self, most_pixels: int, *, features: bool = False) -> av.VideoCodecContext:  # noqa: ARG002 - it tells none
        return open_decoder("libdav1d", most_pixels, max_frame_delay="1")

    def open_encoder(self, output: OutputFormat, cores: int) -> Encoder:
        return Aom(output, cores)

    def read(self, payload: bytes) -> AccessUnit:
        """Read one temporal unit. Raises BitstreamError when it is none."""
        first: syntax.FrameStart | None = None
        layered = begins = False
        for index, obu in enumerate(syntax.obus(payload)):
            if index == MAX_OBUS:
                raise BitstreamError(f"more than {MAX_OBUS} OBUs in one temporal unit")
            if obu.kind == syntax.OBU_SEQUENCE_HEADER:
                self._sequence = syntax.parse_sequence(payload[obu.start : obu.end])
                begins = True
            elif obu.kind in syntax.FRAME_HEADERS:
                layered = layered or obu.spatial_id > 0
                if first is None:
                    reduced = self._sequence is not None and self._sequence.reduced
                    first = syntax.parse_frame_start(payload[obu.start : obu.end], reduced=reduced)
        if first is None:
            raise BitstreamError("no frame in the temporal unit")
        return AccessUnit(
            key=begins and first.key and first.shown,
            bidirectional=False,
            for_decoder=payload,
            refused=self._refusal(layered=layered),
        )

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) by the sequence header in force; (0, 0) before one."""
        return (self._sequence.width, self._sequence.height) if self._sequence else (0, 0)

    def refusal_of(self, picture: VideoFrame) -> str:
        return refusal_of_format(picture)

    def output_for(self, picture: VideoFrame) -> OutputFormat:
        """What our encoder has to be opened with to send this picture: always main profile."""
        return OutputFormat(picture.width, picture.height, colour_known(colour_of(picture), _KNOWN_COLOURS))

    def _refusal(self, *, layered: bool) -> str:
        sequence = self._sequence
        if layered or (sequence is not None and sequence.spatial_layers > 1):
            return "spatial layers are not served"
        if sequence is not None and (sequence.profile or sequence.high_bit_depth or sequence.monochrome):
            return NOT_SERVED
        return ""
