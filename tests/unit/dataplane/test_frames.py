"""The 16 bytes, the model's hash, and whether an SPS allows reordering."""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest
from auralink_dataplane.media.frames import Disposition, Extension, Result, may_reorder, model_hash
from hypothesis import given
from hypothesis import strategies as st

VECTOR = bytes.fromhex("0101900398a031850d00000000000000")


def test_the_extension_is_packed_as_documented() -> None:
    assert Extension(400, 920, model_hash("encodec"), 0).pack() == VECTOR


@given(st.integers(0, 1000), st.integers(0, 65535), st.integers(0, 2**32 - 1), st.integers(0, 0x7F))
def test_the_extension_round_trips(ratio: int, quality: int, hashed: int, flags: int) -> None:
    extension = Extension(ratio, quality, hashed, flags)
    packed = extension.pack()
    assert len(packed) == 16
    assert Extension.unpack(packed) == extension


@pytest.mark.parametrize("data", [b"", VECTOR[:15], VECTOR + b"\x00", b"\x02" + VECTOR[1:]])
def test_foreign_bytes_are_no_extension(data: bytes) -> None:
    assert Extension.unpack(data) is None


def test_values_out_of_range_are_clamped_not_wrapped() -> None:
    assert Extension(5000, 99999, 1 << 40 | 5, 0xFF).pack() == Extension(1000, 65535, 5, 0x7F).pack()


def test_the_packet_cores_own_flags_are_left_to_it() -> None:
    result = Result(1, Disposition.COMPRESSED, key=True, flags=0x01 | 0x04 | 0x08 | 0x80)
    assert Extension.of(result).flags == 0x02 | 0x08


@pytest.mark.parametrize(
    ("arguments", "reorders"),
    [
        (["-profile:v", "baseline"], False),
        (["-profile:v", "high", "-bf", "0"], False),
        (["-profile:v", "main", "-bf", "2"], True),
        (["-profile:v", "high", "-bf", "3", "-x264-params", "nal-hrd=vbr:vbv-maxrate=500:vbv-bufsize=500"], True),
    ],
)
def test_an_encoders_sps_says_whether_it_reorders(tmp_path: Path, arguments: list[str], reorders: bool) -> None:
    clip = tmp_path / "clip.h264"
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=322x182:r=25", "-t", "0.2",
        "-c:v", "libx264", "-pix_fmt", "yuv420p", *arguments, str(clip),
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=60)
    assert may_reorder(clip.read_bytes()) is reorders


@given(st.binary(max_size=80))
def test_an_sps_that_cannot_be_read_might_reorder(noise: bytes) -> None:
    assert may_reorder(b"\x00\x00\x01\x67\x64" + noise) in (True, False)
    assert may_reorder(b"\x00\x00\x01\x67\x64") is True
    assert may_reorder(b"\x00\x00\x01\x65") is True
