-- Every statement that a pod or a migration sends, by name (`queries`). Values are parameters only; DDL with names and
-- bounds of partitions is made by functions of the schema (`migrations/`).

-- name: write_rooms
-- One row per room; each column keeps what it has where this batch does not say.
INSERT INTO auralink.rooms AS known (bridge, room_id, opened_at, name, closed_at, close_reason)
SELECT $1, * FROM unnest($2::uuid[], $3::timestamptz[], $4::text[], $5::timestamptz[], $6::text[])
ON CONFLICT (room_id, opened_at) DO UPDATE SET
    name = coalesce(excluded.name, known.name),
    closed_at = coalesce(excluded.closed_at, known.closed_at),
    close_reason = coalesce(excluded.close_reason, known.close_reason)

-- name: write_sessions
INSERT INTO auralink.sessions AS known
    (bridge, pod, session_id, opened_at, room_id, leg, medium, codec, closed_at, bytes_in, bytes_out, close_reason)
SELECT $1, $2, * FROM unnest($3::uuid[], $4::timestamptz[], $5::uuid[], $6::text[], $7::text[], $8::text[],
    $9::timestamptz[], $10::bigint[], $11::bigint[], $12::text[])
ON CONFLICT (session_id, opened_at) DO UPDATE SET
    room_id = coalesce(excluded.room_id, known.room_id),
    leg = coalesce(excluded.leg, known.leg),
    medium = coalesce(excluded.medium, known.medium),
    codec = coalesce(excluded.codec, known.codec),
    closed_at = coalesce(excluded.closed_at, known.closed_at),
    bytes_in = coalesce(excluded.bytes_in, known.bytes_in),
    bytes_out = coalesce(excluded.bytes_out, known.bytes_out),
    close_reason = coalesce(excluded.close_reason, known.close_reason)

-- name: write_participants
INSERT INTO auralink.participants AS known
    (bridge, participant_id, joined_at, room_id, side, name, identity, left_at, leave_reason)
SELECT $1, * FROM unnest($2::uuid[], $3::timestamptz[], $4::uuid[], $5::text[], $6::text[], $7::text[],
    $8::timestamptz[], $9::text[])
ON CONFLICT (participant_id, joined_at) DO UPDATE SET
    room_id = coalesce(excluded.room_id, known.room_id),
    side = coalesce(excluded.side, known.side),
    name = coalesce(excluded.name, known.name),
    identity = coalesce(excluded.identity, known.identity),
    left_at = coalesce(excluded.left_at, known.left_at),
    leave_reason = coalesce(excluded.leave_reason, known.leave_reason)

-- name: write_qos_history
INSERT INTO auralink.qos_history
    (bridge, participant_id, at, loss_percent, jitter_ms, rtt_ms, bandwidth_kbps, mos)
SELECT $1, * FROM unnest($2::uuid[], $3::timestamptz[], $4::real[], $5::real[], $6::real[], $7::real[], $8::real[])
ON CONFLICT (participant_id, at) DO NOTHING

-- name: write_compression_statistics
INSERT INTO auralink.compression_statistics
    (bridge, session_id, at, frames, frames_compressed, frames_fallback, bytes_in, bytes_out, latency_ms)
SELECT $1, * FROM unnest($2::uuid[], $3::timestamptz[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::real[])
ON CONFLICT (session_id, at) DO NOTHING

-- name: write_audit
INSERT INTO auralink.audit (bridge, entry_id, at, actor, action, subject, details)
SELECT $1, entry_id, at, actor, action, subject, details::jsonb
FROM unnest($2::uuid[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[])
    AS given (entry_id, at, actor, action, subject, details)
ON CONFLICT (entry_id, at) DO NOTHING

-- name: make_partitions
-- Pairs of a table and a day; answers those that are not kept.
SELECT parent, day
FROM unnest($1::text[], $2::date[]) AS wanted (parent, day)
WHERE NOT auralink.make_partition(parent, day)

-- name: make_partitions_ahead
-- Of every table, for today and so many days more.
SELECT count(*) FILTER (WHERE auralink.make_partition(parent, (now() AT TIME ZONE 'UTC')::date + ahead))
FROM auralink.partitioned, generate_series(0, $1::integer) AS ahead

-- name: select_expired_partitions
SELECT partition FROM auralink.partitions WHERE expired ORDER BY after, partition

-- name: drop_partition
SELECT auralink.drop_partition($1)

-- name: set_retention
-- Days of the audit, and of all else; null leaves them as they are.
UPDATE auralink.partitioned AS known SET retention_days = days
FROM (SELECT parent, CASE parent WHEN 'audit' THEN $1::integer ELSE $2::integer END AS days FROM auralink.partitioned)
    AS wanted
WHERE known.parent = wanted.parent AND wanted.days <> known.retention_days

-- name: lock_migrations
SELECT pg_advisory_lock(hashtext('auralink.migrations'))

-- name: limit_locks
-- For the transaction: a migration that waits for a table makes all that come after it wait too, so it gives up soon.
SELECT set_config('lock_timeout', '5s', true)

-- name: schema_exists
SELECT to_regnamespace('auralink') IS NOT NULL

-- name: create_schema
CREATE SCHEMA auralink

-- name: migrations_exist
SELECT to_regclass('auralink.migrations') IS NOT NULL

-- name: create_migrations
CREATE TABLE auralink.migrations (
    version bigint PRIMARY KEY,
    phase text NOT NULL CHECK (phase IN ('pre', 'post')),
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)

-- name: select_migrations
SELECT version, phase, name, checksum FROM auralink.migrations ORDER BY version

-- name: insert_migration
INSERT INTO auralink.migrations (version, phase, name, checksum) VALUES ($1, $2, $3, $4)
