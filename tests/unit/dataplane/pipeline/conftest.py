"""What the tests of the pipeline begin with."""

import pytest

from tests.unit.dataplane.pipeline.rig import Rig


@pytest.fixture
def compressing() -> Rig:
    rig = Rig()
    rig.opened()
    rig.round(5, key_first=True)
    return rig
