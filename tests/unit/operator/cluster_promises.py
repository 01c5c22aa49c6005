"""What reconciles may rely on of a cluster: one class of tests for the real API server and for the one in memory.

A user of the class gives `at`: the cluster, and a namespace with both kinds in it.
"""

from dataclasses import dataclass

import pytest
from auralink_operator.cluster import ApiError, Cluster
from auralink_operator.index import BRIDGE, Key, Obj

from tests.unit.operator import samples


@dataclass
class At:
    cluster: Cluster
    namespace: str

    def key(self, kind: str, name: str) -> Key:
        return Key(kind, self.namespace, name)

    def config(self, name: str = "c", **data: str) -> Obj:
        meta = {"name": name, "namespace": self.namespace}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}

    def bridge(self, name: str = "b", **more: object) -> Obj:
        found = samples.bridge(name)
        meta = {"name": name, "namespace": self.namespace}
        return {"apiVersion": found["apiVersion"], "kind": BRIDGE, "metadata": meta, **more}

    async def new_bridge(self, name: str = "b") -> Obj:
        return await self.cluster.apply(self.bridge(name, spec=samples.bridge()["spec"]), manager="user")

    async def tell(self, manager: str, **status: object) -> Obj:
        return await self.cluster.apply(self.bridge(status=status), manager=manager, subresource="status")

    async def live(self, kind: str, name: str) -> Obj:
        found = await self.cluster.get(self.key(kind, name))
        assert found is not None
        return found


def version(obj: Obj) -> str:
    return str(obj["metadata"]["resourceVersion"])


def entry(name: str, **more: object) -> Obj:
    return {"name": name, "uid": f"uid-{name}", "phase": "Serving", **more}


