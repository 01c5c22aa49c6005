"""The file of statements is checked when it is read."""

import re

import pytest
from auralink_dataplane.adapters.postgres.queries import Query, QueryError, load_queries, parse_queries

WHOLE = "".join(f"-- name: {query}\nSELECT 1\n\n" for query in Query)


def test_every_statement_that_the_code_asks_for_is_in_the_file() -> None:
    assert set(load_queries()) == set(Query)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WHOLE.replace("-- name: write_audit\n", "-- name: write_audits\n"), "write_audit is missing"),
        (WHOLE + "-- name: other\nSELECT 2\n", "nobody asks for query other"),
        (WHOLE + "-- name: write_audit\nSELECT 2\n", "write_audit stands twice"),
        (WHOLE.replace("-- name: write_audit\nSELECT 1\n", "-- name: write_audit\n-- SELECT 1\n"), "is empty"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(QueryError, match=said):
        parse_queries(text)


def test_no_statement_is_two() -> None:
    """The server would refuse to prepare it."""
    for sql in load_queries().values():
        assert ";" not in re.sub(r"--[^\n]*", "", sql)
