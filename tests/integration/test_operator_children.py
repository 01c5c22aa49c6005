"""What the operator renders, as a real API server takes it: nothing differs once it is applied, in any mode."""

import itertools
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from auralink_operator.index import RESOURCES, Key, Observed, key_of
from auralink_operator.manifests import child_name, desired, needs_write, noted_template, pod_template
from auralink_operator.models import Bridge, Capabilities, Compiled, PodView, PublicAddress, Scene, parse_bridge
from auralink_operator.settings import Settings

from tests.integration.kube_api import ApiServer, Kube, Obj, Refused, eventually, hands

MANAGER = "auralink-operator"
MODES = ("ClusterIP", "NodePort", "LoadBalancer", "HostPort", "HostNetwork")
SETTINGS = Settings(
    data_plane_image="registry.test/data-plane:1",
    ai_core_address="ai-core.system:50051",
    inherit_labels=("team",),
    shard="blue",
)
POD = PodView("p1", "uid-p1", "10.1.0.1", "node-1", ready=True, deleting=False, entry={"phase": "Serving"})
_numbers = itertools.count(1)


def ref(name: str) -> Obj:
    return {"name": name, "key": "value"}


def medium(codec: str, **more: Any) -> Obj:
    return {"payloads": [{"type": 96, "codec": codec}], **more}


RTP_ROOM: Obj = {
    "name": "studio",
    "legs": [
        {
            "name": "in",
            "direction": "Receive",
            "rtp": {
                "video": medium("H264", listenPort=5004),
                "audio": medium("Opus", listenPort=8080),
                "srtp": {"suite": "AEAD_AES_128_GCM", "keyRef": ref("srtp")},
            },
        },
        {"name": "out", "direction": "Send", "rtp": {"video": medium("H264", remote="peer:5004"), "rtcpMux": True}},
    ],
}
EVERYTHING: Obj = {
    "endpoints": [
        {
            "name": "meet",
            "type": "Jitsi",
            "jitsi": {
                "xmppUrl": "wss://meet.test:5281/xmpp-websocket",
                "domain": "meet.test",
                "jwt": {"appId": "auralink", "keyRef": ref("jwt")},
                "eventTokenRef": ref("events"),
                "censusUrl": "http://meet.test:5280/room-census",
            },
        },
        {
            "name": "live",
            "type": "LiveKit",
            "livekit": {"url": "ws://livekit.test:7880", "apiKeyRef": ref("lk"), "apiSecretRef": ref("lk-secret")},
        },
    ],
    "rooms": [RTP_ROOM],
    "aiCore": {"tlsSecretName": "core-tls", "addresses": ["core.test:50051"]},
    "redis": {"addresses": ["redis.test:26379"], "topology": "Sentinel", "master": "m", "passwordRef": ref("redis")},
    "postgres": {"address": "pg.test:5432", "passwordRef": ref("pg"), "caRef": ref("pg-ca")},
    "dashboard": {"url": "https://dash.test/api", "apiKeyRef": ref("dash")},
    "communication": {"url": "http://communication.test", "tokenRef": ref("comm")},
    "api": {"tokenRef": ref("api")},
    "autoscaling": {"maxReplicas": 9, "minReplicas": 3, "targetSessionsPerPod": 2000},
    "networkPolicy": {"mediaFrom": ["10.0.0.0/8", "fd00::/8"], "webhooksFrom": [], "monitoringNamespace": "monitoring"},
    "resources": {"requests": {"cpu": "0.5", "memory": 536870912}, "limits": {"memory": "1024Mi"}},
    "pod": {
        "labels": {"cost": "calls"},
        "annotations": {"example.com/a": "b"},
        "nodeSelector": {"media": "yes"},
        "imagePullSecrets": [{"name": "pull"}],
        "template": {
            "spec": {
                "hostIPC": False,
                "tolerations": [{"key": "media", "operator": "Exists"}],
                "containers": [
                    {
                        "name": "data-plane",
                        "env": [{"name": "EXTRA", "value": "1"}],
                        "livenessProbe": {"initialDelaySeconds": 0, "timeoutSeconds": 5},
                        "resources": {"limits": {"cpu": 2}},
                    },
                    {
                        "name": "sidecar",
                        "image": "sidecar:1",
                        "stdin": False,
                        "ports": [{"containerPort": 9000}],
                        "resources": {"requests": {"memory": "0.5Gi"}},
                        "volumeMounts": [{"name": "extra", "mountPath": "/extra", "readOnly": False}],
                    },
                ],
                "volumes": [{"name": "extra", "emptyDir": {"sizeLimit": "1024Mi"}}],
            }
        },
    },
}
MINIMAL: Obj = {"rooms": []}
SPECS: Mapping[str, Obj] = {
    "minimal": MINIMAL,
    "rtp": {"rooms": [RTP_ROOM], "replicas": 2},
    "everything": EVERYTHING,
}

