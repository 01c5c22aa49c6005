"""The real Flux delivers `examples/gitops`, and what it says of the delivery is what our resources say."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from hack.lab import flux
from hack.lab.bridge import AICore, Bridge, example
from hack.lab.kube import ROOT, Kube, Obj, bridge_path, condition, policy_path, wait_for

_EXAMPLE = ROOT / "examples" / "gitops"
_NAMESPACE = "e2e-flux"
_NAME = "bridges"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A repository with the example in it, and Flux that watches it."""

    kube: Kube
    controllers: flux.Flux
    repository: flux.Repository

    @property
    def bridges(self) -> Path:
        return self.repository.folder / "examples" / "gitops" / "bridges"

    def edit(self, file: str, **spec: object) -> str:
        """Changes top-level fields of the spec in one file, and commits."""
        path = self.bridges / file
        document = yaml.safe_load(path.read_text())
        document["spec"] |= spec
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return self.push(f"Change {', '.join(spec)}")

    def push(self, message: str) -> str:
        revision = self.repository.commit(message)
        self.controllers.pull(_NAMESPACE, _NAME)
        return revision

    def wait_delivered(self, revision: str) -> None:
        self.controllers.wait_delivered(_NAMESPACE, _NAME, revision)

    def resource(self, path: str) -> Obj:
        found = self.kube.get(path)
        assert found is not None
        return found


@pytest.fixture(scope="module")
def delivery(cluster: Kube, release: AICore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Delivery]:
    folder = tmp_path_factory.mktemp("flux")
    with (
        flux.running(cluster, folder / "controllers") as controllers,
        flux.Repository(folder / "repository") as repository,
    ):
        controllers.forget(_NAMESPACE)  # what an interrupted run left
        cluster.namespace(_NAMESPACE)
        copy = repository.folder / "examples" / "gitops"
        shutil.copytree(_EXAMPLE, copy)
        bridge = copy / "bridges" / "bridge.yaml"
        bridge.write_text(yaml.safe_dump_all(example(bridge), sort_keys=False))
        documents = list(yaml.safe_load_all((_EXAMPLE / "flux" / "delivery.yaml").read_text()))
        documents[0]["spec"] |= {"url": repository.url, "interval": "5s"}
        documents[1]["spec"] |= {"targetNamespace": _NAMESPACE, "retryInterval": "5s", "timeout": "90s"}
        try:
            revision = repository.commit("The example")
            cluster.apply(documents, _NAMESPACE)
            found = Delivery(cluster, controllers, repository)
            found.wait_delivered(revision)
            yield found
        finally:
            controllers.forget(_NAMESPACE)


def test_a_delivery_is_done_when_every_bridge_and_policy_is_ready(delivery: Delivery) -> None:
    for path in (bridge_path(_NAMESPACE, "desks"), policy_path(_NAMESPACE, "standard")):
        found = delivery.resource(path)
        ready = condition(found, "Ready")
        assert ready is not None
        assert ready["status"] == "True"
        assert ready["observedGeneration"] == found["metadata"]["generation"]


def test_an_upgrade_is_done_when_every_pod_has_acknowledged_it(delivery: Delivery) -> None:
    bridge = Bridge(delivery.kube, _NAMESPACE, "desks", "standard")
    lives = bridge.lives()
    before = int(bridge.status()["config"]["ackedGeneration"])

    delivery.wait_delivered(delivery.edit("policy.yaml", compression={"targetSavingsPercent": 20}))

    config = bridge.status()["config"]
    assert config["ackedGeneration"] == config["desiredGeneration"] > before
    assert bridge.lives() == lives, "a policy needs no new pod"


def test_a_bridge_that_cannot_become_ready_fails_the_delivery_at_once(delivery: Delivery) -> None:
    """Flux names the resource and its state; the words for it are in the resource, where `flux tree` leads."""
    good = yaml.safe_load((delivery.bridges / "bridge.yaml").read_text())["spec"]["rooms"]
    twice = [*good, {**good[0], "name": "desk-2"}]

    delivery.edit("bridge.yaml", rooms=twice)
    message = delivery.controllers.wait_failed(_NAMESPACE, _NAME, "HealthCheckFailed")

    assert "failed early due to stalled resources: [AuraLinkBridge/e2e-flux/desks status: 'Failed'" in message
    stalled = condition(delivery.resource(bridge_path(_NAMESPACE, "desks")), "Stalled")
    assert stalled is not None
    assert "5004" in stalled["message"]
    delivery.wait_delivered(delivery.edit("bridge.yaml", rooms=good))


def test_a_field_that_the_schema_refuses_fails_the_delivery_with_our_message(delivery: Delivery) -> None:
    delivery.edit("policy.yaml", compression={"targetSavingsPercent": 95})
    message = delivery.controllers.wait_failed(_NAMESPACE, _NAME, "ReconciliationFailed")

    assert "targetSavingsPercent" in message
    assert "90" in message
    delivery.wait_delivered(delivery.edit("policy.yaml", compression={"targetSavingsPercent": 35}))


def test_what_is_removed_from_the_repository_is_pruned_with_its_children(delivery: Delivery) -> None:
    bridge = Bridge(delivery.kube, _NAMESPACE, "desks", "standard")
    listing = delivery.bridges / "kustomization.yaml"
    document = yaml.safe_load(listing.read_text())
    document["resources"].remove("bridge.yaml")
    listing.write_text(yaml.safe_dump(document))
    (delivery.bridges / "bridge.yaml").unlink()

    delivery.wait_delivered(delivery.push("Close the desks"))

    wait_for("the end of the bridge", lambda: bridge.resource() is None, 30)
    wait_for("the end of its children", lambda: not bridge.remains(), 60, seen=lambda: str(bridge.remains()))
    resolved = wait_for(
        "the policy that selects nothing",
        lambda: (
            found
            if (found := condition(delivery.resource(policy_path(_NAMESPACE, "standard")), "Resolved"))
            and found["status"] == "False"
            else None
        ),
        30,
    )
    assert resolved["reason"] == "NoBridgeMatched"
