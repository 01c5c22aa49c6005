"""What an fmtp line says that its receiver decodes, and what all of several do."""

import pytest
from auralink_dataplane.media.h264 import LEVEL_1B, Ceiling, Profile, ceiling_of, lowest
from auralink_pb.aicore.v1 import aicore_pb2 as pb
from hypothesis import given
from hypothesis import strategies as st

NOTHING = Ceiling()


@pytest.mark.parametrize(
    ("identity", "profile", "level"),
    [
        # RFC 6184, table 5, and what browsers offer
        ("42e01f", Profile.CONSTRAINED_BASELINE, 31),
        ("42C01E", Profile.CONSTRAINED_BASELINE, 30),
        ("42401f", Profile.CONSTRAINED_BASELINE, 31),
        ("4d801f", Profile.CONSTRAINED_BASELINE, 31),
        ("58c01f", Profile.CONSTRAINED_BASELINE, 31),
        ("42001f", Profile.BASELINE, 31),
        ("42a01e", Profile.BASELINE, 30),
        ("58801f", Profile.BASELINE, 31),
        ("580028", Profile.BASELINE, 40),
        ("4d0032", Profile.MAIN, 50),
        ("4d401f", Profile.MAIN, 31),
        ("640028", Profile.HIGH, 40),
        ("640c1f", Profile.HIGH, 31),
        ("6e0028", Profile.HIGH, 40),
        ("7a0028", Profile.HIGH, 40),
        ("f40028", Profile.HIGH, 40),
        ("42f00b", Profile.CONSTRAINED_BASELINE, LEVEL_1B),
        ("42e00b", Profile.CONSTRAINED_BASELINE, 11),
        ("4d100b", Profile.MAIN, LEVEL_1B),
        ("640009", Profile.HIGH, LEVEL_1B),
        ("64100b", Profile.HIGH, 11),
    ],
)
def test_a_profile_level_id_is_read_as_the_rfc_says(identity: str, profile: Profile, level: int) -> None:
    assert ceiling_of(f"packetization-mode=1;profile-level-id={identity}") == Ceiling(profile, level)


@pytest.mark.parametrize(
    "fmtp",
    [
        None, "", "packetization-mode=1", "profile-level-id", "profile-level-id=", "profile-level-id=42e0",
        "profile-level-id=42e01f00", "profile-level-id=42 e01", "profile-level-id=wxyz12", "profile-level-id=+2e01f",
        "profile-level-id=6e1028",  # intra only
        "profile-level-id=2c0028", "profile-level-id=42e000",
        "profile-level-id=76001f",  # multiview
        "max-recv-level=e028",
    ],
)  # fmt: skip
def test_a_receiver_that_says_nothing_that_we_know_sets_no_bound(fmtp: str | None) -> None:
    assert ceiling_of(fmtp) == NOTHING


@pytest.mark.parametrize(
    "fmtp", ["Profile-Level-ID=42E01F", " profile-level-id = 42e01f ;x", ";;profile-level-id=42e01f;"]
)
def test_spaces_and_case_do_not_count(fmtp: str) -> None:
    assert ceiling_of(fmtp) == Ceiling(Profile.CONSTRAINED_BASELINE, 31)


@pytest.mark.parametrize(("more", "level"), [("e028", 40), ("e00d", 31), ("f00b", 31), ("28", 31), ("zzzz", 31)])
def test_a_receiver_may_take_a_higher_level_than_it_sends(more: str, level: int) -> None:
    assert ceiling_of(f"profile-level-id=42e01f;max-recv-level={more}").level == level


@pytest.mark.parametrize(
    ("ceilings", "together"),
    [
        ([], NOTHING),
        ([NOTHING, NOTHING], NOTHING),
        ([NOTHING, Ceiling(Profile.MAIN, 40)], Ceiling(Profile.MAIN, 40)),
        (
            [Ceiling(Profile.HIGH, 31), Ceiling(Profile.CONSTRAINED_BASELINE, 40)],
            Ceiling(Profile.CONSTRAINED_BASELINE, 31),
        ),
        ([Ceiling(Profile.HIGH, LEVEL_1B), Ceiling(Profile.HIGH, 10)], Ceiling(Profile.HIGH, 10)),
        ([Ceiling(Profile.HIGH, LEVEL_1B), Ceiling(Profile.HIGH, 11)], Ceiling(Profile.HIGH, LEVEL_1B)),
    ],
)
def test_together_they_take_what_each_of_them_takes(ceilings: list[Ceiling], together: Ceiling) -> None:
    assert lowest(ceilings) == together
    assert lowest(reversed(ceilings)) == together


@given(
    st.text(max_size=40)
    | st.from_regex(r"profile-level-id=[0-9a-fA-F]{6}(;max-recv-level=[0-9a-f]{4})?", fullmatch=True)
)
def test_any_line_is_read_and_one_receiver_is_its_own_minimum(fmtp: str) -> None:
    found = ceiling_of(fmtp)
    assert lowest([found, NOTHING, found]) == found
    assert bool(found.profile) is bool(found.level)


def test_profiles_are_the_wires() -> None:
    assert {f"H264_PROFILE_{one.name}": one.value for one in Profile} == dict(pb.H264Profile.items())
