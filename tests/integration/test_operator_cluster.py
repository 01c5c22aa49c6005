"""The operator's client against a real API server: the promises that the unit tests' fake is held to as well."""

import random
import time
from collections.abc import AsyncIterator

import pytest
from auralink_operator.cluster import Bucket, Cluster, Connection
from auralink_operator.metrics import Metrics

from tests.integration.kube_api import ApiServer, hands
from tests.unit.operator.cluster_promises import At, ClusterPromises


class TestRealCluster(ClusterPromises):
    @pytest.fixture
    async def at(self, api_server: ApiServer, request: pytest.FixtureRequest) -> AsyncIterator[At]:
        connection = await Connection.open(str(api_server.kubeconfig))
        bucket = Bucket(1000, 1000, time.monotonic())
        cluster = Cluster(connection, Metrics(), bucket, time.monotonic, random.random)
        namespace = f"promises-{abs(hash(request.node.name)) % 10**8}"
        async with hands(api_server, namespace):
            yield At(cluster, namespace)
        await connection.close()
