"""The 16 bytes of the extension."""

from auralink_dataplane.media.frames import Disposition, Extension, Result

VECTOR = bytes.fromhex("0101900398a031850d00000000000000")


def test_the_extension_is_packed_as_documented() -> None:
    assert Extension(400, 920, 0xA031850D, 0).pack() == VECTOR


def test_values_out_of_range_are_clamped_not_wrapped() -> None:
    assert Extension(5000, 99999, 1 << 40 | 5, 0xFF).pack() == Extension(1000, 65535, 5, 0x7F).pack()


def test_the_packet_cores_own_flags_are_left_to_it() -> None:
    result = Result(1, Disposition.COMPRESSED, key=True, flags=0x01 | 0x04 | 0x08 | 0x80)
    assert Extension.of(result).flags == 0x02 | 0x08
