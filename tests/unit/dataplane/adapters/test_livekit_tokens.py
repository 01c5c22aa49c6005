"""Tokens that are issued say what LiveKit expects; those that come are taken only if they are genuine and of now."""

import json
from base64 import urlsafe_b64encode
from typing import Any

import jwt
import pytest
from auralink_dataplane.adapters.livekit.tokens import (
    MAX_TOKEN_BYTES,
    SKEW_S,
    VALID_S,
    Grant,
    Holder,
    Key,
    Keys,
    Problem,
    TokenError,
    issue,
    verify,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dataplane.adapters.livekit_says import KEY, KEYS, NOW, OTHER, signed


def claims_of(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def refusal(token: str, keys: Keys = KEYS, now: float = NOW) -> Problem:
    with pytest.raises(TokenError) as caught:
        verify(token, keys, now)
    assert len(token) < 20 or token[:100] not in str(caught.value)
    return caught.value.problem


def test_a_token_says_who_joins_and_what_he_may() -> None:
    grant = Grant(room="standup", room_join=True, can_publish=False, can_publish_sources=("camera",), hidden=True)
    holder = Holder("auralink:1@standup", "Alice", "bridge", "{}", {"bridge.origin": "jitsi:r@muc/1"})
    assert claims_of(issue(KEY, grant, NOW, holder=holder, valid_s=60)) == {
        "iss": "APIours",
        "sub": "auralink:1@standup",
        "name": "Alice",
        "kind": "bridge",
        "metadata": "{}",
        "attributes": {"bridge.origin": "jitsi:r@muc/1"},
        "nbf": int(NOW),
        "iat": int(NOW),
        "exp": int(NOW) + 60,
        "video": {
            "room": "standup",
            "roomJoin": True,
            "canPublish": False,
            "canPublishSources": ["camera"],
            "hidden": True,
        },
    }


def test_what_is_not_granted_is_not_named() -> None:
    assert claims_of(issue(KEY, Grant(room_list=True), NOW))["video"] == {"roomList": True}


def test_a_token_is_taken_back() -> None:
    verified = verify(issue(KEY, Grant(room_create=True), NOW), KEYS, NOW)
    assert (verified.issuer, verified.expires_at) == (KEY.id, NOW + VALID_S)
    assert verified.claims["video"] == {"roomCreate": True}


@pytest.mark.parametrize(
    "holder",
    [
        Holder(""),
        Holder("a" * 257),
        Holder("a", name="n" * 257),
        Holder("a", metadata="m" * ((512 << 10) + 1)),
        Holder("a", attributes={"k": "v" * (64 << 10)}),
    ],
)
def test_nobody_is_issued_what_livekit_would_refuse(holder: Holder) -> None:
    with pytest.raises(ValueError, match=r".+"):
        issue(KEY, Grant(room="r", room_join=True), NOW, holder=holder)


def test_who_joins_names_a_room() -> None:
    with pytest.raises(ValueError, match="a room"):
        issue(KEY, Grant(room_join=True), NOW, holder=Holder("alice"))


def test_both_keys_are_taken_while_they_are_changed() -> None:
    both = Keys((OTHER, KEY))
    assert verify(issue(KEY, Grant(), NOW), both, NOW).issuer == KEY.id
    assert verify(issue(OTHER, Grant(), NOW), both, NOW).issuer == OTHER.id
    assert both.signing is OTHER


def test_both_secrets_of_one_key_are_taken_while_they_are_changed() -> None:
    renewed = Key(KEY.id, "its new secret, also long enough..")
    both = Keys((renewed, KEY))
    assert verify(issue(KEY, Grant(), NOW), both, NOW)
    assert verify(issue(renewed, Grant(), NOW), both, NOW)
    assert refusal(issue(Key(KEY.id, "neither of them, but just as long..."), Grant(), NOW), both) is Problem.FORGED


def test_a_key_that_is_not_ours_is_named() -> None:
    assert refusal(issue(OTHER, Grant(), NOW)) is Problem.NO_SUCH_KEY


def test_a_secret_that_is_not_ours_is_a_forgery() -> None:
    assert refusal(issue(Key(KEY.id, OTHER.secret), Grant(), NOW)) is Problem.FORGED


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: str = "") -> str:
    parts = [urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)]
    return ".".join([*parts, signature])


