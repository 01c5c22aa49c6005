"""As much of ITU-T H.264 as decides whether and how a stream is served; used by `codecs.h264`.

Reads the sequence parameter set (7.3.2.1.1, E.1.1), which of them a picture parameter set names (7.3.2.2), and the
first bits of a slice header (7.3.3). Also rewrites one thing: a parameter set that does not promise "no reordering"
makes a decoder hold pictures back in case B pictures come (libavcodec's low_delay flag does not change that), so the
decoder is given one that promises it.
"""

from dataclasses import dataclass

from auralink_aicore.codecs.bits import Bits, escape, ue, unescape
from auralink_aicore.codecs.interface import BitstreamError

NAL_SLICE = 1
NAL_IDR = 5
NAL_SPS = 7
NAL_PPS = 8

# Profiles whose parameter set carries chroma format and bit depth (7.3.2.1.1).
_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_MAX_SPS_ID = 31
_MAX_PPS_ID = 255
_EXTENDED_SAR = 255
_SLICE_B = 1


@dataclass(frozen=True, slots=True)
class Sps:
    """What we need of a sequence parameter set."""

    id: int  # seq_parameter_set_id
    profile: int  # profile_idc
    constraints: int  # constraint_set0_flag is 0x80
    level: int  # level_idc
    chroma_format: int  # 1 is 4:2:0
    bit_depth: int  # the larger of luma and chroma
    width: int  # pixels after cropping
    height: int
    progressive: bool
    reference_frames: int
    reorder_frames: int | None  # None: the parameter set does not say
    restriction_at: int  # bit in the RBSP where the bitstream restriction begins, or would
    has_vui: bool

    @property
    def constrained_baseline(self) -> bool:
        """Baseline without the parts that nobody decodes (A.2.1.1)."""
        return self.profile == 66 and bool(self.constraints & 0x40)

    @property
    def may_reorder(self) -> bool:
        """Whether B pictures may come."""
        return self.profile != 66 and self.reorder_frames != 0


@dataclass(frozen=True, slots=True)
class SliceStart:
    """What we need of a slice header."""

    bidirectional: bool
    pps: int  # pic_parameter_set_id


def parse_slice_start(nal: bytes) -> SliceStart:
    """Of a slice NAL unit, header byte included; its first 16 bytes are enough. Raises BitstreamError."""
    bits = Bits(unescape(nal[1:16]))
    bits.ue()  # first_mb_in_slice
    kind = bits.ue()
    return SliceStart(bidirectional=kind % 5 == _SLICE_B, pps=_id(bits, _MAX_PPS_ID))


def parse_pps(nal: bytes) -> tuple[int, int]:
    """(its own id, its sequence parameter set's) of a picture parameter set NAL unit. Raises BitstreamError."""
    bits = Bits(unescape(nal[1:16]))
    return _id(bits, _MAX_PPS_ID), _id(bits, _MAX_SPS_ID)


def parse_sps(nal: bytes) -> Sps:
    """Parse a sequence parameter set NAL unit, header byte included. Raises BitstreamError."""
    bits = Bits(unescape(nal[1:]))
    profile, constraints, level = bits.u(8), bits.u(8), bits.u(8)
    sps_id = _id(bits, _MAX_SPS_ID)
    chroma_format, bit_depth = 1, 8
    if profile in _HIGH_PROFILES:
        chroma_format, bit_depth = _chroma(bits)
    bits.ue()  # log2_max_frame_num_minus4
    _picture_order(bits)
    reference_frames = bits.ue()
    bits.u(1)  # gaps_in_frame_num_value_allowed_flag
    width_mbs, height_units = bits.ue() + 1, bits.ue() + 1
    progressive = bool(bits.u(1))
    if not progressive:
        bits.u(1)  # mb_adaptive_frame_field_flag
    bits.u(1)  # direct_8x8_inference_flag
    left = right = top = bottom = 0
    if bits.u(1):
        left, right, top, bottom = bits.ue(), bits.ue(), bits.ue(), bits.ue()
    crop_x = 2 if chroma_format in (1, 2) else 1
    crop_y = (2 if chroma_format == 1 else 1) * (1 if progressive else 2)
    has_vui, restriction_at = False, bits.at
    reorder_frames: int | None = None
    if bits.u(1):
        has_vui = True
        restriction_at, reorder_frames = _vui(bits)
    return Sps(
        id=sps_id,
        profile=profile,
        constraints=constraints,
        level=level,
        chroma_format=chroma_format,
        bit_depth=bit_depth,
        width=16 * width_mbs - crop_x * (left + right),
        height=16 * height_units * (1 if progressive else 2) - crop_y * (top + bottom),
        progressive=progressive,
        reference_frames=reference_frames,
        reorder_frames=reorder_frames,
        restriction_at=restriction_at,
        has_vui=has_vui,
    )


