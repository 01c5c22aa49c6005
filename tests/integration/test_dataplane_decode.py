"""Calls that lose 2 % in both directions, with switches between two encodings of the same pictures: whatever leaves the
packet core, a real decoder shows each picture as it is in its recording. The call is in virtual time
(`dataplane/native/examples/recorded_call.rs`); `AURALINK_SOAK_SECONDS` says how long, `make soak` says ten minutes."""

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import pytest

from tests.integration.media import ENCODERS, FFMPEG, FPS, REPOSITORY

CRATE = REPOSITORY / "dataplane" / "native"
SECONDS = int(os.environ.get("AURALINK_SOAK_SECONDS") or 20)
RECORDED_SECONDS = 20
# Quantisers apart, or two encoders may make the same key of a picture.
ENCODINGS = {
    "native": ("-b:v", "600k", "-qmin", "4", "-qmax", "24"),
    "compressed": ("-b:v", "200k", "-qmin", "30", "-qmax", "50"),
}
SUFFIX = {"H264": "h264", "H265": "hevc", "VP8": "ivf", "VP9": "ivf", "AV1": "ivf"}
DECODER = {"H264": "h264", "H265": "hevc", "VP8": "vp8", "VP9": "vp9", "AV1": "libdav1d"}
SEED = 7


@dataclass(frozen=True, slots=True)
class Recording:
    frames: list[tuple[bool, bytes]]  # key, and what a decoder gets
    pictures: list[str]  # digests

    def write(self, path: Path) -> Path:
        path.write_bytes(b"".join(bytes([key]) + len(data).to_bytes(4, "big") + data for key, data in self.frames))
        return path


def record(folder: Path, codec: str, kind: str) -> Recording:
    """A moving picture with a key each second."""
    path = folder / f"{kind}.{SUFFIX[codec]}"
    picture = f"testsrc2=size=320x180:rate={FPS},noise=alls=8:allf=t:all_seed=7"
    keys = ("-keyint_min", str(FPS), "-sc_threshold", "0")
    command = [FFMPEG, "-v", "error", "-y", "-f", "lavfi", "-i", picture, "-t", str(RECORDED_SECONDS),
               "-c:v", *ENCODERS[codec], *keys, *ENCODINGS[kind], "-pix_fmt", "yuv420p", str(path)]  # fmt: skip
    subprocess.run(command, check=True)
    with av.open(str(path)) as container:
        frames = [(packet.is_keyframe, bytes(packet)) for packet in container.demux(video=0) if packet.size]
    return Recording(frames, decoded(codec, [data for _, data in frames]))


def decoded(codec: str, frames: list[bytes]) -> list[str]:
    """A digest of each picture. Fails on whatever the decoder says of it."""
    decoder = av.CodecContext.create(DECODER[codec], "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.thread_count = 1
    decoder.options = {"err_detect": "explode"}
    pictures: list[str] = []
    av.logging.set_level(av.logging.WARNING)
    try:
        with av.logging.Capture() as said:
            for packet in [*map(av.Packet, frames), None]:
                shown = decoder.decode(packet)
                pictures.extend(hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest() for frame in shown)
        assert [line for line in said if line[0] <= av.logging.ERROR] == []
    finally:
        av.logging.set_level(None)
    return pictures


def call(codec: str, recordings: dict[str, Recording], folder: Path) -> list[tuple[int, str, bytes]]:
    """Picture, kind and bytes of each frame that left."""
    out = folder / "left"
    cargo = shutil.which("cargo")
    assert cargo is not None
    given = [str(recordings[kind].write(folder / kind)) for kind in ENCODINGS]
    subprocess.run(
        [cargo, "run", "--quiet", "--release", "--locked", "--no-default-features", "--example", "recorded_call", "--",
         codec, *given, str(SECONDS * FPS), str(SEED), str(out)],
        check=True, cwd=CRATE,
    )  # fmt: skip
    data, at, frames = out.read_bytes(), 0, []
    while at < len(data):
        size = int.from_bytes(data[at + 5 : at + 9], "big")
        kind = "native" if data[at + 4] else "compressed"
        frames.append((int.from_bytes(data[at : at + 4], "big"), kind, data[at + 9 : at + 9 + size]))
        at += 9 + size
    return frames


@pytest.mark.parametrize("codec", list(SUFFIX))
def test_switches_under_loss_leave_every_picture_as_it_was_recorded(tmp_path: Path, codec: str) -> None:
    recordings = {kind: record(tmp_path, codec, kind) for kind in ENCODINGS}
    left = call(codec, recordings, tmp_path)
    switches = sum(one[1] != other[1] for one, other in pairwise(left))
    print(f"{codec}: {len(left)} of {SECONDS * FPS} pictures and a quiet end, {switches} switches")
    assert len(left) > SECONDS * FPS / 5
    assert switches >= 1 + SECONDS // 60
    pictures = decoded(codec, [data for _, _, data in left])
    assert len(pictures) == len(left)
    for (number, kind, _), picture in zip(left, pictures, strict=True):
        recorded = recordings[kind].pictures
        assert picture == recorded[number % len(recorded)], f"picture {number}, {kind}"
