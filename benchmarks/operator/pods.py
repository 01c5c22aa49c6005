"""Plays what data-plane pods do in the API, for all pods at once: `python -m benchmarks.operator.pods URL TOKEN`.

A pod that kwok made Ready reads its bridge's ConfigMap and applies its own entry to the bridge's status, as the manager
and in the form of a real one; a new generation is acknowledged at once; a pod that is deleted takes its entry back.
There is no media behind it: what a real pod needs to swap a configuration is not in the times measured with it.
"""

import asyncio
import json
import sys
from dataclasses import dataclass, field

from benchmarks.operator.api import Api, Obj, Refused, connected

MANAGER = "auralink-pod."
AGENT = "auralink-data-plane-played"
_WORKERS = 8

Name = tuple[str, str]  # namespace and name


@dataclass(slots=True)
class Pods:
    """Ready pods and configuration generations as watched, and what each pod has told: its bridge and a generation.

    A pod always goes to the same worker, so that its entries are written one after the other.
    """

    api: Api
    pods: dict[Name, Obj] = field(default_factory=dict)
    generations: dict[Name, int] = field(default_factory=dict)
    told: dict[Name, tuple[str, int]] = field(default_factory=dict)
    inboxes: list[asyncio.Queue[Name]] = field(default_factory=lambda: [asyncio.Queue() for _ in range(_WORKERS)])

    def _look_at(self, pod: Name) -> None:
        self.inboxes[hash(pod) % _WORKERS].put_nowait(pod)

    async def watch_pods(self) -> None:
        async for event, pod in self.api.watch("pods", "auralink.io/bridge"):
            key = pod["metadata"]["namespace"], pod["metadata"]["name"]
            if event == "DELETED" or "deletionTimestamp" in pod["metadata"]:
                self.pods.pop(key, None)
                self._look_at(key)
            elif _is_ready(pod):
                self.pods[key] = pod
                self._look_at(key)

    async def watch_config(self) -> None:
        async for event, obj in self.api.watch("configmaps", "auralink.io/bridge"):
            if event == "DELETED":
                continue
            bridge = obj["metadata"]["namespace"], bridge_of(obj)
            if not (generation := json.loads(obj["data"]["config.json"]).get("generation")):
                continue  # spoilt on purpose: a pod keeps the last good one
            self.generations[bridge] = int(generation)
            for key, pod in self.pods.items():
                if key[0] == bridge[0] and bridge_of(pod) == bridge[1]:
                    self._look_at(key)

    async def tell(self, inbox: asyncio.Queue[Name]) -> None:
        while True:
            key = await inbox.get()
            try:
                await self._tell(key)
            except Refused as error:
                if error.status != 404:  # the bridge itself may be gone
                    raise

    async def _tell(self, key: Name) -> None:
        pod = self.pods.get(key)
        if pod is None:
            if told := self.told.pop(key, None):
                await self.api.apply("auralinkbridges", _named(key[0], told[0]), MANAGER + key[1], "status")
            return
        bridge = bridge_of(pod)
        generation = self.generations.get((key[0], bridge), 0)
        if generation and self.told.get(key) != (bridge, generation):
            self.told[key] = bridge, generation
            status = {**_named(key[0], bridge), "status": {"pods": [_entry(pod, generation)]}}
            await self.api.apply("auralinkbridges", status, MANAGER + key[1], "status")


def bridge_of(obj: Obj) -> str:
    return str(obj["metadata"]["labels"]["auralink.io/bridge"])


def _is_ready(pod: Obj) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _entry(pod: Obj, generation: int) -> Obj:
    return {
        "name": pod["metadata"]["name"],
        "uid": pod["metadata"]["uid"],
        "node": pod["spec"]["nodeName"],
        "phase": "Serving",
        "configGeneration": generation,
        "rooms": 1,
        "sessions": 1,
        "savedPercent": 30,
        "version": "0.1.0",
        "since": pod["status"]["startTime"],
    }


def _named(namespace: str, bridge: str) -> Obj:
    return {
        "apiVersion": "auralink.io/v1alpha1",
        "kind": "AuraLinkBridge",
        "metadata": {"namespace": namespace, "name": bridge},
    }


async def play(url: str, token: str) -> None:
    async with connected(url, token, AGENT) as api:
        pods = Pods(api)
        async with asyncio.TaskGroup() as group:
            group.create_task(pods.watch_pods(), name="watch pods")
            group.create_task(pods.watch_config(), name="watch configurations")
            for number, inbox in enumerate(pods.inboxes):
                group.create_task(pods.tell(inbox), name=f"tell {number}")


if __name__ == "__main__":
    asyncio.run(play(sys.argv[1], sys.argv[2]))