def test_other_algorithms_are_refused() -> None:
    claims = {"iss": KEY.id, "exp": NOW + 60}
    assert refusal(unsigned({"alg": "none", "typ": "JWT"}, claims)) is Problem.FORGED
    assert refusal(jwt.encode(claims, KEY.secret * 2, "HS512")) is Problem.FORGED
    assert refusal(unsigned({"alg": "RS256", "typ": "JWT"}, claims, "AAAA")) is Problem.FORGED
    assert refusal(unsigned({"typ": "JWT"}, claims, "AAAA")) in (Problem.FORGED, Problem.UNREADABLE)
    assert refusal(unsigned({"alg": ["HS256"], "typ": "JWT"}, claims, "AAAA")) in (Problem.FORGED, Problem.UNREADABLE)


def test_clocks_may_differ_by_a_minute_and_no_more() -> None:
    token = issue(KEY, Grant(), NOW, valid_s=300)
    assert verify(token, KEYS, NOW - SKEW_S)
    assert refusal(token, now=NOW - SKEW_S - 1) is Problem.EARLY
    assert verify(token, KEYS, NOW + 300 + SKEW_S - 1)
    assert refusal(token, now=NOW + 300 + SKEW_S) is Problem.EXPIRED


@pytest.mark.parametrize("end", [None, "soon", True, float("nan"), float("inf"), [], "1790000300"])
def test_a_token_without_an_end_is_refused(end: Any) -> None:
    token = jwt.encode({"iss": KEY.id, **({} if end is None else {"exp": end})}, KEY.secret, "HS256")
    assert refusal(token) is Problem.UNREADABLE


def test_a_beginning_that_is_no_time_is_refused() -> None:
    assert refusal(signed(b"", nbf="now")) is Problem.UNREADABLE


def test_an_issuer_that_is_no_name_is_refused() -> None:
    assert refusal(unsigned({"alg": "HS256", "typ": "JWT"}, {"iss": ["APIours"]}, "AAAA")) is Problem.UNREADABLE


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "\ud800.\ud800.\ud800",
        "é.é.é",
        "e" * (MAX_TOKEN_BYTES + 1),
        urlsafe_b64encode(b"[" * 9000).rstrip(b"=").decode() + ".e30.",
        "eyJhbGciOiJIUzI1NiJ9." + urlsafe_b64encode(b"[" * 9000).rstrip(b"=").decode() + ".AAAA",
        "eyJhbGciOiJIUzI1NiJ9." + urlsafe_b64encode(b'{"exp":' + b"9" * 5000 + b"}").rstrip(b"=").decode() + ".AAAA",
    ],
)
def test_what_is_no_token_is_unreadable(token: str) -> None:
    assert refusal(token) is Problem.UNREADABLE


@given(st.text())
def test_any_text_is_answered_with_a_refusal(text: str) -> None:
    with pytest.raises(TokenError):
        verify(text, KEYS, NOW)


@given(st.integers(min_value=0), st.sampled_from("abcABC019-_."))
def test_a_token_that_was_touched_is_refused(place: int, put: str) -> None:
    token = issue(KEY, Grant(room="standup", room_admin=True), NOW)
    place %= len(token) - 1  # the last character holds bits of no meaning
    touched = token[:place] + put + token[place + 1 :]
    if touched == token:
        verify(touched, KEYS, NOW)
    else:
        refusal(touched)


def test_secrets_are_not_shown() -> None:
    assert KEY.secret not in repr(KEY)
    assert KEY.secret not in repr(KEYS)
    with pytest.raises(TokenError) as caught:
        verify(issue(Key(KEY.id, OTHER.secret), Grant(), NOW), KEYS, NOW)
    assert KEY.secret not in str(caught.value)


def test_keys_are_whole_and_few() -> None:
    for bad in (lambda: Key("", "s"), lambda: Key("k", ""), lambda: Keys(()), lambda: Keys((KEY,) * 9)):
        with pytest.raises(ValueError, match=r"API key"):
            bad()
