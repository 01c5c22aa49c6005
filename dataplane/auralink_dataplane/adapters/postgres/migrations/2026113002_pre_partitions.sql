-- Partitions are made and dropped by functions, so that a name or a bound in DDL is quoted by the server and no statement
-- is ever put together outside it. How long rows stay belongs to the database, not to one of the bridges that share it.

CREATE TABLE auralink.partitioned (
    parent text PRIMARY KEY,
    period text NOT NULL CHECK (period IN ('day', 'month')),
    retention_days integer NOT NULL CHECK (retention_days BETWEEN 1 AND 36500)
);
INSERT INTO auralink.partitioned (parent, period, retention_days) VALUES
    ('rooms', 'month', 90),
    ('sessions', 'month', 90),
    ('participants', 'month', 90),
    ('qos_history', 'day', 90),
    ('compression_statistics', 'day', 90),
    ('audit', 'month', 365);

-- Makes the partition of a table that holds a day. False where such a day is not kept: past the table's retention, or more
-- than 32 days ahead. The new table is attached, not created in place, because that would lock the parent against writers.
CREATE FUNCTION auralink.make_partition(of_parent text, of_day date) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
    known auralink.partitioned;
    first date;
    after date;
    partition text;
BEGIN
    SELECT * INTO STRICT known FROM auralink.partitioned WHERE parent = of_parent;
    IF of_day < today - known.retention_days OR of_day > today + 32 THEN
        RETURN false;
    END IF;
    first := date_trunc(known.period, of_day::timestamp)::date;
    after := (first + ('1 ' || known.period)::interval)::date;
    partition := known.parent || to_char(first, CASE known.period WHEN 'day' THEN '_YYYYMMDD' ELSE '_YYYYMM' END);
    IF EXISTS (SELECT FROM pg_class WHERE relname = partition AND relnamespace = 'auralink'::regnamespace) THEN
        RETURN true;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('auralink.partitions'));
    -- Somebody else may have made it meanwhile. A query sees that; to_regclass would go on saying what it said before.
    IF EXISTS (SELECT FROM pg_class WHERE relname = partition AND relnamespace = 'auralink'::regnamespace) THEN
        RETURN true;
    END IF;
    EXECUTE format('CREATE TABLE auralink.%I (LIKE auralink.%I INCLUDING ALL)', partition, known.parent);
    EXECUTE format('ALTER TABLE auralink.%I ATTACH PARTITION auralink.%I FOR VALUES FROM (%L) TO (%L)',
        known.parent, partition, first::timestamp AT TIME ZONE 'UTC', after::timestamp AT TIME ZONE 'UTC');
    RETURN true;
END
$$;

-- Every partition with the first day that it does not hold any more, and whether all of it is past its retention.
CREATE VIEW auralink.partitions AS
SELECT parent, partition, after, after <= (now() AT TIME ZONE 'UTC')::date - retention_days AS expired
FROM (
    SELECT known.parent, known.retention_days, child.relname::text AS partition,
        (to_date(rpad(substring(child.relname from '\d+$'), 8, '01'), 'YYYYMMDD')
            + ('1 ' || known.period)::interval)::date AS after
    FROM auralink.partitioned AS known
    JOIN pg_class AS whole ON whole.relname = known.parent AND whole.relnamespace = 'auralink'::regnamespace
    JOIN pg_inherits ON inhparent = whole.oid
    JOIN pg_class AS child ON child.oid = inhrelid
    WHERE child.relname ~ ('^' || known.parent || '_\d{6}(\d\d)?$')
) AS found;

-- Drops one partition if all of it is past its retention; false where it is not, or is gone. The parent is locked for the
-- moment; a reader who keeps it for longer than two seconds makes this fail, not the writers wait.
CREATE FUNCTION auralink.drop_partition(of_partition text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    PERFORM pg_advisory_xact_lock(hashtext('auralink.partitions'));
    IF NOT EXISTS (SELECT FROM auralink.partitions WHERE partition = of_partition AND expired) THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE auralink.%I', of_partition);
    RETURN true;
END
$$;
