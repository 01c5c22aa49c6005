"""The pods of a bridge that waits for its rollout stay what was written last, whoever has a hand in their template."""

from dataclasses import replace

import pytest
from auralink_operator.index import Key, Obj
from auralink_operator.manifests import TEMPLATE

from tests.unit.operator import samples
from tests.unit.operator.desk import Desk
from tests.unit.operator.test_rollouts_in_turn import NEW_DEFAULT, deployment, fleet, image, looked_at


async def waits() -> tuple[Desk, list[Key]]:
    """The second of two bridges waits for the first; the server has put its defaults into both templates."""
    desk, keys = await fleet("a", "b")
    for key in keys:
        desk.cluster.change(deployment(key), {"spec": {"template": {"spec": {"dnsPolicy": "ClusterFirst"}}}})
        await desk.settle(key)
    desk.another_process(replace(NEW_DEFAULT, max_rollouts=1))
    await looked_at(desk, *keys)
    assert image(desk, "b") == "data-plane:1"
    return desk, keys


def repaired(desk: Desk) -> float:
    return float(desk.context.metrics.drift_repaired.labels("Deployment")._value.get())


def template(desk: Desk, key: Key) -> Obj:
    return dict(desk.cluster.objects[deployment(key)]["spec"]["template"])


def edit(desk: Desk, key: Key) -> None:
    """Somebody's hand in the template."""
    (container,) = template(desk, key)["spec"]["containers"]
    theirs = {"enableServiceLinks": True, "containers": [{**container, "image": "theirs:1"}]}
    desk.cluster.change(deployment(key), {"spec": {"template": {"spec": theirs}}})


async def test_what_somebody_makes_of_the_template_of_a_bridge_that_waits_is_drift_and_is_repaired() -> None:
    desk, keys = await waits()
    edit(desk, keys[1])
    await looked_at(desk, keys[1])
    assert image(desk, "b") == "data-plane:1"
    assert template(desk, keys[1])["spec"]["enableServiceLinks"] is False
    assert repaired(desk) == 1
    assert desk.ready(keys[1])[0] == "False"
    desk.roll_out(deployment(keys[0]))
    desk.roll_out(deployment(keys[1]))
    await looked_at(desk, *keys)
    assert image(desk, "b") == "data-plane:2"
    assert repaired(desk) == 1  # its turn is no drift


async def test_another_process_repairs_the_template_of_a_bridge_that_waits_to_what_was_written() -> None:
    desk, keys = await waits()
    edit(desk, keys[1])
    desk.another_process(replace(NEW_DEFAULT, max_rollouts=1))
    desk.cluster.change(deployment(keys[0]), {"status": {"updatedReplicas": 0}})  # it goes on to roll
    await looked_at(desk, *keys)
    assert image(desk, "b") == "data-plane:1"
    assert repaired(desk) == 1


async def test_a_quarrel_over_the_template_of_a_bridge_that_waits_is_bounded() -> None:
    desk, keys = await waits()
    written = desk.cluster.calls.count(("apply", deployment(keys[1])))
    for _ in range(50):
        desk.cluster.change(deployment(keys[1]), {"spec": {"template": {"spec": {"enableServiceLinks": True}}}})
        desk.time += 0.5
        await desk.look(keys[1])
    assert desk.cluster.calls.count(("apply", deployment(keys[1]))) - written < 15
    assert desk.ready(keys[1]) == ("False", "ProgressingWithRetry")


async def test_what_others_have_in_the_template_of_a_bridge_that_waits_does_not_become_ours() -> None:
    """They take it out again, and the operator goes back to what it was: of neither do we hold on to anything."""
    desk, keys = await waits()
    theirs: Obj = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "auralink-b", "namespace": "ns"}}
    with_note = {"spec": {"template": {"metadata": {"annotations": {"theirs": "note"}}}}}
    await desk.cluster.apply({**theirs, **with_note}, manager="somebody")
    desk.cluster.change(keys[1], {"spec": {"replicas": 2}})
    await looked_at(desk, keys[1])
    assert desk.cluster.objects[deployment(keys[1])]["spec"]["replicas"] == 2
    assert template(desk, keys[1])["metadata"]["annotations"]["theirs"] == "note"

    await desk.cluster.apply({**theirs, "spec": {}}, manager="somebody")
    assert "theirs" not in template(desk, keys[1])["metadata"]["annotations"]

    before, count = template(desk, keys[1]), len(desk.cluster.calls)
    desk.another_process(samples.SETTINGS)
    await looked_at(desk, keys[1])
    assert template(desk, keys[1]) == before
    assert ("apply", "Deployment") not in desk.since(count)


@pytest.mark.parametrize("note", [None, "{", '"x"', "[" * 5000, '{"spec":{}}'])
async def test_a_template_without_a_note_that_can_be_trusted_is_held_as_it_is(note: str | None) -> None:
    desk, keys = await waits()
    desk.cluster.change(deployment(keys[1]), {"metadata": {"annotations": {TEMPLATE: note}}})
    before, count = template(desk, keys[1]), len(desk.cluster.calls)
    await looked_at(desk, keys[1])
    assert template(desk, keys[1]) == before
    assert ("apply", "Deployment") not in desk.since(count)
    desk.roll_out(deployment(keys[0]))
    await looked_at(desk, *keys)
    assert image(desk, "b") == "data-plane:2"
