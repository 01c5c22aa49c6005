"""VP8 and VP9: what of them is served, the decoders to use, and libvpx's settings.

Settings are data, each with its reason. The binding is `shim._vpx`.
"""

from dataclasses import dataclass
from typing import ClassVar, Final

import av
from av.video.frame import VideoFrame

from auralink_aicore.codecs import vpx_syntax as syntax
from auralink_aicore.codecs.interface import (
    FOR_FEATURES,
    NOT_SERVED,
    UNSPECIFIED,
    AccessUnit,
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
    from auralink_aicore.shim import _vpx
except ImportError as error:  # pragma: no cover - only without a build
    raise ImportError("the libvpx binding is not built; run: python -m auralink_aicore.shim.build") from error

_LIB: Final = _vpx.lib

# Rate control that never comes into play: its buffer is full at any rate we reach, and quantiser and frame dropping
# are not its to choose.
TARGET_KBPS: Final = 20_000

# A key at the inter frames' quantiser is 8 to 13 times their size; twelve steps coarser it is 5 to 7 times, and the
# next pictures refine it.
KEY_Q_STEP: Final = 12
MAX_Q: Final = 63

# From here on a picture is wide enough for two columns of tiles to be worth a thread each: VP9 keys take 32 ms
# instead of 47, other pictures a fifth less.
THREADED_PIXELS: Final = 1280 * 720


@dataclass(frozen=True, slots=True)
class Settings:
    """One codec's part of libvpx, for live recompression on one core."""

    vp9: bool
    speeds: tuple[int, ...]
    """VP8E_SET_CPUUSED of level 0 and of the governor's steps above it."""
    controls: tuple[tuple[int, int], ...]
    """What else is set, as numbers of vp8cx.h and their values."""


_BOTH: Final = (
    (_LIB.VP8E_SET_STATIC_THRESHOLD, 1),  # a block that does not change is not searched
)
# -8 takes 6 % less time for 2 % more bytes, -10 takes 17 % less for 15 %. A negative number is that speed always; a
# positive one would let libvpx time itself.
VP8_SETTINGS: Final = Settings(vp9=False, speeds=(-6, -8, -10), controls=_BOTH)
# 8 takes 21 % less time for 9 % more bytes, 9 takes 34 % less for 35 %.
VP9_SETTINGS: Final = Settings(
    vp9=True,
    speeds=(7, 8, 9),
    controls=(
        *_BOTH,
        (_LIB.VP9E_SET_AQ_MODE, 3),  # refreshes still parts by and by: what the coarser keys need
    ),
)
_VP9_THREADED: Final = ((_LIB.VP9E_SET_ROW_MT, 1), (_LIB.VP9E_SET_TILE_COLUMNS, 1))  # the latter is a logarithm

# Matrix as H.273 numbers it -> VP9's color_space (7.2.2 of its specification). VP8 has nothing of the kind.
_VP9_SPACES: Final = {5: 1, 1: 2, 6: 3, 7: 4, 9: 5}


class Libvpx:
    """One libvpx instance; use from one thread, and close it."""

    def __init__(self, settings: Settings, output: OutputFormat, cores: int) -> None:
        self.output = output
        self._speeds = settings.speeds
        self._ffi = _vpx.ffi
        controls = [*settings.controls, (_LIB.VP8E_SET_CPUUSED, settings.speeds[0])]
        threads = 1
        if settings.vp9:
            full_range, _, _, matrix = output.colour
            controls.append((_LIB.VP9E_SET_COLOR_RANGE, full_range))
            controls.append((_LIB.VP9E_SET_COLOR_SPACE, _VP9_SPACES.get(matrix, 0)))
            if cores > 1 and output.width * output.height >= THREADED_PIXELS:
                controls.extend(_VP9_THREADED)
                threads = 2
        opened = {
            "vp9": settings.vp9,
            "width": output.width,
            "height": output.height,
            "threads": threads,
            "target_kbps": TARGET_KBPS,
        }
        error = self._ffi.new("char[]", 200)
        self._handle = _LIB.al_vpx_open(
            self._ffi.new("al_vpx_settings *", opened),
            self._ffi.new("al_vpx_control[]", controls),
            len(controls),
            error,
            200,
        )
        if not self._handle:
            raise EncoderError(self._ffi.string(error).decode())
        self._frame = self._ffi.new("al_vpx_frame *")
        self._started = False

    def encode(self, picture: VideoFrame, q: int, *, key: bool) -> Coded:
        """Encode one picture at quantiser q, 0..63. Raises EncoderError."""
        if key and self._started:
            q = min(q + KEY_Q_STEP, MAX_Q)
        y, u, v = picture.planes
        pixels = self._ffi.from_buffer
        failed = _LIB.al_vpx_encode(
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
            raise EncoderError("libvpx returned no picture")
        self._started = True
        out = self._frame
        psnr = out.psnr if out.psnr >= 0 else None
        return Coded(bytes(self._ffi.buffer(out.data, out.size)), bool(out.key), out.q, psnr)

    def set_speed(self, level: int) -> None:
        """One of `Settings.speeds`."""
        _LIB.al_vpx_set_speed(self._handle, self._speeds[level])  # refused, it only goes on as it was

    def close(self) -> None:
        """Free libvpx's memory."""
        if self._handle:
            _LIB.al_vpx_close(self._handle)
            self._handle = None


class VP8:
    """One VP8 stream's knowledge: the size that its latest key said. Receivers decode all of VP8 or nothing."""

    cheaper_levels: ClassVar[int] = len(VP8_SETTINGS.speeds) - 1
    may_reorder: ClassVar[bool] = False

    def __init__(self, limits: Limits) -> None:  # noqa: ARG002 - there are no profiles to keep to
        self._size = (0, 0)

    def open_decoder(self, most_pixels: int, *, features: bool = False) -> av.VideoCodecContext:  # noqa: ARG002 - it tells none
        return open_decoder("vp8", most_pixels)

    def open_encoder(self, output: OutputFormat, cores: int) -> Encoder:
        return Libvpx(VP8_SETTINGS, output, cores)

    def read(self, payload: bytes) -> AccessUnit:
        """Read one frame. Raises BitstreamError when it is no VP8 frame."""
        frame = syntax.parse_vp8(payload)
        self._size = frame.size or self._size
        return AccessUnit(key=frame.key, bidirectional=False, for_decoder=payload, sender_q=frame.base_q)

    @property
    def size(self) -> tuple[int, int]:
        return self._size

    def refusal_of(self, picture: VideoFrame) -> str:
        return refusal_of_format(picture)

    def output_for(self, picture: VideoFrame) -> OutputFormat:
        return OutputFormat(picture.width, picture.height)


class VP9:
    """One VP9 stream's knowledge: the size of its pictures, which an inter frame may take from any reference.

    Served is profile 0, which is 8-bit 4:2:0, with one spatial layer.
    """

    cheaper_levels: ClassVar[int] = len(VP9_SETTINGS.speeds) - 1
    may_reorder: ClassVar[bool] = False  # what is shown later than it is coded, is a hidden frame until then

    def __init__(self, limits: Limits) -> None:  # noqa: ARG002 - no profile of those that differ is served
        self._size = (0, 0)
        self._slots = [(0, 0)] * syntax.REFERENCE_SLOTS
        self._layered = False

    def open_decoder(self, most_pixels: int, *, features: bool = False) -> av.VideoCodecContext:
        return open_decoder("vp9", most_pixels, **(FOR_FEATURES if features else {}))

    def open_encoder(self, output: OutputFormat, cores: int) -> Encoder:
        return Libvpx(VP9_SETTINGS, output, cores)

    def read(self, payload: bytes) -> AccessUnit:
        """Read one frame or superframe. Raises BitstreamError when it is neither."""
        frames = [syntax.parse_vp9(part) for part in syntax.superframe(payload)]
        for frame in frames:
            self._follow(frame)
        key = frames[0].key
        if key:
            self._layered = False
        if sum(frame.shown for frame in frames) > 1:
            self._layered = True
        refused = "spatial layers are not served" if self._layered else ""
        if any(frame.profile for frame in frames):
            refused = NOT_SERVED
        return AccessUnit(key=key, bidirectional=False, for_decoder=payload, refused=refused)

    @property
    def size(self) -> tuple[int, int]:
        return self._size

    def refusal_of(self, picture: VideoFrame) -> str:
        return refusal_of_format(picture)

    def output_for(self, picture: VideoFrame) -> OutputFormat:
        full_range, _, _, matrix = colour_of(picture)
        unspecified = UNSPECIFIED
        colour = (full_range, unspecified, unspecified, matrix if matrix in _VP9_SPACES else unspecified)
        return OutputFormat(picture.width, picture.height, colour)

    def _follow(self, frame: syntax.Vp9Frame) -> None:
        """Note the frame's size, and which references have it from now on."""
        size = frame.size
        if frame.size_of is not None:
            size = self._slots[frame.size_of]
        if size is None:
            return
        for slot in range(syntax.REFERENCE_SLOTS):
            if frame.refreshes >> slot & 1:
                self._slots[slot] = size
        if frame.shown:
            self._size = size
