"""What receivers of H.264 take, as they say in SDP's `a=fmtp` (RFC 6184, 8.1). Pure. For `streams`, which asks the AI
Core for no more than all of a stream's receivers decode.

    profile-level-id=42e01f     profile_idc | profile-iop | level_idc, a byte each, as in the SPS
    max-recv-level=e028                       profile-iop | level_idc, where more is received than sent

A receiver that says no profile-level-id gets what the sender sends. The RFC would have it be Baseline at level 1,
176x144, but those who leave it out (FFmpeg, GStreamer) decode everything.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

LEVEL_1B: Final = 9
"""As High writes it; the other profiles say 11 with constraint_set3_flag (H.264, A.3.4)."""


class Profile(IntEnum):
    """In the order of what they may use; the wire's `H264Profile`."""

    UNSPECIFIED = 0
    CONSTRAINED_BASELINE = 1
    BASELINE = 2
    MAIN = 3
    HIGH = 4


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most that may be sent. UNSPECIFIED, 0: the sender's own SPS decides."""

    profile: Profile = Profile.UNSPECIFIED
    level: int = 0
    """level_idc: 31 is level 3.1, LEVEL_1B level 1b."""


ANYTHING: Final = Ceiling()


def ceiling_of(fmtp: str | None) -> Ceiling:
    """Of one receiver. What is no profile-level-id of a profile that we can serve counts as none."""
    given = _parameters(fmtp or "")
    identity = _bytes(given.get("profile-level-id", ""), 3)
    if not identity or not identity[2] or not (profile := _profile(identity[0], identity[1])):
        return ANYTHING
    level = _level(*identity)
    if more := _bytes(given.get("max-recv-level", ""), 2):
        level = max(level, _level(identity[0], *more), key=_rank)
    return Ceiling(profile, level)


def lowest(ceilings: Iterable[Ceiling]) -> Ceiling:
    """What every receiver decodes; those that said nothing do not count."""
    said = [one for one in ceilings if one.profile]
    if not said:
        return ANYTHING
    return Ceiling(min(one.profile for one in said), min((one.level for one in said), key=_rank))


_SUBSETS: Final[tuple[tuple[int, int, int, Profile], ...]] = (
    # profile_idc, bits of profile-iop that count, what they are: RFC 6184, table 5
    (66, 0x4F, 0x40, Profile.CONSTRAINED_BASELINE),
    (77, 0x8F, 0x80, Profile.CONSTRAINED_BASELINE),
    (88, 0xCF, 0xC0, Profile.CONSTRAINED_BASELINE),
    (66, 0x00, 0x00, Profile.BASELINE),
    (88, 0x00, 0x00, Profile.BASELINE),  # Extended has all of Baseline
    (77, 0x00, 0x00, Profile.MAIN),
    (100, 0x00, 0x00, Profile.HIGH),  # also constrained, without what we never send
    (110, 0x10, 0x00, Profile.HIGH),  # High 10, 4:2:2, 4:4:4 have all of High, but not where they are intra only
    (122, 0x10, 0x00, Profile.HIGH),
    (244, 0x10, 0x00, Profile.HIGH),
)
"""The first line that fits is taken."""


def _profile(profile_idc: int, iop: int) -> Profile:
    for idc, mask, bits, profile in _SUBSETS:
        if profile_idc == idc and iop & mask == bits:
            return profile
    return Profile.UNSPECIFIED


def _level(profile_idc: int, iop: int, level_idc: int) -> int:
    return LEVEL_1B if level_idc == 11 and iop & 0x10 and profile_idc in (66, 77, 88) else level_idc


def _rank(level: int) -> float:
    """Level 1b is between 1 and 1.1."""
    return 10.5 if level == LEVEL_1B else level


def _parameters(fmtp: str) -> dict[str, str]:
    """ "a=1; b=2": names in any case, the first of a name counts."""
    found: dict[str, str] = {}
    for part in fmtp.split(";"):
        name, _, value = part.partition("=")
        found.setdefault(name.strip().lower(), value.strip())
    return found


def _bytes(text: str, count: int) -> bytes:
    """Empty where it is something else than so many bytes of base16."""
    if len(text) != 2 * count or not text.isascii() or not text.isalnum():
        return b""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