STRINGS: Obj = {"type": "object", "additionalProperties": {"type": "string"}}
SELECTOR: Obj = {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"matchLabels": STRINGS}}
SERVICE_MONITOR_SPEC: Obj = {
    "type": "object",
    "required": ["selector", "endpoints"],
    "properties": {"selector": SELECTOR, "endpoints": {"type": "array", "items": STRINGS}},
}
SERVICE_MONITOR: Obj = {"type": "object", "required": ["spec"], "properties": {"spec": SERVICE_MONITOR_SPEC}}
SERVICE_MONITORS: Obj = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "servicemonitors.monitoring.coreos.com"},
    "spec": {
        "group": "monitoring.coreos.com",
        "scope": "Namespaced",
        "names": {"kind": "ServiceMonitor", "plural": "servicemonitors", "singular": "servicemonitor"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": SERVICE_MONITOR}}],
    },
}


@pytest.fixture
async def kube(api_server: ApiServer) -> AsyncIterator[Kube]:
    async with hands(api_server, f"children-{next(_numbers)}") as found:
        crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        name = SERVICE_MONITORS["metadata"]["name"]
        await found.raw(
            "PATCH", f"{crds}/{name}?fieldManager=test&force=true", SERVICE_MONITORS, "application/apply-patch+yaml"
        )

        async def served() -> bool:
            try:
                await found.raw("GET", f"/apis/monitoring.coreos.com/v1/namespaces/{found.namespace}/servicemonitors")
            except (Refused, ValueError):  # before its group is there the answer is no JSON
                return False
            return True

        await eventually(served, "ServiceMonitors are served")
        yield found


