"""What a RoomPolicy says of itself."""

from auralink_operator.models import Conflict, parse_policy
from auralink_operator.status import MatchedBridge, Status, derive_policy

from hack.audit.rules import broken, kstatus
from tests.unit.operator import samples
from tests.unit.operator.status.scenes import NOW, conditions, message


def policy_status(*matched: MatchedBridge, elsewhere: int = 0) -> Status:
    obj = samples.policy("p", mode="Auto")
    status = derive_policy(parse_policy(obj), matched, NOW, elsewhere)
    assert broken(1, status) == []
    return status


def test_a_policy_is_ready_once_every_bridge_carries_it() -> None:
    behind = policy_status(MatchedBridge("a", 1), MatchedBridge("b", None))
    assert conditions(behind)["Ready"] == ("False", "Progressing")
    assert message(behind, "Ready").endswith("configuration of b yet")
    ready = policy_status(MatchedBridge("b", 1), MatchedBridge("a", 1))
    assert conditions(ready) == {"Ready": ("True", "Succeeded"), "Resolved": ("True", "BridgesMatched")}
    assert ready["matchedBridgeCount"] == 2
    assert ready["matchedBridges"] == [{"name": "a"}, {"name": "b"}]


def test_a_policy_for_nobody_is_ready_and_says_so() -> None:
    alone = policy_status()
    assert conditions(alone) == {"Ready": ("True", "Succeeded"), "Resolved": ("False", "NoBridgeMatched")}
    assert message(alone, "Ready") == "selects no bridge yet"
    assert "matchLabels" in message(alone, "Resolved")


def test_bridges_of_other_shards_are_counted_and_nothing_is_claimed_of_them() -> None:
    theirs = policy_status(elsewhere=2)
    assert conditions(theirs) == {"Ready": ("True", "Succeeded"), "Resolved": ("True", "BridgesMatched")}
    assert theirs["matchedBridgeCount"] == 2
    assert message(theirs, "Ready").startswith("selects no bridge of this shard; bridges of other shards say")
    both = policy_status(MatchedBridge("a", 1), elsewhere=1)
    assert both["matchedBridgeCount"] == 2
    assert message(both, "Ready").startswith("in the configuration of every bridge that it selects in this shard;")
    assert message(policy_status(MatchedBridge("a", 1)), "Ready").endswith("every bridge that it selects")


def test_a_policy_that_waits_for_a_suspended_bridge_says_so() -> None:
    status = policy_status(MatchedBridge("a", None, suspended=True), MatchedBridge("b", None))
    assert "suspended, so that nothing changes there: a" in message(status, "Ready")


def test_a_policy_that_waits_for_a_stalled_bridge_says_where_to_look() -> None:
    status = policy_status(
        MatchedBridge("a", None, stalled=True), MatchedBridge("b", None), MatchedBridge("c", 1, stalled=True)
    )
    said = message(status, "Ready")
    assert said.startswith("not in the configuration of a, b yet; ")
    assert said.endswith("Stalled until somebody acts, and its own Ready condition says why: a")
    assert conditions(status)["Reconciling"] == ("True", "Progressing"), "nothing is wrong with the policy itself"
    both = message(policy_status(MatchedBridge("a", None, stalled=True, suspended=True)), "Ready")
    assert "suspended" in both
    assert "Stalled" in both


def test_a_policy_that_a_bridge_has_no_room_for_is_the_user_s_to_mend() -> None:
    status = policy_status(MatchedBridge("a", 1), MatchedBridge("b", None, dropped=True))
    assert conditions(status)["Stalled"] == ("True", "TooManyPolicies")
    assert "left out by b" in message(status, "Ready")
    assert kstatus({**samples.policy("p"), "status": status}) == "Failed"


def test_the_loser_of_a_conflict_names_field_winner_and_why() -> None:
    clash = Conflict("compression.mode", "old", "p", 0, "same priority, old is older")
    status = policy_status(MatchedBridge("a", 1, conflicts=(clash,)), MatchedBridge("b", 1))
    assert conditions(status)["Ready"] == ("True", "Succeeded")
    assert conditions(status)["Conflicted"] == ("True", "SamePriority")
    assert "compression.mode to old on a (same priority, old is older)" in message(status, "Conflicted")
    assert status["matchedBridges"] == [{"name": "a", "conflicts": ["compression.mode: old"]}, {"name": "b"}]


def test_lists_are_bounded() -> None:
    clashes = tuple(Conflict(f"f{n:02}", "w", "p", 0, "why") for n in range(20))
    status = policy_status(*(MatchedBridge(f"b{n:03}", 1, conflicts=clashes) for n in range(300)))
    assert len(status["matchedBridges"]) == 256
    assert status["matchedBridgeCount"] == 300
    assert len(status["matchedBridges"][0]["conflicts"]) == 16
