"""Names that come, go and never were."""

import socket

import pytest
from auralink_dataplane.media.aic.names import resolve_all

from tests.unit.dataplane.aic.bench import Bench


@pytest.mark.parametrize("host", ["peer..svc", "a" * 64])
async def test_a_name_that_can_be_none_does_not_resolve_either(bench: Bench, host: str) -> None:
    with pytest.raises(socket.gaierror, match="no host name"):
        await resolve_all(host, 1)
