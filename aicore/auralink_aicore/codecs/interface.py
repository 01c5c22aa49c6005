"""What a codec looks like from outside: the two protocols that every codec module fulfils, and what they speak in."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol, cast

import av
from av.video.frame import VideoFrame


class BitstreamError(ValueError):
    """The bytes are not what the standard says; the sender's fault."""


class EncoderError(RuntimeError):
    """The library refused a setting or returned nothing; ours to mend."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the receivers can decode; 0 leaves it to the sender's own parameter set."""

    max_profile: int = 0  # as the wire's H264Profile
    max_level: int = 0  # H.264's level_idc


@dataclass(frozen=True, slots=True)
class AccessUnit:
    """One frame as it came, read as far as needed."""

    key: bool
    bidirectional: bool  # it refers to a picture shown later, or may well do so
    for_decoder: bytes
    sender_q: float = math.nan  # the sender's quantiser, on its codec's own scale, where the decoder does not say it
    refused: str = ""  # why this stream is not served, by what its own headers say


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """What an encoder is opened with. A change of any of it needs a new one, and so a key."""

    width: int
    height: int
    colour: tuple[int, int, int, int] = (0, 2, 2, 2)  # full range, primaries, transfer, matrix, as H.273 numbers them
    profile: int = 0  # the codec's own numbers, as the next; 0 where it has no such choice
    level: int = 0


@dataclass(frozen=True, slots=True)
class Coded:
    """One encoded picture."""

    data: bytes
    key: bool
    q: int  # mean quantiser of the picture, on the scale of `Encoder.encode`
    psnr_db: float | None  # of all three planes against the picture given; None where the library does not say


class Encoder(Protocol):
    """One picture in, its frame out, nothing held back. Belongs to one thread."""

    @property
    def output(self) -> OutputFormat:
        """What it was opened with."""

    def encode(self, picture: VideoFrame, q: int, *, key: bool) -> Coded:
        """`picture` is 8-bit 4:2:0 of the output's size; q is the codec's quantiser. Raises EncoderError."""

    def set_speed(self, level: int) -> None:
        """0 is the best that the budget usually allows, each level above is cheaper; see `Stream.cheaper_levels`."""

    def close(self) -> None:
        """Free the library's memory; harmless twice."""


class Stream(Protocol):
    """What one stream's own headers said so far, and what its codec needs."""

    cheaper_levels: ClassVar[int]
    """Speeds beside 0 that `Encoder.set_speed` knows."""

    def read(self, payload: bytes) -> AccessUnit:
        """Read one frame, in order. Raises BitstreamError when it is none of this codec."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) by the headers in force; (0, 0) before any."""

    @property
    def may_reorder(self) -> bool:
        """Whether pictures may be shown in another order than they come, by the headers in force."""

    def open_decoder(self, most_pixels: int, *, features: bool = False) -> av.VideoCodecContext:
        """A decoder that gives every picture back at once, and refuses absurd ones before it allocates them.

        `features`: it also tells what `features` wants to know of the sender's choices, where it can; that takes time.
        """

    def refusal_of(self, picture: VideoFrame) -> str:
        """Why a decoded picture cannot be encoded, whatever the headers said; empty when it can."""

    def output_for(self, picture: VideoFrame) -> OutputFormat:
        """What an encoder has to be opened with for this picture: never more than sender and receivers allow."""

    def open_encoder(self, output: OutputFormat, cores: int) -> Encoder:
        """`cores`: how many may work on one picture. Its first frame is a key. Raises EncoderError."""


OpenStream = Callable[[Limits], Stream]

UNSPECIFIED = 2  # primaries, transfer and matrix alike
_RESERVED_COLOURS = (0, 3)
_MATRIX_RGB = 0  # sRGB coded as is; 4:2:0 cannot carry it
_FULL_RANGE = 2
_SERVED_PICTURES = ("yuv420p", "yuvj420p")
NOT_SERVED = "only 8-bit 4:2:0 video is served"


def refusal_of_format(picture: VideoFrame) -> str:
    """Empty for 8-bit 4:2:0."""
    return "" if picture.format.name in _SERVED_PICTURES else NOT_SERVED


def colour_of(picture: VideoFrame) -> tuple[int, int, int, int]:
    """The `colour` of an OutputFormat."""
    full_range = picture.format.name == "yuvj420p" or int(picture.color_range) == _FULL_RANGE
    matrix = int(picture.colorspace)
    return (
        int(full_range),
        int(picture.color_primaries),
        int(picture.color_trc),
        UNSPECIFIED if matrix == _MATRIX_RGB else matrix,
    )


def colour_known(colour: tuple[int, int, int, int], highest: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """The same, without the numbers that a library refuses to write: reserved ones, and any above its `highest`."""
    full_range, *rest = colour
    primaries, transfer, matrix = (
        number if number <= most and number not in _RESERVED_COLOURS else UNSPECIFIED
        for number, most in zip(rest, highest, strict=True)
    )
    return full_range, primaries, transfer, matrix


FOR_FEATURES: Final = {"export_side_data": "venc_params"}
"""The sender's quantisers beside each picture, for `features`; h264's and vp9's decoders have it."""


def open_decoder(name: str, most_pixels: int, **options: str) -> av.VideoCodecContext:
    """libavcodec's decoder `name`, as `Stream.open_decoder` wants it."""
    decoder = cast("av.VideoCodecContext", av.VideoCodecContext.create(name, "r"))
    decoder.thread_count = 1  # frame threads hold pictures back
    decoder.options = {"max_pixels": str(most_pixels), **options}
    return decoder
