"""Which row a record is, and that a batch touches a row once."""

from datetime import UTC, date, datetime
from uuid import UUID

import pytest
from auralink_dataplane.adapters.postgres.queries import Query, load_queries
from auralink_dataplane.adapters.postgres.rows import PARTICIPANTS, TABLES, Table, columns_of, day_of, row_of, table_of
from auralink_dataplane.rooms.events import Side
from auralink_dataplane.rooms.records import ParticipantJoined, ParticipantLeft, Record
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dataplane.rooms_records import PARTICIPANT, ROOM, one_of_each

AT = 1_700_000_000_123  # 2023-11-14T22:13:20.123Z


@pytest.mark.parametrize("record", one_of_each(AT), ids=lambda record: type(record).__name__)
def test_every_kind_has_a_table_whose_columns_it_fills(record: Record) -> None:
    table, values = row_of(record)
    assert table is table_of(record)
    assert table in TABLES
    assert set(values) <= set(table.columns)
    assert values[table.columns[1]] == datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)
    assert day_of(record) == date(2023, 11, 14)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_query_has_a_parameter_for_each_column(table: Table) -> None:
    sql = load_queries()[table.query]
    expected = len(table.columns) + 1 + table.with_pod
    assert f"${expected}" in sql
    assert f"${expected + 1}" not in sql


def test_joining_and_leaving_in_one_batch_are_one_row_in_either_order() -> None:
    joined = ParticipantJoined(PARTICIPANT, AT, ROOM, Side.LIVEKIT, "Ann")
    gone = ParticipantLeft(PARTICIPANT, AT, AT + 1000, "bye")
    assert columns_of(PARTICIPANTS, [joined, gone]) == columns_of(PARTICIPANTS, [gone, joined])
    assert [column[0] for column in columns_of(PARTICIPANTS, [joined, gone])][3:5] == ["livekit", "Ann"]


def test_the_later_of_two_words_counts_and_none_is_no_word() -> None:
    said = [ParticipantJoined(PARTICIPANT, AT, ROOM, Side.JITSI, name) for name in ("Ann", "Anna", None)]
    columns = dict(zip(PARTICIPANTS.columns, columns_of(PARTICIPANTS, said), strict=True))
    assert columns["name"] == ["Anna"]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=30))
def test_rows_stand_once_each_and_in_the_order_of_their_keys(keys: list[tuple[int, int]]) -> None:
    columns = columns_of(PARTICIPANTS, [ParticipantLeft(UUID(int=who), when, when + 1) for who, when in keys])
    found = [*zip(columns[0], columns[1], strict=True)]
    assert len(found) == len(set(keys))
    assert found == sorted(found)


def test_writing_queries_are_named_after_their_tables() -> None:
    assert {one.query for one in TABLES} == {query for query in Query if query.value.startswith("write_")}
