"""Fixtures that integration tests of several parts share."""

from tests.integration.kube_api import api_server
from tests.integration.livekit_server import livekit
from tests.integration.postgres_bench import database, empty_database, postgres, record_store

__all__ = ["api_server", "database", "empty_database", "livekit", "postgres", "record_store"]
