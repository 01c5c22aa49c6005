"""Who participants say they are, and who learns it."""

from collections.abc import Mapping

import pytest
from auralink_dataplane.rooms.events import Participant, Side, Version
from auralink_dataplane.rooms.identity import (
    FIELDS,
    Audience,
    Claim,
    Claimed,
    IdentityInfo,
    Kind,
    Shown,
    aura_id,
    claims,
    email,
    phone,
    pseudonym,
    shown,
)
from auralink_operator.models.policy import Privacy
from hypothesis import given
from hypothesis import strategies as st

SECRET = b"0123456789abcdef"
INFO = IdentityInfo("aura:12345", "Ada Lovelace", "ada@example.com", "+4930123456", verified=True)


def livekit(identity: str = "p1", name: str = "", **attributes: str) -> Participant:
    return Participant(Side.LIVEKIT, identity, Version(1), name=name, attributes=dotted(attributes))


def jitsi(name: str = "", **attributes: str) -> Participant:
    return Participant(Side.JITSI, "79f0273d", Version(1), name=name, attributes=dotted(attributes))


def dotted(attributes: Mapping[str, str]) -> Mapping[str, str]:
    return {key.replace("_", "."): value for key, value in attributes.items()}


AURA = Claimed(Claim(Kind.AURA_ID, "aura:12345"), proven=True)
MAIL = Claimed(Claim(Kind.EMAIL, "ada@example.com"), proven=True)
CALL = Claimed(Claim(Kind.PHONE, "+4930123456"), proven=True)


# --- claims


def test_claims_are_in_the_order_of_the_guide() -> None:
    everything = {"phone": "+49 30 123456", "email": "Ada@Example.com", "aura_id": "aura:12345"}
    assert claims(livekit(**everything)) == (AURA, MAIL, CALL)


def test_a_livekit_identity_may_be_an_aura_id_or_an_address() -> None:
    assert claims(livekit("aura:12345")) == (AURA,)
    assert claims(livekit("ada@example.com", aura_id="aura:12345")) == (AURA, MAIL)
    assert claims(livekit("p1")) == ()


def test_what_a_jitsi_client_writes_itself_is_no_proof() -> None:
    assert claims(jitsi(email="ada@example.com")) == (Claimed(MAIL.claim, proven=False),)
    assert claims(jitsi(user_email="ADA@example.com", email="ada@example.com")) == (MAIL,)
    assert claims(jitsi(aura_id="aura:12345")) == ()
    assert claims(jitsi(user_id="aura:12345")) == (AURA,)


def test_a_users_id_that_is_no_aura_id_is_passed_over() -> None:
    assert claims(jitsi(user_id="12345", user_email="ada@example.com")) == (MAIL,)


def test_those_that_we_put_there_are_nobody() -> None:
    assert claims(Participant(Side.LIVEKIT, "aura:12345", Version(1), is_bridge=True)) == ()
    assert claims(Participant(Side.LIVEKIT, "aura:12345", Version(1), origin="jitsi:r@m/79f0273d")) == ()


@pytest.mark.parametrize("text", ["aura:12345", " AURA:12345\n", "aura:a", "aura:A.b_c~d-1", "aura:" + "x" * 123])
def test_aura_ids(text: str) -> None:
    assert aura_id(text) == "aura:" + text.strip()[5:]


@pytest.mark.parametrize(
    "text", ["", "12345", "aura:", "aura:-1", "aura:a b", "aura:ä", "aura:a/b", "aura:" + "x" * 124, "xaura:1"]
)
def test_what_is_no_aura_id(text: str) -> None:
    assert aura_id(text) is None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("User@Example.COM", "user@example.com"),
        (" a.b+c@sub.example.org ", "a.b+c@sub.example.org"),
        ("x@xn--bcher-kva.example", "x@xn--bcher-kva.example"),
        ("a" * 64 + "@example.com", "a" * 64 + "@example.com"),
    ],
)
def test_addresses(text: str, address: str) -> None:
    assert email(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "user",
        "user@localhost",
        "@example.com",
        "a@b@example.com",
        ".a@example.com",
        "a..b@example.com",
        '"a b"@example.com',
        "a@[192.0.2.1]",
        "a@bücher.example",
        "ü@example.com",
        "Ada <ada@example.com>",
        "a@-x.com",
        "a@example.com\nBcc: b@example.com",
        "a" * 65 + "@example.com",
        "a@" + "x" * 64 + ".com",
        "a@" + ".".join(["x" * 60] * 5),
    ],
)
def test_what_is_no_address(text: str) -> None:
    assert email(text) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("+4930123456", "+4930123456"),
        ("+49 (0)30 / 123-456", "+4930123456"),
        ("0049 30 123456", "+4930123456"),
        ("tel:+1-201-555-0123", "+12015550123"),
        ("+1 (555) 010.9999", "+15550109999"),
        ("+44\u00a020\u20117946\u20110958", "+442079460958"),
        ("+2903456", "+2903456"),
    ],
)
def test_numbers(text: str, number: str) -> None:
    assert phone(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "030 123456",
        "(555) 010-9999",
        "011 44 20 7946 0958",
        "0011 44 20 7946 0958",
        "8~10 49 30 123456",
        "+049 30 123456",
        "+123456",
        "+1234567890123456",
        "+49 30 123456 x12",
        "tel:+1-201-555-0123;ext=5",
        "+1-800-FLOWERS",
        "++4930123456",
        "+49 30 1234\u0665\u0666",
        "112",
    ],
)
def test_what_is_no_international_number(text: str) -> None:
    assert phone(text) is None