def without_reordering(nal: bytes, sps: Sps) -> bytes:
    """The same parameter set, promising that pictures come out in the order they go in (E.2.1)."""
    rbsp = unescape(nal[1:])
    kept = int.from_bytes(rbsp) >> (8 * len(rbsp) - sps.restriction_at)
    text = f"{kept:0{sps.restriction_at}b}"
    if not sps.has_vui:
        text += "1" + "0" * 8  # vui_parameters_present_flag and eight absent parts of it
    text += "1"  # bitstream_restriction_flag
    text += "1"  # motion_vectors_over_pic_boundaries_flag
    text += "".join(map(ue, (0, 0, 16, 16)))  # no limit on bytes, bits, vector lengths
    text += ue(0)  # max_num_reorder_frames
    text += ue(max(sps.reference_frames, 1))  # max_dec_frame_buffering
    text += "1"
    text += "0" * (-len(text) % 8)
    return nal[:1] + escape(int(text, 2).to_bytes(len(text) // 8))


def _id(bits: Bits, most: int) -> int:
    value = bits.ue()
    if value > most:
        raise BitstreamError(f"a parameter set's id is {value}, above {most}")
    return value


def _chroma(bits: Bits) -> tuple[int, int]:
    chroma_format = bits.ue()
    if chroma_format == 3:
        bits.u(1)  # separate_colour_plane_flag
    bit_depth = 8 + max(bits.ue(), bits.ue())
    bits.u(1)  # qpprime_y_zero_transform_bypass_flag
    if bits.u(1):
        for index in range(12 if chroma_format == 3 else 8):
            if bits.u(1):
                _scaling_list(bits, 16 if index < 6 else 64)
    return chroma_format, bit_depth


def _scaling_list(bits: Bits, size: int) -> None:
    last, following = 8, 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


def _picture_order(bits: Bits) -> None:
    kind = bits.ue()
    if kind == 0:
        bits.ue()
    elif kind == 1:
        bits.u(1)
        bits.se()
        bits.se()
        count = bits.ue()
        if count > 255:
            raise BitstreamError("too many reference frames in the picture order cycle")
        for _ in range(count):
            bits.se()


def _vui(bits: Bits) -> tuple[int, int | None]:
    """(bit where bitstream_restriction_flag stands, max_num_reorder_frames if given)."""
    if bits.u(1) and bits.u(8) == _EXTENDED_SAR:
        bits.u(32)
    if bits.u(1):  # overscan
        bits.u(1)
    if bits.u(1):  # video signal type
        bits.u(4)
        if bits.u(1):
            bits.u(24)
    if bits.u(1):  # chroma location
        bits.ue()
        bits.ue()
    if bits.u(1):  # timing
        bits.u(65)
    nal_hrd = bool(bits.u(1))
    if nal_hrd:
        _hrd(bits)
    vcl_hrd = bool(bits.u(1))
    if vcl_hrd:
        _hrd(bits)
    if nal_hrd or vcl_hrd:
        bits.u(1)  # low_delay_hrd_flag
    bits.u(1)  # pic_struct_present_flag
    at = bits.at
    if not bits.u(1):
        return at, None
    bits.u(1)
    for _ in range(4):
        bits.ue()
    return at, bits.ue()


def _hrd(bits: Bits) -> None:
    count = bits.ue() + 1
    if count > 32:
        raise BitstreamError("too many buffer models")
    bits.u(8)
    for _ in range(count):
        bits.ue()
        bits.ue()
        bits.u(1)
    bits.u(20)
