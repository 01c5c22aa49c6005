"""Fixtures that integration tests of several parts share."""

from tests.integration.kube_api import api_server

__all__ = ["api_server"]
