"""The schema of records in a real PostgreSQL: how it comes to be, who waits for whom, and what is refused."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from auralink_dataplane.adapters.postgres import (
    DatabaseError,
    Fault,
    Migration,
    MigrationError,
    RecordStore,
    connected,
    load_migrations,
    load_queries,
    migrate,
)

from tests.integration.postgres_bench import TEMPLATE, a_store, ended, wait_until
from tests.integration.postgres_server import PASSWORD, USER, PostgresServer


async def test_migrations_run_from_nothing_and_then_there_is_nothing_to_do(
    postgres: PostgresServer, empty_database: str
) -> None:
    names = [str(one) for one in load_migrations()]
    assert ended(postgres.migration(empty_database)) == (0, "".join(f"running {name}\n" for name in names), "")
    before = await postgres.rows(
        empty_database, "SELECT version, checksum, applied_at FROM auralink.migrations ORDER BY 1"
    )
    assert [row[:2] for row in before] == [(one.version, one.checksum) for one in load_migrations()]
    for phase in ("pre", "post"):
        assert ended(postgres.migration(empty_database, f"--phase={phase}")) == (
            0,
            f"nothing to do in phase {phase}\n",
            "",
        )
    assert (
        await postgres.rows(empty_database, "SELECT version, checksum, applied_at FROM auralink.migrations ORDER BY 1")
        == before
    )


async def test_a_dry_run_says_what_would_run_and_changes_nothing(postgres: PostgresServer, empty_database: str) -> None:
    names = [str(one) for one in load_migrations()]
    for _ in range(2):
        assert ended(postgres.migration(empty_database, "--dry-run")) == (
            0,
            "".join(f"would run {one}\n" for one in names),
            "",
        )
    assert await postgres.rows(empty_database, "SELECT 1 FROM pg_namespace WHERE nspname = 'auralink'") == []


async def test_of_two_that_migrate_at_once_one_does_and_the_other_finds_nothing_to_do(
    postgres: PostgresServer, empty_database: str
) -> None:
    """Both are made to wait for the lock, so that they are really there at the same time."""
    queued = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = $1::oid"
    ((oid,),) = await postgres.rows(empty_database, "SELECT oid FROM pg_database WHERE datname = current_database()")
    holder = await postgres.connect(empty_database)
    await holder.execute("SELECT pg_advisory_lock(hashtext('auralink.migrations'))")
    processes = [postgres.migration(empty_database) for _ in range(2)]

    async def both_wait() -> bool:
        return len(await postgres.rows("postgres", queued, oid)) == 2

    await wait_until(both_wait)
    assert await postgres.rows(empty_database, "SELECT 1 FROM pg_namespace WHERE nspname = 'auralink'") == []
    await holder.close()
    results = [await asyncio.to_thread(ended, process) for process in processes]
    assert [(code, complaint) for code, _, complaint in results] == [(0, "")] * 2
    said = sorted(output for _, output, _ in results)
    assert said == ["nothing to do in phase pre\n", "".join(f"running {one}\n" for one in load_migrations())]


async def test_who_waits_too_long_for_another_gives_up_and_may_try_again(
    postgres: PostgresServer, empty_database: str
) -> None:
    holder = await postgres.connect(empty_database)
    await holder.execute("SELECT pg_advisory_lock(hashtext('auralink.migrations'))")
    code, _, complaint = await asyncio.to_thread(ended, postgres.migration(empty_database, "--timeout-s=1"))
    await holder.close()
    assert code == 69
    assert f"127.0.0.1:{postgres.port}/{empty_database}: " in complaint
    assert ended(postgres.migration(empty_database))[0] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "UPDATE auralink.migrations SET checksum = 'x' WHERE version = {first}",
            "was changed after it had been applied",
        ),
        (
            "INSERT INTO auralink.migrations (version, phase, name, checksum) VALUES (9999123199, 'pre', 'later', '')",
            "9999123199 (later), which this version does not know",
        ),
    ],
    ids=["a changed file", "a newer schema"],
)
@pytest.mark.parametrize("arguments", [(), ("--dry-run",)], ids=["run", "dry run"])
async def test_a_schema_that_does_not_fit_is_an_error_and_is_left_alone(
    postgres: PostgresServer, database: str, change: str, said: str, arguments: Sequence[str]
) -> None:
    await postgres.execute(change.format(first=load_migrations()[0].version), database)
    code, output, complaint = ended(postgres.migration(database, *arguments))
    assert (code, output) == (65, "")
    assert said in complaint


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"DATABASE_ADDRESS": "127.0.0.1"}, 78, 'DATABASE_ADDRESS: write it as "host:port"'),
        ({"DATABASE_TLS": "perhaps"}, 78, "DATABASE_TLS: "),
        ({"DATABASE_TLS": "true", "DATABASE_CA_FILE": "/nowhere"}, 78, "DATABASE_CA_FILE: "),
        ({"DATABASE_ADDRESS": ""}, 78, "set DATABASE_ADDRESS"),
        ({"DATABASE_ADDRESS": "127.0.0.1:1"}, 69, "127.0.0.1:1/"),
        ({"DATABASE_NAME": "nowhere"}, 69, "3D000"),
        ({"DB_PASSWORD": "wrong"}, 69, "28P01"),
    ],
)
def test_what_keeps_it_from_migrating_is_told_with_an_exit_code(
    postgres: PostgresServer, changes: dict[str, str], code: int, said: str
) -> None:
    found, output, complaint = ended(postgres.migration(TEMPLATE, **changes))
    assert (found, output) == (code, "")
    assert said in complaint
    assert PASSWORD not in complaint
    assert "wrong" not in complaint


def test_help_names_every_argument(postgres: PostgresServer) -> None:
    code, output, _ = ended(postgres.migration(TEMPLATE, "--help"))
    assert code == 0
    for argument in ("--phase", "--dry-run", "--retention-days", "--audit-retention-days", "--timeout-s", "--config"):
        assert argument in output


async def test_the_file_of_a_pod_outside_kubernetes_names_the_database_too(
    postgres: PostgresServer, empty_database: str, tmp_path: Any
) -> None:
    file = tmp_path / "auralink.conf"
    file.write_text(
        'auralink { service { bridge_id = "b" }\n database { url = "jdbc:postgresql://127.0.0.1:'
        f'{postgres.port}/{empty_database}", username = "{USER}", password = ${{DB_PASSWORD}} }} }}\n'
    )
    code, output, complaint = ended(postgres.migration(empty_database, f"--config={file}", DATABASE_ADDRESS=""))
    assert (code, complaint) == (0, "")
    assert "running" in output


async def test_a_migration_that_fails_leaves_nothing_and_those_before_it_stay(
    postgres: PostgresServer, empty_database: str
) -> None:
    good = Migration(2026010101, "pre", "good", "CREATE TABLE auralink.good (); CREATE TABLE auralink.better ();")
    bad = Migration(2026010102, "pre", "bad", "CREATE TABLE auralink.half (); SELECT 1 / 0;")
    after = Migration(2026010103, "pre", "after", "CREATE TABLE auralink.after ();")
    tables = "SELECT relname FROM pg_class WHERE relnamespace = 'auralink'::regnamespace AND relkind = 'r' ORDER BY 1"

    async def run(*migrations: Migration) -> list[str]:
        async with connected(postgres.target(empty_database)) as connection:
            return [one.name for one in await migrate(connection, load_queries(), migrations, "pre")]

    with pytest.raises(MigrationError, match=f"{bad} failed, and nothing of it was kept: 22012"):
        await run(good, bad, after)
    assert await postgres.rows(empty_database, tables) == [("better",), ("good",), ("migrations",)]
    assert await run(good, replace(bad, sql="SELECT 1"), after) == ["bad", "after"]


async def test_a_migration_may_not_end_its_own_transaction(postgres: PostgresServer, empty_database: str) -> None:
    sly = Migration(2026010101, "pre", "sly", "CREATE TABLE auralink.sly (); COMMIT;")
    with pytest.raises(MigrationError, match=r"ended its transaction"):
        async with connected(postgres.target(empty_database)) as connection:
            await migrate(connection, load_queries(), [sly], "pre")
    assert await postgres.rows(empty_database, "SELECT version FROM auralink.migrations") == []


async def test_a_role_that_may_not_make_a_schema_migrates_the_one_it_is_given(
    postgres: PostgresServer, empty_database: str
) -> None:
    await postgres.execute(f'ALTER DATABASE "{empty_database}" OWNER TO postgres')
    code, _, complaint = ended(postgres.migration(empty_database))
    assert code == 69
    assert "42501" in complaint
    await postgres.execute(f"CREATE SCHEMA auralink AUTHORIZATION {USER}", empty_database)
    assert ended(postgres.migration(empty_database))[0] == 0


async def test_every_named_query_is_one_that_the_server_takes(postgres: PostgresServer, database: str) -> None:
    async with connected(postgres.target(database)) as connection:
        for name, sql in load_queries().items():
            if name != "create_schema":
                assert await connection.prepare(sql), name


async def test_a_pod_before_a_schema_that_is_missing_or_old_says_what_to_run(
    postgres: PostgresServer, empty_database: str, database: str
) -> None:
    await postgres.execute(
        "DELETE FROM auralink.migrations WHERE version = (SELECT max(version) FROM auralink.migrations)", database
    )
    for name in (empty_database, database):
        async with a_store(postgres.target(name)) as store:
            with pytest.raises(DatabaseError, match="run python -m auralink_dataplane") as caught:
                await store.check()
            assert caught.value.fault is Fault.SERVER


async def test_a_pod_before_a_newer_schema_goes_on(
    postgres: PostgresServer, database: str, record_store: RecordStore
) -> None:
    await postgres.execute(
        "INSERT INTO auralink.migrations (version, phase, name, checksum) VALUES (9999123199, 'pre', 'x', '')", database
    )
    await record_store.check()
