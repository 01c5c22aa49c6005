"""A sender's stream is cut into what an AI Core gets, and back into what a decoder plays."""

from fractions import Fraction
from pathlib import Path

import pytest

from hack.lab import clip, picture, pristine, sender, units
from hack.lab.clip import Clip
from hack.lab.pristine import Form

FRAMES = 12
CODECS = sorted(units.SUFFIXES)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A test card in motion."""
    source = tmp_path_factory.mktemp("clip") / "card_160x120_25fps.mkv"
    card = ["-f", "lavfi", "-i", "testsrc2=s=160x120:r=25", "-frames:v", f"{FRAMES + 3}"]
    clip.run_ffmpeg([*card, *clip.LOSSLESS, str(source)])
    return clip.probe(source)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.mark.parametrize("codec", CODECS)
def test_a_stream_that_is_cut_and_joined_shows_the_same_pictures(codec: str, original: Clip, tmp_path: Path) -> None:
    sent = sender.send(original, codec, 300, FRAMES)

    assert [unit.key for unit in sent.units] == [True] + [False] * (FRAMES - 1)
    payloads = [unit.payload for unit in sent.units]
    joined = units.join(tmp_path / f"again.{units.SUFFIXES[codec]}", codec, payloads, (160, 120), original.fps)
    assert picture.decode_strictly(joined) == picture.Decoded(FRAMES, 0, ())
    assert picture.fingerprints(joined) == picture.fingerprints(sent.path)


@pytest.mark.parametrize(("codec", "head"), [("H264", "0000000167"), ("H265", "0000000140")])
def test_parameter_sets_come_before_the_key(codec: str, head: str, original: Clip) -> None:
    assert sender.send(original, codec, 300, FRAMES).units[0].payload.hex().startswith(head)


def test_av1_has_no_temporal_delimiter(original: Clip) -> None:
    assert all(unit.payload[0] >> 3 != 2 for unit in sender.send(original, "AV1", 300, FRAMES).units)


def test_a_file_of_another_codec_is_refused(original: Clip) -> None:
    vp8 = sender.send(original, "VP8", 300, FRAMES).path
    with pytest.raises(ValueError, match="VP90"):
        units.cut(vp8, "VP9")


def test_a_clip_is_scaled_to_its_short_side_and_never_enlarged(original: Clip) -> None:
    small = pristine.shaped(original, Form(short_side=60))
    assert (small.width, small.height, small.frames, small.fps) == (80, 60, FRAMES + 3, Fraction(25))
    assert pristine.shaped(original, Form(short_side=720)) == original
    assert small.name == pristine.plain_name(original) == "card"


def test_a_noisy_clip_says_so_in_its_name_and_looks_otherwise(original: Clip) -> None:
    noisy = pristine.shaped(original, Form(noise=pristine.SENSOR_NOISE))
    assert noisy.name == "card-noise"
    assert picture.fingerprints(noisy.path) != picture.fingerprints(original.path)


def test_raw_video_is_a_clip_where_its_name_says_what_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, original: Clip
) -> None:
    raw = tmp_path / "people_160x120_12fps.yuv"
    clip.run_ffmpeg(["-i", str(original.path), "-f", "rawvideo", "-pix_fmt", "yuv420p", str(raw)])
    found = clip.probe(clip.from_raw(raw))
    assert (found.name, found.width, found.height, found.fps) == ("people_160x120_12fps", 160, 120, Fraction(12))
    assert picture.fingerprints(found.path) == picture.fingerprints(original.path)
    with pytest.raises(ValueError, match="WIDTHxHEIGHT"):
        clip.from_raw(tmp_path / "people.yuv")


def test_of_several_tracks_the_largest_is_the_clip(tmp_path: Path, original: Clip) -> None:
    both = tmp_path / "both.mkv"
    card = ["-f", "lavfi", "-i", "testsrc2=s=80x60:r=25", "-i", str(original.path), "-map", "0:v", "-map", "1:v"]
    clip.run_ffmpeg([*card, "-frames:v", "5", *clip.LOSSLESS, str(both)])
    found = clip.probe(clip.one_track(both))
    assert (found.name, found.width, found.height) == ("both", 160, 120)
    assert clip.one_track(original.path) == original.path
