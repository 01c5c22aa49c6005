"""Clips as they are measured at: scaled, with sensor noise, lossless and kept in the cache.

"Pristine" is what a sender's encoder is given and what VMAF compares with.
"""

import re
from dataclasses import dataclass

from hack.lab.clip import LOSSLESS, Clip, encoded, probe

SENSOR_NOISE = 9
"""Strength of FFmpeg's noise filter on luma, constant over the picture: a webcam in a dim room."""

_SIZE_IN_NAME = re.compile(r"_\d+x\d+.*$")


@dataclass(frozen=True, slots=True)
class Form:
    """How a clip is to be shown; (0, 0) is the clip itself."""

    short_side: int = 0  # pixels; 0, or a clip that is no larger, leaves the size alone
    noise: int = 0


def plain_name(clip: Clip) -> str:
    """The file's name without the size and rate in it, for the clip may be measured at others."""
    return _SIZE_IN_NAME.sub("", clip.name)


def shaped(clip: Clip, form: Form) -> Clip:
    """The clip in that form. Noise comes after scaling, as a camera's would; it is the same in every run."""
    filters = []
    if form.short_side and min(clip.width, clip.height) > form.short_side:
        size = f"{form.short_side}:-2" if clip.width < clip.height else f"-2:{form.short_side}"
        filters.append(f"scale={size}:flags=lanczos")
    if form.noise:
        filters.append(f"noise=c0s={form.noise}:c0_seed=1")
    if not filters:
        return clip
    name = f"{plain_name(clip)}{'-noise' if form.noise else ''}.mkv"
    return probe(encoded(clip.path, ["-vf", ",".join(filters), "-fps_mode", "passthrough", *LOSSLESS], name))