class ClusterPromises:
    async def test_an_apply_makes_an_object_and_answers_with_it(self, at: At) -> None:
        made = await at.cluster.apply(at.config(a="1"), manager="us")
        assert made["metadata"]["uid"]
        assert await at.live("ConfigMap", "c") == made

    async def test_an_apply_that_says_nothing_new_makes_no_version(self, at: At) -> None:
        made = await at.cluster.apply(at.config(a="1"), manager="us")
        again = await at.cluster.apply(at.config(a="1"), manager="us")
        assert version(again) == version(made)
        changed = await at.cluster.apply(at.config(a="2"), manager="us")
        assert int(version(changed)) > int(version(made))
        assert changed["metadata"]["uid"] == made["metadata"]["uid"]

    async def test_an_apply_takes_away_what_its_manager_does_not_want_any_more(self, at: At) -> None:
        await at.cluster.apply(at.config(a="1", b="2"), manager="us")
        await at.cluster.apply(at.config(b="2", c="3"), manager="them")
        left = await at.cluster.apply(at.config(a="1"), manager="us")
        assert left["data"] == {"a": "1", "b": "2", "c": "3"}
        left = await at.cluster.apply(at.config(), manager="them")
        assert left["data"] == {"a": "1"}

    async def test_what_others_have_added_stays(self, at: At) -> None:
        await at.cluster.apply(at.config(a="1"), manager="us")
        await at.cluster.merge(at.key("ConfigMap", "c"), {"data": {"theirs": "x"}}, manager="them")
        left = await at.cluster.apply(at.config(a="2"), manager="us")
        assert left["data"] == {"a": "2", "theirs": "x"}

    async def test_what_is_not_there_is_none(self, at: At) -> None:
        assert await at.cluster.get(at.key("ConfigMap", "none")) is None
        assert await at.cluster.merge(at.key("ConfigMap", "none"), {"data": {}}, manager="us") is None
        await at.cluster.delete(at.key("ConfigMap", "none"), uid="u", resource_version="1")

    async def test_a_merge_adds_removes_and_replaces_lists(self, at: At) -> None:
        await at.cluster.apply(at.config(a="1", b="2"), manager="us")
        body = {"data": {"a": None, "c": "3"}, "metadata": {"annotations": {"x": "y"}}}
        found = await at.cluster.merge(at.key("ConfigMap", "c"), body, manager="us")
        assert found is not None
        assert found["data"] == {"b": "2", "c": "3"}
        assert found["metadata"]["annotations"] == {"x": "y"}

    async def test_a_merge_holds_to_the_version_that_it_names(self, at: At) -> None:
        made = await at.cluster.apply(at.config(a="1"), manager="us")
        await at.cluster.apply(at.config(a="2"), manager="us")
        body = {"metadata": {"resourceVersion": version(made), "annotations": {"x": "y"}}}
        with pytest.raises(ApiError) as error:
            await at.cluster.merge(at.key("ConfigMap", "c"), body, manager="us")
        assert error.value.status == 409

    async def test_a_deletion_holds_to_object_and_version(self, at: At) -> None:
        made = await at.cluster.apply(at.config(a="1"), manager="us")
        uid, old = made["metadata"]["uid"], version(made)
        changed = await at.cluster.apply(at.config(a="2"), manager="us")
        for wrong in ({"uid": uid, "resource_version": old}, {"uid": "other", "resource_version": version(changed)}):
            with pytest.raises(ApiError) as error:
                await at.cluster.delete(at.key("ConfigMap", "c"), **wrong)
            assert error.value.status == 409
        await at.cluster.delete(at.key("ConfigMap", "c"), uid=uid, resource_version=version(changed))
        assert await at.cluster.get(at.key("ConfigMap", "c")) is None

    async def test_an_apply_names_the_object_it_is_meant_for(self, at: At) -> None:
        await at.cluster.apply(at.config(a="1"), manager="us")
        other = at.config(a="2")
        other["metadata"]["uid"] = "another"
        with pytest.raises(ApiError) as error:
            await at.cluster.apply(other, manager="us")
        assert error.value.status == 422

    async def test_an_object_that_is_made_again_under_its_name_is_another(self, at: At) -> None:
        made = await at.cluster.apply(at.config(a="1"), manager="us")
        uid = made["metadata"]["uid"]
        await at.cluster.delete(at.key("ConfigMap", "c"), uid=uid, resource_version=version(made))
        again = await at.cluster.apply(at.config(a="1"), manager="us")
        assert again["metadata"]["uid"] != uid
        assert int(version(again)) > int(version(made))
        with pytest.raises(ApiError) as error:
            await at.cluster.delete(at.key("ConfigMap", "c"), uid=uid, resource_version=version(again))
        assert error.value.status == 409

    async def test_an_apply_that_names_an_object_which_is_gone_makes_none(self, at: At) -> None:
        body = at.config(a="1")
        body["metadata"]["uid"] = "gone"
        with pytest.raises(ApiError) as error:
            await at.cluster.apply(body, manager="us")
        assert error.value.status == 409
        assert await at.cluster.get(at.key("ConfigMap", "c")) is None

    async def test_a_status_of_nothing_is_404(self, at: At) -> None:
        with pytest.raises(ApiError) as error:
            await at.tell("us", rooms=1)
        assert error.value.status == 404

    async def test_a_status_leaves_the_spec_and_the_generation_alone(self, at: At) -> None:
        made = await at.new_bridge()
        told = await at.tell("us", observedGeneration=1)
        assert told["spec"] == made["spec"]
        assert told["metadata"]["generation"] == made["metadata"]["generation"]
        spec = {**samples.bridge()["spec"], "suspend": True}
        changed = await at.cluster.apply(at.bridge(spec=spec), manager="user")
        assert changed["metadata"]["generation"] == made["metadata"]["generation"] + 1
        assert changed["status"] == told["status"]

    async def test_each_pod_has_its_entry_and_takes_it_away(self, at: At) -> None:
        await at.new_bridge()
        for name in ("p1", "p2"):
            await at.tell(f"auralink-pod.{name}", pods=[entry(name, sessions=1)])
        told = await at.tell("us", observedGeneration=1)
        assert [pod["name"] for pod in told["status"]["pods"]] == ["p1", "p2"]
        left = await at.cluster.apply(at.bridge(), manager="auralink-pod.p1", subresource="status")
        assert [pod["name"] for pod in left["status"]["pods"]] == ["p2"]
        assert left["status"]["observedGeneration"] == 1

    async def test_an_entry_of_a_manager_that_we_do_not_know_stays(self, at: At) -> None:
        await at.new_bridge()
        await at.tell("somebody", pods=[entry("p1")])
        left = await at.cluster.apply(at.bridge(), manager="auralink-pod.p1", subresource="status")
        assert [pod["name"] for pod in left["status"]["pods"]] == ["p1"]

    async def test_a_list_of_a_status_is_in_the_order_in_which_it_was_last_told(self, at: At) -> None:
        await at.new_bridge()
        first, second = ({"name": name, "priority": 0, "observedGeneration": 1} for name in ("a", "b"))
        await at.tell("us", observedGeneration=1, appliedPolicies=[first, second])
        told = await at.tell("us", observedGeneration=1, appliedPolicies=[second, first])
        assert [policy["name"] for policy in told["status"]["appliedPolicies"]] == ["b", "a"]

    async def test_a_finalizer_keeps_a_deleted_object_until_it_is_taken_away(self, at: At) -> None:
        await at.new_bridge()
        body = at.bridge()
        body["metadata"]["finalizers"] = ["auralink.io/drain"]
        made = await at.cluster.apply(body, manager="holder")
        uid, now = made["metadata"]["uid"], version(made)
        await at.cluster.delete(at.key(BRIDGE, "b"), uid=uid, resource_version=now)
        live = await at.live(BRIDGE, "b")
        assert live["metadata"]["deletionTimestamp"]
        metadata: Obj = {"finalizers": [], "resourceVersion": version(live)}
        await at.cluster.merge(at.key(BRIDGE, "b"), {"metadata": metadata}, manager="holder")
        assert await at.cluster.get(at.key(BRIDGE, "b")) is None

    async def test_a_manager_s_entry_can_be_taken_out_of_the_managed_fields(self, at: At) -> None:
        await at.cluster.apply(at.config(a="1"), manager="us")
        await at.cluster.merge(at.key("ConfigMap", "c"), {"data": {"b": "2"}}, manager="repair")
        live = await at.cluster.apply(at.config(a="1", b="2"), manager="us")
        kept = [one for one in live["metadata"]["managedFields"] if one["manager"] != "repair"]
        metadata = {"managedFields": kept, "resourceVersion": version(live)}
        await at.cluster.merge(at.key("ConfigMap", "c"), {"metadata": metadata}, manager="us")
        left = await at.cluster.apply(at.config(a="1"), manager="us")
        assert left["data"] == {"a": "1"}

    async def test_metadata_is_listed_by_kind(self, at: At) -> None:
        await at.cluster.apply(at.config("one", a="1"), manager="us")
        await at.cluster.apply(at.config("two", a="1"), manager="us")
        found = [item async for item in at.cluster.list_metadata("ConfigMap", at.namespace)]
        assert {"one", "two"} <= {item["metadata"]["name"] for item in found}
