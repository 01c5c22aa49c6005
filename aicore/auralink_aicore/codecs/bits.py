"""Bits of a header, and the byte stream that H.264 and H.265 put their NAL units in (Annex B of both)."""

from collections.abc import Iterator

from auralink_aicore.codecs.interface import BitstreamError


class Bits:
    """Reads bits, most significant first; BitstreamError past the end."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data)
        self._size = 8 * len(data)
        self.at = 0

    def u(self, count: int) -> int:
        """u(n)."""
        self.at += count
        if self.at > self._size:
            raise BitstreamError("the bitstream ends early")
        return (self._value >> (self._size - self.at)) & ((1 << count) - 1)

    def ue(self) -> int:
        """ue(v): unsigned Exp-Golomb (H.264, 9.1)."""
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > 32:
                raise BitstreamError("not an Exp-Golomb code")
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        """se(v): signed Exp-Golomb (H.264, 9.1.1)."""
        code = self.ue()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def nal_units(data: bytes) -> Iterator[tuple[int, int]]:
    """(start, end) of each NAL unit of an Annex B access unit, start codes and trailing zeros left out."""
    start = data.find(b"\0\0\1")
    while start >= 0:
        start += 3
        following = data.find(b"\0\0\1", start)
        end = len(data) if following < 0 else following
        while end > start and data[end - 1] == 0:
            end -= 1
        if end > start:
            yield start, end
        start = following


def ue(value: int) -> str:
    """ue(v) as text of zeros and ones."""
    code = f"{value + 1:b}"
    return "0" * (len(code) - 1) + code


def unescape(data: bytes) -> bytes:
    """The RBSP of a NAL unit's payload: without emulation prevention bytes."""
    return data.replace(b"\0\0\3", b"\0\0")


def escape(rbsp: bytes) -> bytes:
    """The other way."""
    out = bytearray()
    zeros = 0
    for byte in rbsp:
        if zeros == 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)
