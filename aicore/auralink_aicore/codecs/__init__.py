"""Which codecs are served; used by `transcoder`.

A codec is one module here: how to read its bitstream as far as we need (is this a key, may we serve it), the
decoder to use, and the encoder's settings as data, each with its reason. `interface` says what all of them look like
from outside. A stream of a codec that is not SERVED is answered UNSUPPORTED and stays native.
"""

from collections.abc import Mapping
from enum import IntEnum

from auralink_aicore.codecs.av1 import AV1
from auralink_aicore.codecs.h264 import H264
from auralink_aicore.codecs.h265 import H265
from auralink_aicore.codecs.interface import Limits, OpenStream
from auralink_aicore.codecs.vpx import VP8, VP9


class Codec(IntEnum):
    """Numbered as on the wire."""

    H264 = 1
    VP8 = 2
    VP9 = 3
    H265 = 4
    AV1 = 5


SERVED: Mapping[Codec, OpenStream] = {
    Codec.H264: H264,
    Codec.VP8: VP8,
    Codec.VP9: VP9,
    Codec.H265: H265,
    Codec.AV1: AV1,
}

# 1080p in either orientation, in whole macroblocks. Above it one core cannot keep up with 30 pictures a second.
MAX_PIXELS = 1920 * 1088
MAX_SIDE = 1920
MIN_SIDE = 32

__all__ = ["MAX_PIXELS", "MAX_SIDE", "MIN_SIDE", "SERVED", "Codec", "Limits"]
