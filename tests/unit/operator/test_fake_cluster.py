"""The API server in memory keeps the promises of the real one, as far as reconciles rely on them."""

from typing import cast

import pytest
from auralink_operator.cluster import Cluster

from tests.fakes.kube import FakeCluster
from tests.unit.operator.cluster_promises import At, ClusterPromises


class TestFakeCluster(ClusterPromises):
    @pytest.fixture
    def at(self) -> At:
        return At(cast(Cluster, FakeCluster()), "ns")
