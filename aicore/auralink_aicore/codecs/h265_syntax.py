"""As much of ITU-T H.265 as decides whether and how a stream is served; used by `codecs.h265`.

Reads NAL unit headers (7.3.1.2), the sequence parameter set up to the order of pictures (7.3.2.2), which of them a
picture parameter set names (7.3.2.3), and the first bits of a slice (7.3.6). Also rewrites one thing: a parameter set
that allows reordering makes a decoder hold pictures back, whatever the sender does, so the decoder is given one that
forbids it.
"""

from dataclasses import dataclass

from auralink_aicore.codecs.bits import Bits, escape, ue, unescape
from auralink_aicore.codecs.interface import BitstreamError

HEADER_BYTES = 2
NAL_SPS = 33
NAL_PPS = 34

_FIRST_KEY, _LAST_KEY = 16, 21  # BLA, IDR and CRA
_LAST_OTHER_SLICE = 9  # of the pictures that are no keys; what the standard keeps for later, decoders leave out
_IDR = (19, 20)
_LEADING = range(6, 10)  # RADL and RASL: shown in front of the key that they follow
_MAX_SPS_ID, _MAX_PPS_ID = 15, 63
_SLICE_START_BYTES = 24
_SPS_START_BYTES = 400  # as far as we read, whatever its sub-layers say


@dataclass(frozen=True, slots=True)
class Header:
    """Of a NAL unit."""

    kind: int  # nal_unit_type
    layer: int
    temporal_id: int

    @property
    def is_slice(self) -> bool:
        return self.kind <= _LAST_OTHER_SLICE or self.is_key

    @property
    def is_key(self) -> bool:
        """A random access point."""
        return _FIRST_KEY <= self.kind <= _LAST_KEY

    @property
    def is_idr(self) -> bool:
        return self.kind in _IDR

    @property
    def counts_for_order(self) -> bool:
        """Whether later pictures number theirs from this one (prevTid0Pic of 8.3.1)."""
        discardable = self.kind < _FIRST_KEY and self.kind % 2 == 0
        return self.temporal_id == 0 and not discardable and self.kind not in _LEADING


@dataclass(frozen=True, slots=True)
class Sps:
    """What we need of a sequence parameter set."""

    id: int  # sps_seq_parameter_set_id
    profile: int  # general_profile_idc
    high_tier: bool
    level: int  # general_level_idc: thirty times the level
    chroma_format: int  # 1 is 4:2:0
    bit_depth: int  # the larger of luma and chroma
    width: int  # pixels within the conformance window
    height: int
    interlaced: bool  # the source says it is nothing else
    order_bits: int  # of slice_pic_order_cnt_lsb
    ordering_at: tuple[int, int]  # bits of the RBSP where the pictures' order and delay stands
    buffers: tuple[int, ...]  # sps_max_dec_pic_buffering_minus1, by sub-layer
    reorder_pictures: int  # sps_max_num_reorder_pics of the highest sub-layer

    @property
    def may_reorder(self) -> bool:
        """Whether pictures may be shown in another order than they come."""
        return self.reorder_pictures > 0


@dataclass(frozen=True, slots=True)
class Pps:
    """What we need of a picture parameter set."""

    id: int  # pps_pic_parameter_set_id
    sps: int
    output_flag_present: bool
    extra_slice_bits: int


def parse_header(nal: bytes) -> Header:
    """Of a NAL unit. Raises BitstreamError."""
    if len(nal) < HEADER_BYTES:
        raise BitstreamError("a NAL unit without its header")
    first, second = nal[0], nal[1]
    if first & 0x80 or not second & 7:
        raise BitstreamError("not a NAL unit's header")
    return Header(kind=first >> 1, layer=(first & 1) << 5 | second >> 3, temporal_id=(second & 7) - 1)


def parse_pps(nal: bytes) -> Pps:
    """Of a picture parameter set NAL unit, header included. Raises BitstreamError."""
    bits = Bits(unescape(nal[HEADER_BYTES:_SLICE_START_BYTES]))
    pps, sps = _id(bits, _MAX_PPS_ID), _id(bits, _MAX_SPS_ID)
    bits.u(1)  # dependent_slice_segments_enabled_flag
    return Pps(pps, sps, output_flag_present=bool(bits.u(1)), extra_slice_bits=bits.u(3))


def slice_pps(nal: bytes) -> int:
    """The picture parameter set that a picture's first slice names. Raises BitstreamError, also at any other slice."""
    return _id(_slice(nal), _MAX_PPS_ID)


