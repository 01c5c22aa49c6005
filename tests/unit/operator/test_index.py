"""Who is affected by an event, what belongs to whom, and what hides or holds back."""

import pytest
from auralink_operator.index import (
    ANNOTATION_POLICIES,
    BRIDGE,
    POLICY,
    REMEMBERED_S,
    Expectations,
    Ghosts,
    Indices,
    Key,
    Obj,
    Removals,
    Store,
    affected,
    carried_policies,
    key_of,
    observe,
    observe_policy,
    selects,
    slim,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.operator import samples

KEY = Key(BRIDGE, "ns", "b")


def indices(*objects: Obj, ghosts: Ghosts | None = None) -> Indices:
    store = Store(lambda: 0.0)
    for obj in objects:
        store.put(obj)
    return Indices(store, Ghosts() if ghosts is None else ghosts)


def child(kind: str = "ConfigMap", name: str = "auralink-b-config", *, uid: str = "uid-b", version: str = "5") -> Obj:
    return {
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": f"uid-{name}",
            "resourceVersion": version,
            "labels": {"auralink.io/bridge": "b"},
            "ownerReferences": [{"uid": uid}],
        },
    }


def test_an_index_does_not_hold_who_wrote_what() -> None:
    obj = child()
    obj["metadata"]["managedFields"] = [{"manager": "x"}]
    obj["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "kept": "1"}
    small = slim(obj)
    assert "managedFields" not in small["metadata"]
    assert small["metadata"]["annotations"] == {"kept": "1"}
    assert "managedFields" in obj["metadata"]


def test_children_of_an_earlier_bridge_of_the_name_are_not_ours() -> None:
    stale_pod = samples.pod("p2")
    stale_pod["metadata"]["annotations"] = {"auralink.io/bridge-uid": "before"}
    found = observe(
        indices(samples.bridge(), child(), child("Service", "auralink-b", uid="before"), samples.pod("p1"), stale_pod),
        KEY,
    )
    assert found is not None
    assert list(found.children) == [Key("ConfigMap", "ns", "auralink-b-config")]
    assert [pod["metadata"]["name"] for pod in found.pods] == ["p1"]


@pytest.mark.parametrize("note", [None, ""])
@pytest.mark.parametrize(
    ("set_", "entry", "ours"),
    [
        ("auralink-b-5d4f8c7b9", samples.entry("p1"), True),
        ("auralink-b-5d4f8c7b9", samples.entry("p1") | {"uid": "of another pod"}, False),
        ("auralink-b-5d4f8c7b9", None, False),
        ("auralink-b-c-5d4f8c7b9", samples.entry("p1"), False),  # of bridge b-c
        ("auralink-b", samples.entry("p1"), False),
        (None, samples.entry("p1"), False),
    ],
)
def test_a_pod_whose_note_somebody_took_off_is_known_by_its_replica_set_and_its_own_entry(
    set_: str | None, entry: Obj | None, ours: bool, note: str | None
) -> None:
    pod, bridge = samples.pod("p1"), samples.bridge(status={"pods": [entry] if entry else []})
    pod["metadata"]["annotations"] = {} if note is None else {"auralink.io/bridge-uid": note}
    pod["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "name": set_, "uid": "u"}] if set_ else []
    found = observe(indices(bridge, pod), KEY)
    assert found is not None
    assert [pod["metadata"]["name"] for pod in found.pods] == (["p1"] if ours else [])


def test_a_pod_that_notes_another_bridge_is_not_ours_whatever_the_status_says() -> None:
    pod = samples.pod("p1")
    pod["metadata"]["annotations"] = {"auralink.io/bridge-uid": "before"}
    pod["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "name": "auralink-b-5d4f8c7b9", "uid": "u"}]
    found = observe(indices(samples.bridge(status={"pods": [samples.entry("p1")]}), pod), KEY)
    assert found is not None
    assert found.pods == ()


def test_a_child_stays_in_sight_whatever_its_labels_say() -> None:
    for labels in ({}, {"auralink.io/bridge": "other"}):
        strayed = child()
        strayed["metadata"]["labels"] = labels
        strayed["metadata"]["ownerReferences"] = [{"kind": BRIDGE, "name": "b", "uid": "uid-b"}]
        held = indices(samples.bridge(), strayed)
        found = observe(held, KEY)
        assert found is not None
        assert list(found.children) == [Key("ConfigMap", "ns", "auralink-b-config")]
        assert affected(held, strayed) == {KEY}


def test_a_ghost_is_hidden_until_it_is_seen_again() -> None:
    ghosts = Ghosts()
    held = indices(samples.bridge(), ghosts=ghosts)
    ghosts.add("uid-b")
    assert observe(held, KEY) is None
    ghosts.seen("uid-b")
    assert observe(held, KEY) is not None


def test_ghosts_are_bounded() -> None:
    ghosts = Ghosts(limit=2)
    for name in "abc":
        ghosts.add(name)
    assert len(ghosts) == 2
    assert "a" not in ghosts


def versions() -> tuple[Obj, Obj]:
    old, new = samples.bridge(), samples.bridge()
    old["metadata"] |= {"uid": "old", "resourceVersion": "9"}
    new["metadata"] |= {"uid": "new", "resourceVersion": "10"}
    return old, new


def test_of_two_objects_of_one_name_the_newer_counts_whichever_comes_first() -> None:
    old, new = versions()
    for order in ((old, new), (new, old)):
        found = indices(*order).get(KEY)
        assert found is not None
        assert found["metadata"]["uid"] == "new"


def test_the_late_end_of_an_old_object_does_not_take_the_new_one_away() -> None:
    old, new = versions()
    store = Store(lambda: 0.0)
    store.put(new)
    store.remove(old)
    assert store.get(KEY) is not None
    store.remove(new)
    assert store.get(KEY) is None
    assert store.of_kind(BRIDGE) == store.of_namespace(BRIDGE, "ns") == []


def test_what_is_gone_is_not_brought_back_by_a_read_that_is_older() -> None:
    now = 0.0
    store = Store(lambda: now)
    for version in ("7", "8"):
        store.put(child(version="5"))
        store.remove(child(version="8"))
        store.put(child(version=version))
        assert len(store) == 0
    store.put(child(version="9"))  # it had only left the watch's selection
    assert len(store) == 1
    store.remove(child(version="10"))
    store.remove(child(version="8"))  # told twice, the older one late
    store.put(child(version="9"))
    assert len(store) == 0
    now = REMEMBERED_S
    store.put(child(version="9"))
    assert len(store) == 0
    now += 1.0
    store.put(child(version="9"))
    assert len(store) == 1  # nothing is on its way for so long


def test_another_object_of_a_name_that_is_gone_is_none_of_before() -> None:
    old, new = versions()
    new["metadata"]["resourceVersion"] = "8"  # where the storage numbers anew
    store = Store(lambda: 0.0)
    store.remove(old)
    store.put(new)
    assert len(store) == 1


def test_the_memory_of_what_is_gone_is_bounded_in_number_and_time() -> None:
    now = 0.0
    removals = Removals(lambda: now, limit=3)
    for name in "abcd":
        removals.add(child(name=name))
    assert len(removals) == 3
    assert not removals.covers("uid-a", 5)
    assert removals.covers("uid-b", 5)
    now = REMEMBERED_S + 1
    removals.add(child(name="e"))
    assert len(removals) == 1


@given(
    st.lists(st.tuples(st.sampled_from(["event", "read", "end"]), st.integers(1, 3), st.integers(1, 20)), max_size=30)
)
def test_after_its_end_an_object_is_there_only_in_a_later_version(steps: list[tuple[str, int, int]]) -> None:
    store, ended = Store(lambda: 0.0), dict[str, int]()
    for what, number, version in steps:
        obj = child(name=f"c{number}", version=str(version))
        if what == "end":
            store.remove(obj)
            uid = obj["metadata"]["uid"]
            ended[uid] = max(version, ended.get(uid, 0))
        else:
            store.put(obj)
        for held in store.of_namespace("ConfigMap", "ns"):
            assert held.version > ended.get(held.uid, 0)


def test_a_child_that_changes_hands_is_found_with_its_new_bridge_only() -> None:
    store = Store(lambda: 0.0)
    for bridge, version in (("b", "5"), ("c", "6")):
        moved = child(version=version)
        moved["metadata"]["labels"] = {"auralink.io/bridge": bridge}
        store.put(moved)
    assert store.of_bridge("ns", "b") == []
    assert len(store.of_bridge("ns", "c")) == 1


def test_what_is_read_from_the_index_is_the_reader_s_own() -> None:
    held = indices(samples.bridge())
    first, second = held.get(KEY), held.get(KEY)
    assert first == second
    assert first is not None
    first["metadata"]["name"] = "changed"
    assert held.get(KEY) == second


def test_of_a_pod_only_what_decisions_need_is_kept() -> None:
    pod = samples.pod("p1")
    pod["spec"] = {"nodeName": "node-1", "containers": [{"name": "data-plane"}]}
    assert slim(pod)["spec"] == {"nodeName": "node-1"}
    assert slim(pod)["status"] == pod["status"]


def test_a_deployment_tells_who_owns_its_replicas() -> None:
    obj = child("Deployment", "auralink-b")
    obj["metadata"]["managedFields"] = [
        {"manager": "kubectl", "fieldsV1": {"f:metadata": {}}},
        {"manager": "hpa", "subresource": "scale", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        {"manager": "auralink-operator", "fieldsV1": {"f:spec": {"f:replicas": {}, "f:template": {}}}},
    ]
    assert slim(obj)["metadata"]["replicasManagers"] == ["auralink-operator", "hpa"]


def test_a_deployment_tells_who_has_paused_it() -> None:
    obj = child("Deployment", "auralink-b")
    obj["metadata"]["managedFields"] = [
        {"manager": "kubectl-rollout", "fieldsV1": {"f:spec": {"f:paused": {}}}},
        {"manager": "auralink-operator", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
    ]
    assert "pausedManagers" not in slim(obj)["metadata"]
    assert slim({**obj, "spec": {"paused": True}})["metadata"]["pausedManagers"] == ["kubectl-rollout"]


def test_a_child_concerns_its_bridge_and_a_config_map_its_policies() -> None:
    held = indices(samples.bridge())
    assert affected(held, child("Service", "auralink-b")) == {KEY}
    config = child()
    config["metadata"]["annotations"] = {ANNOTATION_POLICIES: '{"p":1}'}
    assert affected(held, config) == {KEY, Key(POLICY, "ns", "p")}
    assert affected(held, samples.pod("p1")) == {KEY}
    assert affected(held, {"kind": "Service", "metadata": {"name": "x", "namespace": "ns"}}) == set()


def test_a_policy_concerns_the_bridges_it_selects_and_those_that_have_it() -> None:
    chosen = samples.bridge("chosen", labels={"region": "eu"})
    left = samples.bridge("left", status={"appliedPolicies": [{"name": "p"}]})
    other = samples.bridge("other")
    policy = samples.policy("p", selector={"region": "eu"}, mode="Auto")
    assert affected(indices(chosen, left, other), policy) == {
        Key(POLICY, "ns", "p"),
        Key(BRIDGE, "ns", "chosen"),
        Key(BRIDGE, "ns", "left"),
    }


def test_a_bridge_concerns_the_policies_that_select_it_or_did() -> None:
    selecting = samples.policy("selecting", mode="Auto")
    former = samples.policy("former", selector={"region": "eu"}, mode="Auto")
    former["status"] = {"matchedBridges": [{"name": "b"}]}
    other = samples.policy("other", selector={"region": "eu"}, mode="Auto")
    assert affected(indices(selecting, former, other), samples.bridge()) == {
        KEY,
        Key(POLICY, "ns", "selecting"),
        Key(POLICY, "ns", "former"),
    }


def test_a_policy_sees_its_bridges_with_their_own_config_maps() -> None:
    config = child()
    config["metadata"]["annotations"] = {ANNOTATION_POLICIES: '{"p":4}'}
    held = indices(samples.policy("p", mode="Auto"), samples.bridge(), config, child(name="else", uid="before"))
    found = observe_policy(held, Key(POLICY, "ns", "p"))
    assert found is not None
    assert carried_policies(found.config_maps["b"]) == {"p": 4}


@pytest.mark.parametrize("wanted", [None, {"region": "eu"}, {"region": "us"}])
def test_in_brief_an_object_answers_as_it_does_in_full(wanted: Obj | None) -> None:
    policy = samples.policy("p", mode="Auto", selector=wanted)
    policy["status"] = {"matchedBridges": [{"name": "b", "conflicts": []}]}
    bridge = samples.bridge(labels={"region": "eu", "more": ""}, suspend=True)
    bridge["status"] = {"appliedPolicies": [{"name": "p", "priority": 0}]}
    bridge["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    config = child()
    config["metadata"]["annotations"] = {ANNOTATION_POLICIES: '{"p":4}'}
    held = indices(policy, bridge, config)
    (short_policy,), (short_bridge,) = held.briefs(POLICY, "ns"), held.briefs(BRIDGE, "ns")
    (short_config,) = held.briefs("ConfigMap", "ns", "b")
    assert selects(short_policy, short_bridge) == selects(policy, bridge)
    assert carried_policies(short_config) == carried_policies(config)
    assert key_of(short_bridge) == key_of(bridge)
    for short, full in ((short_policy, policy), (short_bridge, bridge), (short_config, config)):
        assert needed(short) == needed(full)


@pytest.mark.parametrize(
    ("conditions", "stalled"),
    [
        (None, False),
        ([{"type": "Ready", "status": "True"}], False),
        ([{"type": "Stalled", "status": "False"}], False),
        ([{"type": "Ready", "status": "False"}, {"type": "Stalled", "status": "True"}], True),
    ],
)
def test_in_brief_a_bridge_says_whether_it_is_stalled(conditions: list[Obj] | None, stalled: bool) -> None:
    held = indices(samples.bridge(status={} if conditions is None else {"conditions": conditions}))
    (brief,) = held.briefs(BRIDGE, "ns")
    assert brief["status"]["stalled"] is stalled


def needed(obj: Obj) -> list[object]:
    """What `affected` and a policy's reconcile ask of others, apart from what has functions of its own."""
    meta, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    return [
        meta.get("deletionTimestamp"),
        bool(spec.get("suspend")),
        [one["name"] for one in status.get("appliedPolicies") or ()],
        [one["name"] for one in status.get("matchedBridges") or ()],
        [one["uid"] for one in meta.get("ownerReferences") or ()],
    ]


def test_a_note_that_somebody_broke_carries_nothing() -> None:
    for note in ("{", "[]", ""):
        config = child()
        config["metadata"]["annotations"] = {ANNOTATION_POLICIES: note}
        assert carried_policies(config) == {}
    assert carried_policies(None) == {}


def test_an_expectation_ends_when_the_index_shows_the_write_or_a_later_one() -> None:
    expected = Expectations(patience_s=5.0)
    expected.wrote(KEY, child(version="7"), now=10.0)
    assert expected.pending(KEY, indices(child(version="6")))
    assert expected.remaining_s(KEY, 12.0) == 3.0
    assert expected.pending(KEY, indices(child(version="10"))) == []
    assert expected.remaining_s(KEY, 12.0) == 0.0


def test_a_deletion_is_seen_when_the_index_has_another_object_or_none() -> None:
    config = Key("ConfigMap", "ns", "auralink-b-config")
    expected = Expectations()
    expected.deleted(KEY, config, "uid-auralink-b-config", now=0.0)
    assert expected.pending(KEY, indices(child())) == [config]
    assert expected.pending(KEY, indices()) == []
    expected.deleted(KEY, config, "another", now=0.0)
    assert expected.pending(KEY, indices(child())) == []


def test_what_is_deleted_right_after_our_write_is_not_waited_for() -> None:
    expected = Expectations()
    expected.wrote(KEY, child(version="7"), now=0.0)
    expected.saw_deleted(KEY, child(version="6"))
    assert expected.pending(KEY, indices())
    expected.saw_deleted(KEY, child(version="8"))
    assert expected.pending(KEY, indices()) == []


def test_an_event_shows_only_our_write_if_it_is_of_that_very_version() -> None:
    expected = Expectations()
    written = samples.bridge()
    key = key_of(written)
    written["metadata"]["resourceVersion"] = "7"
    assert not expected.shows_only(key, written)
    expected.wrote(key, written, 0.0)
    assert expected.shows_only(key, written)
    for version in ("6", "8"):
        other = {**written, "metadata": {**written["metadata"], "resourceVersion": version}}
        assert not expected.shows_only(key, other)