@given(st.text(max_size=400))
def test_normalised_is_normal(text: str) -> None:
    for normal in (aura_id, email, phone):
        for written in (text, f"aura:{text}", f"{text}@example.com", f"+{text}"):
            once = normal(written)
            assert once is None or (normal(once) == once and once.isascii() and len(once) <= 254)


@given(
    st.dictionaries(st.sampled_from(["aura.id", "user.id", "email", "user.email", "phone", "user.phone"]), st.text())
)
def test_attributes_may_say_anything(attributes: dict[str, str]) -> None:
    for side in Side:
        found = claims(Participant(side, "x", Version(1), attributes=attributes))
        assert len({one.claim for one in found}) == len(found) <= 7
        assert [one.claim.kind for one in found] == sorted((one.claim.kind for one in found), key=list(Kind).index)


# --- what is told


def told(
    privacy: str, audience: Audience, *, proven: bool = True, info: IdentityInfo | None = INFO, name: str = "ada"
) -> Shown:
    return shown(livekit(name=name), info, proven=proven, privacy=privacy, audience=audience, secret=SECRET)  # type: ignore[arg-type]


def test_there_is_a_rule_for_every_privacy_of_the_resource() -> None:
    assert set(FIELDS) == {(one.value, audience) for one in Privacy for audience in Audience}


def test_full_tells_all() -> None:
    everything = Shown("Ada Lovelace", "aura:12345", "ada@example.com", "+4930123456", verified=True)
    assert told("Full", Audience.ROOM) == told("Full", Audience.STAFF) == everything


def test_display_name_tells_the_room_the_name_only() -> None:
    assert told("DisplayName", Audience.ROOM) == Shown("Ada Lovelace")
    assert told("DisplayName", Audience.STAFF) == Shown("Ada Lovelace", "aura:12345", verified=True)


def test_hidden_tells_the_room_nothing() -> None:
    assert told("Hidden", Audience.ROOM) == told("Hidden", Audience.ROOM, info=None) == Shown()


def test_a_pseudonym_stays_the_same_and_says_nothing() -> None:
    made_up = told("Pseudonym", Audience.ROOM)
    assert made_up == Shown(pseudonym("aura:12345", SECRET)) == told("Pseudonym", Audience.STAFF, name="other")
    assert made_up == told("Hidden", Audience.STAFF)
    assert made_up.name != pseudonym("aura:12345", b"another secret..")
    assert made_up.name != told("Pseudonym", Audience.ROOM, info=None).name
    assert made_up.name.isascii()
    assert len(made_up.name) == len("Guest 7K2M-QX4D")


def test_who_only_claims_to_be_somebody_learns_and_shows_nothing_of_that_person() -> None:
    assert told("Full", Audience.ROOM, proven=False) == Shown("ada")
    assert told("Full", Audience.ROOM, proven=False, name="") == Shown("Ada Lovelace")
    assert told("Full", Audience.STAFF, proven=False) == Shown("ada", "aura:12345", verified=False)
    assert told("Pseudonym", Audience.ROOM, proven=False).name != told("Pseudonym", Audience.ROOM).name


def test_who_is_nobody_keeps_the_name_it_came_with() -> None:
    assert told("Full", Audience.ROOM, info=None) == told("DisplayName", Audience.STAFF, info=None) == Shown("ada")


@given(
    st.sampled_from(sorted(FIELDS, key=str)),
    st.booleans(),
    st.none() | st.builds(IdentityInfo, st.just("aura:1"), st.text(), st.text(), st.text(), st.booleans()),
    st.text(),
)
def test_nothing_is_told_beyond_the_table(
    rule: tuple[str, Audience], proven: bool, info: IdentityInfo | None, name: str
) -> None:
    privacy, audience = rule
    what = told(privacy, audience, proven=proven, info=info, name=name)
    fields = FIELDS[rule]  # type: ignore[index]
    for field in ("aura_id", "email", "phone", "verified"):
        assert field in fields or not getattr(what, field)
    if fields <= {"pseudonym"}:
        assert what.name == "" or what.name.startswith("Guest ")
    if not proven:
        assert not what.verified
        assert not what.email
        assert not what.phone


def test_a_thousand_subjects_have_a_thousand_pseudonyms() -> None:
    assert len({pseudonym(f"aura:{number}", SECRET) for number in range(1000)}) == 1000
