"""Fixtures that integration tests of several parts share."""

from tests.integration.kube_api import api_server
from tests.integration.livekit_server import livekit

__all__ = ["api_server", "livekit"]
