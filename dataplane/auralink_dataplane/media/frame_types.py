"""Which pictures refer to what: I, P or B, by header bits alone, for five codecs. Pure; `streams` counts them.

I refers to nothing, P to other pictures, B to two at once. By the slices of H.264 (7.4.3) and H.265 (7.4.7.1), where
a picture is the most of what its slices are: an encoder that never reorders may still write B. VP8, VP9 and AV1 have no
such type: what is not intra counts as P. Of several frames in one unit (layers, hidden frames) the first counts.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final


class FrameType(StrEnum):
    I = "I"  # noqa: E741 - the world's word for it
    P = "P"
    B = "B"


SLICES_READ: Final = 64  # of one picture
_SLICE_HEAD_BYTES: Final = 16  # first_mb_in_slice and slice_type, at their longest
_RANK: Final = {FrameType.I: 0, FrameType.P: 1, FrameType.B: 2}


class FrameTypes:
    """One stream's; remembers what its parameter sets say of the headers after them."""

    def __init__(self, codec: str) -> None:
        self._read = {
            "H264": self._h264,
            "H265": self._h265,
            "VP8": self._vp8,
            "VP9": self._vp9,
            "AV1": self._av1,
        }.get(codec)
        self._extra_bits: dict[int, int] = {}  # H.265: PPS id (0..63) -> num_extra_slice_header_bits
        self._reduced = False  # AV1: reduced_still_picture_header

    def of(self, data: bytes) -> FrameType | None:
        """Of one frame as the AI Core gets it (Annex B, bare VP8 or VP9, OBUs with sizes); None where no header says
        so."""
        if self._read is None:
            return None
        try:
            return self._read(data)
        except IndexError:  # it ends within its header
            return None

    def _h264(self, data: bytes) -> FrameType | None:
        types = {0: FrameType.P, 1: FrameType.B, 2: FrameType.I, 3: FrameType.P, 4: FrameType.I}
        found = []
        for at in _nal_units(data):
            if data[at] & 0x1F in (1, 2, 5):  # a slice, its partition A, a slice of an IDR picture
                bits = _Bits(_unescaped(data, at + 1))
                bits.ue()  # first_mb_in_slice
                if (kind := types.get(bits.ue() % 5)) is not None:
                    found.append(kind)
        return max(found, key=_RANK.__getitem__, default=None)

    def _h265(self, data: bytes) -> FrameType | None:
        types = {0: FrameType.B, 1: FrameType.P, 2: FrameType.I}
        found = []
        for at in _nal_units(data):
            kind = data[at] >> 1 & 0x3F
            if kind == 34:
                self._pps(_Bits(_unescaped(data, at + 2)))
            elif kind <= 9 or 16 <= kind <= 21:
                bits = _Bits(_unescaped(data, at + 2))
                if not bits.u(1):  # first_slice_segment_in_pic_flag: the others say first where they are
                    continue
                if kind >= 16:
                    bits.u(1)  # no_output_of_prior_pics_flag
                bits.u(self._extra_bits.get(bits.ue(), 0))
                if (slice_type := types.get(bits.ue())) is not None:
                    found.append(slice_type)
        return max(found, key=_RANK.__getitem__, default=None)

    def _pps(self, bits: "_Bits") -> None:
        number = bits.ue()
        bits.ue()  # pps_seq_parameter_set_id
        bits.u(2)  # dependent_slice_segments_enabled_flag, output_flag_present_flag
        if number < 64:
            self._extra_bits[number] = bits.u(3)

    @staticmethod
    def _vp8(data: bytes) -> FrameType:
        return FrameType.P if data[0] & 1 else FrameType.I

    @staticmethod
    def _vp9(data: bytes) -> FrameType | None:
        bits = _Bits(data[:4])
        if bits.u(2) != 2:  # frame_marker
            return None
        if bits.u(1) + 2 * bits.u(1) == 3:  # profile, and where it is the last a bit that is reserved
            bits.u(1)
        if bits.u(1):  # show_existing_frame
            return FrameType.P
        if not bits.u(1):  # frame_type
            return FrameType.I
        shown = bits.u(1)
        bits.u(1)  # error_resilient_mode
        return FrameType.I if not shown and bits.u(1) else FrameType.P  # intra_only

    def _av1(self, data: bytes) -> FrameType | None:
        at = 0
        while at < len(data):
            head = data[at]
            at += 2 if head & 4 else 1
            size = len(data) - at
            if head & 2:
                size, at = _leb128(data, at)
            kind, bits = head >> 3 & 15, _Bits(data[at : at + 1])
            if kind == 1:  # sequence header: seq_profile, still_picture, reduced_still_picture_header
                bits.u(4)
                self._reduced = bool(bits.u(1))
            elif kind in (3, 6):  # frame header, frame
                if self._reduced:
                    return FrameType.I
                shows_existing = bits.u(1)
                return FrameType.I if not shows_existing and bits.u(2) in (0, 2) else FrameType.P
            at += size
        return None


class _Bits:
    """Raises IndexError at its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def u(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self._data[self._at >> 3] >> (7 - (self._at & 7)) & 1
            self._at += 1
        return value

    def ue(self) -> int:
        """Exp-Golomb; its zeros end with the data."""
        zeros = 0
        while not self.u(1):
            zeros += 1
        return (1 << zeros) - 1 + self.u(zeros)


def _nal_units(data: bytes) -> Iterator[int]:
    """Where the headers of the first ones are, in Annex B."""
    at = -1
    for _ in range(SLICES_READ):
        at = data.find(b"\0\0\1", at + 1)
        if at < 0 or at + 3 >= len(data):
            return
        at += 3
        yield at


def _unescaped(data: bytes, at: int) -> bytes:
    """The first bytes of a NAL unit's payload, without emulation prevention."""
    return data[at : at + _SLICE_HEAD_BYTES].replace(b"\0\0\3", b"\0\0")


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """The value and where it ends; at most eight bytes."""
    value = 0
    for place in range(8):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * place)
        if not byte & 0x80:
            break
    return value, at
