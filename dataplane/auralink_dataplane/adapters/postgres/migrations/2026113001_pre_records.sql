-- Records of rooms. Natural keys, so that what is sent twice is one row; no foreign keys, because an end may come before
-- its beginning, and because partitions are dropped as a whole. Every table is partitioned by the time in its key.
-- An end that comes first leaves the columns of the beginning empty, so those are nullable.

CREATE TABLE auralink.rooms (
    room_id uuid NOT NULL,
    opened_at timestamptz NOT NULL,
    bridge text NOT NULL,
    name text,
    closed_at timestamptz,
    close_reason text,
    PRIMARY KEY (room_id, opened_at)
) PARTITION BY RANGE (opened_at);
CREATE INDEX ON auralink.rooms (bridge, opened_at);

CREATE TABLE auralink.sessions (
    session_id uuid NOT NULL,
    opened_at timestamptz NOT NULL,
    bridge text NOT NULL,
    pod text NOT NULL,
    room_id uuid,
    leg text,
    medium text,
    codec text,
    closed_at timestamptz,
    bytes_in bigint,
    bytes_out bigint,
    close_reason text,
    PRIMARY KEY (session_id, opened_at)
) PARTITION BY RANGE (opened_at);
CREATE INDEX ON auralink.sessions (room_id, opened_at);

-- name and identity are null where the room's privacy keeps them back.
CREATE TABLE auralink.participants (
    participant_id uuid NOT NULL,
    joined_at timestamptz NOT NULL,
    bridge text NOT NULL,
    room_id uuid,
    side text CHECK (side IN ('livekit', 'jitsi')),
    name text,
    identity text,
    left_at timestamptz,
    leave_reason text,
    PRIMARY KEY (participant_id, joined_at)
) PARTITION BY RANGE (joined_at);
CREATE INDEX ON auralink.participants (room_id, joined_at);

CREATE TABLE auralink.qos_history (
    participant_id uuid NOT NULL,
    at timestamptz NOT NULL,
    bridge text NOT NULL,
    loss_percent real CHECK (loss_percent BETWEEN 0 AND 100),
    jitter_ms real CHECK (jitter_ms >= 0),
    rtt_ms real CHECK (rtt_ms >= 0),
    bandwidth_kbps real CHECK (bandwidth_kbps >= 0),
    mos real CHECK (mos BETWEEN 1 AND 5),
    PRIMARY KEY (participant_id, at)
) PARTITION BY RANGE (at);

CREATE TABLE auralink.compression_statistics (
    session_id uuid NOT NULL,
    at timestamptz NOT NULL,
    bridge text NOT NULL,
    frames bigint NOT NULL CHECK (frames >= 0),
    frames_compressed bigint NOT NULL CHECK (frames_compressed BETWEEN 0 AND frames),
    frames_fallback bigint NOT NULL CHECK (frames_fallback BETWEEN 0 AND frames),
    bytes_in bigint NOT NULL CHECK (bytes_in >= 0),
    bytes_out bigint NOT NULL CHECK (bytes_out >= 0),
    latency_ms real CHECK (latency_ms >= 0),
    PRIMARY KEY (session_id, at)
) PARTITION BY RANGE (at);

CREATE TABLE auralink.audit (
    entry_id uuid NOT NULL,
    at timestamptz NOT NULL,
    bridge text NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    details jsonb NOT NULL,
    PRIMARY KEY (entry_id, at)
) PARTITION BY RANGE (at);
CREATE INDEX ON auralink.audit (bridge, at);