class Applied:
    """A bridge whose children are applied and read back: what the operator does, without its queue and its watches."""

    def __init__(self, kube: Kube, bridge: Obj) -> None:
        self.kube, self.bridge = kube, bridge
        self.children: dict[Key, Obj] = {}

    @classmethod
    async def of(cls, kube: Kube, spec: Obj, name: str = "b") -> "Applied":
        body = {
            "apiVersion": "auralink.io/v1alpha1",
            "kind": "AuraLinkBridge",
            "metadata": {"name": name, "labels": {"team": "calls", "app.kubernetes.io/instance": "argo-app"}},
            "spec": spec,
        }
        return cls(kube, await kube.create("auralinkbridges", body))

    def parsed(self) -> Bridge:
        return parse_bridge(self.bridge)

    async def edit(self, spec: Obj) -> None:
        self.bridge = await self.kube.merge("auralinkbridges", self.bridge["metadata"]["name"], {"spec": spec})

    def rendered(self, **scene: Any) -> tuple[Obj, ...]:
        bridge = self.parsed()
        rooms = [room.name for room in bridge.spec.rooms if room.listen_ports()]
        given = {
            "pods": (POD,),
            "owners": dict.fromkeys(rooms, POD),
            "replicas": bridge.spec.wanted_replicas(),
            "addresses": {f"{room}/in/video": PublicAddress("192.0.2.1", "", 5004, "p1") for room in rooms},
            "capabilities": Capabilities(service_monitors=True),
            **scene,
        }
        observed = Observed(self.bridge, self.children, (), ())
        return desired(bridge, Compiled(), observed, Scene(**given), SETTINGS)

    def path(self, key: Key) -> str:
        version, plural = RESOURCES[key.kind]
        root = "apis" if "/" in version else "api"
        return f"/{root}/{version}/namespaces/{key.namespace}/{plural}/{key.name}"

    async def apply(self, child: Obj, query: str = "") -> Obj:
        path = f"{self.path(key_of(child))}?fieldManager={MANAGER}&force=true{query}"
        return await self.kube.raw("PATCH", path, child, "application/apply-patch+yaml")

    async def look(self, child: Obj) -> Obj:
        found = await self.kube.raw("GET", self.path(key_of(child)))
        return {**found, "apiVersion": child["apiVersion"], "kind": child["kind"]}

    async def converge(self, **scene: Any) -> None:
        """Writes what differs, once, and holds what the server then has."""
        for child in self.rendered(**scene):
            if needs_write(child, self.children.get(key_of(child))):
                await self.apply(child)
            self.children[key_of(child)] = await self.look(child)

    async def unequal(self, **scene: Any) -> dict[str, str]:
        """Kind -> where it differs."""
        found: dict[str, str] = {}
        for child in self.rendered(**scene):
            self.children[key_of(child)] = live = await self.look(child)
            if why := needs_write(child, live):
                found[child["kind"]] = why
        return found

    def deployment(self) -> Obj:
        return next(obj for key, obj in self.children.items() if key.kind == "Deployment")

    async def patch(self, key: Key, patch: Obj, manager: str = "somebody") -> None:
        await self.kube.raw("PATCH", f"{self.path(key)}?fieldManager={manager}", patch, "application/merge-patch+json")

    def key(self, kind: str, suffix: str = "") -> Key:
        return Key(kind, self.kube.namespace, child_name("b") + suffix)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
async def test_nothing_differs_once_it_is_applied(kube: Kube, spec: Obj, mode: str) -> None:
    at = await Applied.of(kube, {**spec, "exposure": {"mode": mode}})
    await at.converge()
    assert await at.unequal() == {}
    versions = {key: live["metadata"]["resourceVersion"] for key, live in at.children.items()}
    for child in at.rendered():
        await at.apply(child)
    assert await at.unequal() == {}
    assert versions == {key: live["metadata"]["resourceVersion"] for key, live in at.children.items()}


@pytest.mark.parametrize(("before", "after"), tuple(itertools.permutations(MODES, 2)), ids="-to-".join)
async def test_a_bridge_changes_its_exposure_in_place(kube: Kube, before: str, after: str) -> None:
    at = await Applied.of(kube, {"rooms": [RTP_ROOM], "exposure": {"mode": before}})
    await at.converge()
    await at.edit({"exposure": {"mode": after}})
    await at.converge()
    assert await at.unequal() == {}
    if after not in ("HostPort", "HostNetwork"):
        service = at.children[at.key("Service", "-rtp")]["spec"]
        assert service["type"] == after
        assert all(("nodePort" in port) == (after != "ClusterIP") for port in service["ports"])


async def test_a_load_balancer_class_cannot_be_changed_in_place(kube: Kube) -> None:
    """docs/exposure.md says so, and what helps: another mode in between."""
    at = await Applied.of(kube, {"rooms": [RTP_ROOM], "exposure": {"mode": "LoadBalancer", "loadBalancerClass": "x/y"}})
    await at.converge()
    await at.edit({"exposure": {"loadBalancerClass": "x/z"}})
    with pytest.raises(Refused, match="loadBalancerClass") as refused:
        await at.converge()
    assert refused.value.status == 422
    await at.edit({"exposure": {"mode": "ClusterIP"}})
    await at.converge()
    await at.edit({"exposure": {"mode": "LoadBalancer"}})
    await at.converge()
    assert await at.unequal() == {}


