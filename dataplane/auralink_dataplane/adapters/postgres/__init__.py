"""Records in PostgreSQL: SQL in `queries.sql`, the schema in `migrations/`.

`writer` takes records and keeps them while the database is away; `store` writes a batch; `rows` says what goes where;
`schema` migrates; `connections` is the driver. Nothing here reads records: that is for whoever has the database.
"""

from auralink_dataplane.adapters.postgres.connections import (
    Connection,
    DatabaseError,
    Fault,
    Target,
    connected,
    tls_context,
)
from auralink_dataplane.adapters.postgres.queries import QueryError, load_queries
from auralink_dataplane.adapters.postgres.schema import (
    Migration,
    MigrationError,
    Phase,
    applied_migrations,
    load_migrations,
    migrate,
    pending,
)
from auralink_dataplane.adapters.postgres.store import Aside, RecordStore, maintain, set_retention
from auralink_dataplane.adapters.postgres.writer import Counts, RecordWriter

__all__ = [
    "Aside",
    "Connection",
    "Counts",
    "DatabaseError",
    "Fault",
    "Migration",
    "MigrationError",
    "Phase",
    "QueryError",
    "RecordStore",
    "RecordWriter",
    "Target",
    "applied_migrations",
    "connected",
    "load_migrations",
    "load_queries",
    "maintain",
    "migrate",
    "pending",
    "set_retention",
    "tls_context",
]
