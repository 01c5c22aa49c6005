"""A bridge in which every field says something: the API server takes every child that the operator makes of it."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.kube_api import ApiServer
from tests.integration.operator_bench import Bench, bench
from tests.unit.operator.whole import BASES


@pytest.fixture
async def at(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    async with bench(api_server, monkeypatch) as found:
        yield found


@pytest.mark.parametrize("base", ["fixed", "scaled"])
async def test_a_bridge_that_uses_every_field_gets_all_its_children(at: Bench, base: str) -> None:
    meta = {"name": "whole", "labels": BASES["policy"]["spec"]["bridgeSelector"]["matchLabels"]}
    whole = {**BASES[base], "metadata": meta, "spec": {**BASES[base]["spec"], "suspend": False}}
    await at.kube.create("auralinkbridges", whole)
    await at.kube.create("roompolicies", BASES["policy"])
    await at.child("deployments", "auralink-whole")
    # Pods are the only thing that is missing: every child has been written.
    await at.until("Ready", "False", "Progressing", "whole")
    await at.quiet()
    bridge = await at.bridge("whole")
    (said,) = (c["message"] for c in bridge["status"]["conditions"] if c["type"] == "Ready")
    assert said == "pods are being started or replaced"
    assert [policy["name"] for policy in bridge["status"]["appliedPolicies"]] == ["whole"]
    # Looked at again, nothing of it differs: what the API server adds to or makes of our words is known.
    before = at.calls()
    await at.look_again(at.key("whole"))
    assert at.calls() == before


async def test_what_no_schema_can_refuse_is_told_as_invalid_with_the_way_out(at: Bench) -> None:
    wrong = {**BASES["fixed"]["spec"], "suspend": False}
    wrong["pod"] = {"template": {"spec": {"containers": [{"name": "data-plane", "image": "mine"}]}}}
    await at.kube.create("auralinkbridges", {**BASES["fixed"], "spec": wrong})
    await at.until("Stalled", "True", "InvalidSpec", "whole")
    bridge = await at.bridge("whole")
    (said,) = (c["message"] for c in bridge["status"]["conditions"] if c["type"] == "Stalled")
    assert "spec.pod.template.spec.containers[data-plane].image" in said
    assert "set spec.image instead" in said