async def test_what_is_wanted_no_longer_is_taken_out(kube: Kube) -> None:
    """A removal differs nowhere but in the hash; the server then drops what only we had set."""
    exposure = {"mode": "NodePort", "serviceAnnotations": {"cloud/udp": "yes"}}
    at = await Applied.of(kube, {**EVERYTHING, "exposure": exposure})
    await at.converge()
    await at.edit({"exposure": {"serviceAnnotations": None}, "pod": None, "autoscaling": None, "replicas": 2})
    assert set(await at.unequal()) == {"Service", "Deployment"}
    await at.converge()
    service, live = at.children[at.key("Service", "-rtp")], at.deployment()["spec"]["template"]
    assert "cloud/udp" not in service["metadata"]["annotations"]
    assert "cost" not in live["metadata"]["labels"]
    assert [container["name"] for container in live["spec"]["containers"]] == ["data-plane"]
    assert "tolerations" not in live["spec"]


async def test_what_others_add_is_left_alone(kube: Kube) -> None:
    at = await Applied.of(kube, EVERYTHING)
    await at.converge()
    for key in list(at.children):
        await at.patch(key, {"metadata": {"labels": {"theirs": "1"}, "annotations": {"theirs": "1"}}})
    await at.patch(at.key("ConfigMap", "-config"), {"data": {"theirs": "1"}})
    sidecar = [{"name": "theirs", "image": "x:1"}]
    template = {"template": {"spec": {"containers": sidecar}, "metadata": {"annotations": {"theirs": "1"}}}}
    await kube.raw(
        "PATCH",
        f"{at.path(at.key('Deployment'))}?fieldManager=somebody",
        {"spec": template},
        "application/strategic-merge-patch+json",
    )
    assert await at.unequal() == {}


EDITS: tuple[tuple[str, str, Obj, str], ...] = (
    ("ServiceAccount", "", {"automountServiceAccountToken": None}, ".automountServiceAccountToken"),
    ("Role", "", {"rules": []}, ".rules"),
    ("RoleBinding", "", {"subjects": []}, ".subjects"),
    ("ConfigMap", "-config", {"data": {"owners.json": None}}, ".data.owners.json"),
    ("Service", "", {"spec": {"selector": {"more": "x"}}}, ".spec.selector.more"),
    ("Service", "-rtp", {"spec": {"type": "NodePort"}}, ".spec.type"),
    ("NetworkPolicy", "", {"spec": {"egress": []}}, ".spec.egress"),
    ("NetworkPolicy", "", {"spec": {"podSelector": {"matchLabels": {"more": "x"}}}}, ".spec.podSelector"),
    ("PodDisruptionBudget", "", {"spec": {"maxUnavailable": 3}}, ".spec.maxUnavailable"),
    ("Deployment", "", {"spec": {"replicas": 7}}, ".spec.replicas"),
    ("Deployment", "", {"spec": {"template": {"spec": {"securityContext": {"runAsNonRoot": None}}}}}, ".runAsNonRoot"),
    ("Deployment", "", {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}}, ".spec.strategy"),
    ("HorizontalPodAutoscaler", "", {"spec": {"maxReplicas": 20}}, ".spec.maxReplicas"),
    ("ServiceMonitor", "", {"spec": {"endpoints": []}}, ".spec.endpoints"),
    ("Service", "", {"metadata": {"ownerReferences": None}}, ".metadata.ownerReferences"),
    ("Role", "", {"metadata": {"labels": {"auralink.io/shard": None}}}, ".metadata.labels"),
)


@pytest.mark.parametrize(
    ("kind", "suffix", "patch", "where"), EDITS, ids=[f"{kind}{suffix}{where}" for kind, suffix, _, where in EDITS]
)
async def test_what_others_change_is_found_and_repaired(
    kube: Kube, kind: str, suffix: str, patch: Obj, where: str
) -> None:
    at = await Applied.of(kube, EVERYTHING)
    await at.converge()
    await at.patch(at.key(kind, suffix), patch)
    found = await at.unequal()
    assert set(found) == {kind}
    assert where in found[kind]
    await at.converge()
    assert await at.unequal() == {}