def order_count(nal: bytes, pps: Pps, sps: Sps) -> int:
    """slice_pic_order_cnt_lsb of a picture's first slice; 0 for an IDR picture. Raises BitstreamError."""
    if parse_header(nal).is_idr:
        return 0
    bits = _slice(nal)
    bits.ue()
    bits.u(pps.extra_slice_bits)
    bits.ue()  # slice_type
    bits.u(int(pps.output_flag_present))
    return bits.u(sps.order_bits)


def parse_sps(nal: bytes) -> Sps:
    """Parse a sequence parameter set NAL unit, header included. Raises BitstreamError."""
    bits = Bits(unescape(nal[HEADER_BYTES:_SPS_START_BYTES]))
    bits.u(4)  # sps_video_parameter_set_id
    sub_layers = bits.u(3) + 1
    if sub_layers > 7:
        raise BitstreamError("a parameter set with eight sub-layers")
    bits.u(1)  # sps_temporal_id_nesting_flag
    high_tier, profile, interlaced, level = _profile_tier_level(bits, sub_layers)
    sps_id = _id(bits, _MAX_SPS_ID)
    chroma_format = bits.ue()
    if chroma_format > 3:
        raise BitstreamError("an unknown chroma format")
    if chroma_format == 3:
        bits.u(1)  # separate_colour_plane_flag
    width, height = bits.ue(), bits.ue()
    left = right = top = bottom = 0
    if bits.u(1):
        left, right, top, bottom = bits.ue(), bits.ue(), bits.ue(), bits.ue()
    crop_x, crop_y = 2 if chroma_format in (1, 2) else 1, 2 if chroma_format == 1 else 1
    bit_depth = 8 + max(bits.ue(), bits.ue())
    order_bits = 4 + bits.ue()
    if order_bits > 16:
        raise BitstreamError("picture order counts of more than 16 bits")
    ordering_at = bits.at
    told = sub_layers if bits.u(1) else 1
    ordering = [(bits.ue(), bits.ue(), bits.ue()) for _ in range(told)]
    return Sps(
        id=sps_id,
        profile=profile,
        high_tier=high_tier,
        level=level,
        chroma_format=chroma_format,
        bit_depth=bit_depth,
        width=width - crop_x * (left + right),
        height=height - crop_y * (top + bottom),
        interlaced=interlaced,
        order_bits=order_bits,
        ordering_at=(ordering_at, bits.at),
        buffers=tuple(buffers for buffers, _, _ in ordering),
        reorder_pictures=ordering[-1][1],
    )


def without_reordering(nal: bytes, sps: Sps) -> bytes:
    """The same parameter set, promising that pictures come out in the order they go in."""
    rbsp = unescape(nal[HEADER_BYTES:])
    text = f"{int.from_bytes(rbsp):0{8 * len(rbsp)}b}".rstrip("0")
    start, end = sps.ordering_at
    ordering = text[start] + "".join(ue(buffers) + ue(0) + ue(0) for buffers in sps.buffers)
    text = text[:start] + ordering + text[end:]
    text += "0" * (-len(text) % 8)
    return nal[:HEADER_BYTES] + escape(int(text, 2).to_bytes(len(text) // 8))


def _slice(nal: bytes) -> Bits:
    """At slice_pic_parameter_set_id."""
    bits = Bits(unescape(nal[HEADER_BYTES:_SLICE_START_BYTES]))
    if not bits.u(1):
        raise BitstreamError("the picture's first slice is missing")
    if parse_header(nal).is_key:
        bits.u(1)  # no_output_of_prior_pics_flag
    return bits


def _id(bits: Bits, most: int) -> int:
    value = bits.ue()
    if value > most:
        raise BitstreamError(f"a parameter set's id is {value}, above {most}")
    return value


def _profile_tier_level(bits: Bits, sub_layers: int) -> tuple[bool, int, bool, int]:
    """(high tier, profile, interlaced, level) of the whole (7.3.3)."""
    bits.u(2)  # general_profile_space
    high_tier, profile = bool(bits.u(1)), bits.u(5)
    bits.u(32)  # compatibility flags
    progressive_source, interlaced_source = bits.u(1), bits.u(1)
    bits.u(46)
    level = bits.u(8)
    present = [(bits.u(1), bits.u(1)) for _ in range(sub_layers - 1)]
    if present:
        bits.u(2 * (8 - len(present)))
    for has_profile, has_level in present:
        bits.u(88 * has_profile + 8 * has_level)
    return high_tier, profile, bool(interlaced_source and not progressive_source), level
