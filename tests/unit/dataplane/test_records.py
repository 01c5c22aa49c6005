"""What can be stored of a record, its identifiers, and what privacy leaves of a name."""

import json
from dataclasses import replace
from typing import Any, get_args
from uuid import UUID

import pytest
from auralink_dataplane.policy import Privacy
from auralink_dataplane.rooms.records import (
    KINDS,
    LATEST_MS,
    MAX_COUNT,
    MAX_DETAILS,
    MAX_TEXT,
    AuditEntry,
    CompressionSample,
    QosSample,
    Record,
    RoomOpened,
    cleaned,
    kept,
    record_id,
    refusal,
    size_of,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dataplane.rooms_records import ROOM, SESSION, one_of_each

ANY_TEXT = st.text(st.characters(codec=None), max_size=2 * MAX_TEXT)


def test_every_kind_has_a_name_of_its_own_and_an_importance() -> None:
    kinds = get_args(Record)
    assert set(KINDS) == set(kinds) == {type(record) for record in one_of_each(0)}
    assert len({name for name, _ in KINDS.values()}) == len(kinds)


@given(ANY_TEXT)
def test_whatever_a_name_holds_postgres_can_store_what_is_left(name: str) -> None:
    record, changed = cleaned(RoomOpened(ROOM, 0, name))
    assert "\0" not in record.name
    record.name.encode("utf-8")
    assert len(record.name) <= MAX_TEXT
    assert changed == (record.name != name)
    assert cleaned(record) == (record, False)


@given(st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=2 * MAX_DETAILS))
def test_details_are_cleaned_as_names_are_and_bounded(details: dict[str, str]) -> None:
    record, changed = cleaned(AuditEntry(ROOM, 0, "a", "b", details=details))
    written = json.dumps(dict(record.details), ensure_ascii=False)
    written.encode("utf-8")
    assert "\\u0000" not in written
    assert len(record.details) <= MAX_DETAILS
    assert changed == (record.details != details)


def test_nul_and_half_a_surrogate_pair_are_replaced_and_a_whole_character_is_not() -> None:
    record, changed = cleaned(RoomOpened(ROOM, 0, "a\0b\ud83dc\U0001f600"))
    assert (record.name, changed) == ("a\ufffdb\ufffdc\U0001f600", True)


@pytest.mark.parametrize("ms", [-1, LATEST_MS + 1, 10**30])
def test_a_time_that_no_calendar_has_is_refused(ms: int) -> None:
    assert refusal(QosSample(ROOM, ms)) == "time"
    assert refusal(QosSample(ROOM, LATEST_MS)) is None


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -0.5])
def test_what_is_no_finite_number_is_refused(number: float) -> None:
    assert refusal(QosSample(ROOM, 0, rtt_ms=number)) == "number"


@pytest.mark.parametrize(("number", "reason"), [(MAX_COUNT, None), (MAX_COUNT + 1, "number"), (-1, "number")])
def test_what_no_bigint_holds_is_refused(number: int, reason: str | None) -> None:
    assert refusal(CompressionSample(SESSION, 0, number, 0, 0, 0, 0)) == reason


@pytest.mark.parametrize("record", one_of_each(1_700_000_000_000), ids=lambda record: type(record).__name__)
def test_an_ordinary_record_passes_as_it_is(record: Record) -> None:
    assert refusal(record) is None
    assert cleaned(record) == (record, False)


@given(st.text(max_size=100))
def test_the_size_covers_the_text(text: str) -> None:
    assert size_of(RoomOpened(ROOM, 0, text)) >= size_of(RoomOpened(ROOM, 0, "")) + len(text.encode())


@given(st.lists(st.text(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_identifiers_are_the_same_for_the_same_parts_only(parts: list[str], others: list[str]) -> None:
    assert (record_id(*parts) == record_id(*others)) == (parts == others)


def test_identifiers_are_uuids_of_our_own_making_and_depend_on_the_key() -> None:
    plain, keyed = record_id("room", "ann"), record_id("room", "ann", key=b"secret")
    assert plain != keyed
    for one in (plain, keyed):
        assert (UUID(str(one)).version, one.variant) == (8, "specified in RFC 4122")


@pytest.mark.parametrize(
    ("privacy", "expected"),
    [
        ("Full", ("Ann", "ann@example.com")),
        ("DisplayName", ("Ann", None)),
        ("Pseudonym", ("Blue Fox", None)),
        ("Hidden", (None, None)),
    ],
)
def test_what_the_other_side_may_not_learn_is_not_written_down(privacy: Privacy, expected: Any) -> None:
    assert kept(privacy, name="Ann", identity="ann@example.com", pseudonym="Blue Fox") == expected


def test_a_record_that_is_cleaned_keeps_its_key() -> None:
    record = RoomOpened(ROOM, 5, "a\0")
    assert replace(cleaned(record)[0], name=record.name) == record