async def test_replicas_go_to_the_autoscaler_and_back_without_a_fall_to_one(kube: Kube) -> None:
    """Dropped while nobody else owns the field it would be 1: so it is rendered until the HPA has written it."""
    at = await Applied.of(kube, EVERYTHING)
    await at.converge(replicas=4)
    await kube.merge("deployments", child_name("b"), {"spec": {"replicas": 6}}, "scale")
    await at.converge(replicas=None)
    assert (await at.look(at.deployment()))["spec"]["replicas"] == 6
    assert await at.unequal(replicas=None) == {}
    await at.edit({"autoscaling": None, "replicas": 6})
    await at.converge(replicas=6)
    assert (await at.look(at.deployment()))["spec"]["replicas"] == 6
    await at.converge(replicas=5)
    assert await at.unequal(replicas=5) == {}
    assert (await at.look(at.deployment()))["spec"]["replicas"] == 5


async def test_a_held_template_keeps_the_live_pods_as_they_are(kube: Kube) -> None:
    at = await Applied.of(kube, EVERYTHING)
    await at.converge()
    before = at.deployment()
    held = before["spec"]["template"]
    await at.edit({"image": "other:2", "region": "eu"})
    await at.converge(held_template=held)
    live = await at.look(before)
    assert live["spec"] == before["spec"]
    assert await at.unequal(held_template=held) == {}
    await at.converge()
    assert (await at.look(before))["spec"]["template"]["spec"]["containers"][0]["image"] == "other:2"
    assert await at.unequal() == {}


async def test_a_held_template_takes_nothing_over_that_is_others(kube: Kube) -> None:
    """They can take it out again, and going back to the old default changes no pod."""
    at = await Applied.of(kube, EVERYTHING)
    await at.converge(replicas=2)
    deployment = at.deployment()
    theirs: Obj = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": deployment["metadata"]["name"]},
        "spec": {"template": {"metadata": {"annotations": {"theirs": "1"}}}},
    }
    path = f"{at.path(key_of(deployment))}?fieldManager=somebody"
    await kube.raw("PATCH", path, theirs, "application/apply-patch+yaml")
    held = noted_template(await at.look(deployment))
    assert held is not None
    assert await at.unequal(replicas=2, held_template=held) == {}
    image = at.bridge["spec"].get("image")
    await at.edit({"image": "other:2"})
    await at.converge(replicas=3, held_template=held)
    live = await at.look(deployment)
    (ours,) = (one for one in live["metadata"]["managedFields"] if one["manager"] == MANAGER)
    template = ours["fieldsV1"]["f:spec"]["f:template"]
    assert "f:theirs" not in template["f:metadata"]["f:annotations"]
    assert "f:dnsPolicy" not in template["f:spec"]
    assert live["spec"]["template"]["metadata"]["annotations"]["theirs"] == "1"

    await kube.raw("PATCH", path, {**theirs, "spec": {}}, "application/apply-patch+yaml")
    await at.edit({"image": image})
    assert await at.unequal(replicas=3) == {}
    assert (await at.look(deployment))["spec"]["template"] == deployment["spec"]["template"]


@pytest.mark.parametrize("mode", MODES)
async def test_pod_security_restricted_takes_the_pods_of_modes_without_the_host(kube: Kube, mode: str) -> None:
    namespace = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    await kube.raw(
        "PATCH",
        f"/api/v1/namespaces/{kube.namespace}",
        namespace,
        "application/merge-patch+json",
    )
    at = await Applied.of(kube, {"rooms": [RTP_ROOM], "aiCore": {"tlsSecretName": "tls"}, "exposure": {"mode": mode}})
    template = pod_template(at.parsed(), SETTINGS)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": "p"},
        "spec": template["spec"],
    }
    made = kube.raw("POST", f"/api/v1/namespaces/{kube.namespace}/pods?dryRun=All", pod)
    if mode.startswith("Host"):
        with pytest.raises(Refused, match=r"(hostPort|host namespaces)"):
            await made
    else:
        assert (await made)["metadata"]["name"] == "p"
