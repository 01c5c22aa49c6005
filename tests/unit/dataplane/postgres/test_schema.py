"""Which migrations run in which phase, and what makes them not run."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from auralink_dataplane.adapters.postgres.schema import (
    Applied,
    Migration,
    MigrationError,
    Phase,
    load_migrations,
    parse_migrations,
    pending,
)

PRE, POST, LATER = (
    Migration(2026010101, "pre", "add", "A"),
    Migration(2026010102, "post", "remove", "B"),
    Migration(2026020101, "pre", "more", "C"),
)
KNOWN = (PRE, POST, LATER)


def applied(*migrations: Migration) -> list[Applied]:
    return [Applied(one.version, one.name, one.checksum) for one in migrations]


@pytest.mark.parametrize(
    ("before", "phase", "expected"),
    [
        ((), "pre", KNOWN),
        ((), "post", KNOWN),
        ((PRE,), "post", (POST,)),
        ((PRE, POST), "pre", (LATER,)),
        ((PRE, POST), "post", ()),
        ((PRE, POST, LATER), "pre", ()),
        ((PRE, POST, LATER), "post", ()),
    ],
)
def test_a_phase_runs_what_is_pending_of_it_and_an_empty_database_gets_all(
    before: Sequence[Migration], phase: Phase, expected: Sequence[Migration]
) -> None:
    assert pending(KNOWN, applied(*before), phase) == tuple(expected)


def test_a_pre_migration_waits_for_the_post_migration_of_the_version_before() -> None:
    with pytest.raises(MigrationError, match=f"{LATER} follows {POST}, which has not run: run phase post first"):
        pending(KNOWN, applied(PRE), "pre")


def test_a_post_migration_waits_for_its_pre_migration() -> None:
    last = Migration(2026020102, "post", "less", "D")
    with pytest.raises(MigrationError, match=f"{last} follows {LATER}, which has not run: run phase pre first"):
        pending((*KNOWN, last), applied(PRE, POST), "post")


def test_a_migration_that_was_changed_after_it_ran_is_named() -> None:
    with pytest.raises(MigrationError, match=f"{PRE} was changed"):
        pending((replace(PRE, sql="A "), POST), applied(PRE), "pre")


def test_a_schema_newer_than_the_code_is_named() -> None:
    with pytest.raises(MigrationError, match=r"2026020101 \(more\).*newer"):
        pending((PRE, POST), applied(PRE, POST, LATER), "pre")


@pytest.mark.parametrize("name", ["1_pre_a.sql", "2026010101_both_a.sql", "2026010101_pre_A.sql", "readme.md"])
def test_a_file_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(MigrationError, match="must be named"):
        parse_migrations([(name, "")])


def test_a_version_stands_once() -> None:
    with pytest.raises(MigrationError, match="the same version"):
        parse_migrations([("2026010101_pre_a.sql", ""), ("2026010101_post_b.sql", "")])


def test_migrations_are_read_in_order_and_name_their_file() -> None:
    found = load_migrations()
    assert found
    assert [one.version for one in found] == sorted(one.version for one in found)
    assert [f"{one}" for one in parse_migrations([("2026010102_post_b.sql", ""), ("2026010101_pre_a.sql", "")])] == [
        "2026010101_pre_a", "2026010102_post_b",
    ]  # fmt: skip
