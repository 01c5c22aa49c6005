"""That the pages in `docs/kinds` and the manual know every word that a status can say."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import auralink_operator
import pytest
from auralink_operator.models import PROBLEMS
from auralink_operator.status import DEGRADING

SOURCE = Path(auralink_operator.__file__).parent
PAGES = SOURCE.parents[1] / "docs/kinds"
MANUAL = SOURCE.parents[1] / "docs/running.md"
# Where a reason stands in a call: Condition(type, status, reason, ..), Problem(reason, ..), ..
PLACE = {"Condition": 2, "Problem": 0, "Verdict": 1, "Stalled": 0, "Waiting": 0, "_reconciling": 0, "_not_ready": 1}
OF_POLICY = {"policy.py"}


def _words(node: ast.expr) -> Iterator[str]:
    """Every literal that an argument may come to."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _words(node.body)
        yield from _words(node.orelse)


def reasons(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PLACE:
            place = PLACE[node.func.id]
            named = [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
            for argument in [*node.args[place : place + 1], *named]:
                found |= set(_words(argument))
    return {reason for reason in found if reason[:1].isupper()}


STATUS = sorted((SOURCE / "status").glob("*.py"))


def test_reasons_are_found_at_all() -> None:
    found = set().union(*(reasons(path) for path in STATUS))
    assert {"Succeeded", "NoPods", "PodsBehind", "ConfigPropagating", "NoBridgeMatched", "SamePriority"} <= found


@pytest.mark.parametrize("path", [*STATUS, SOURCE / "converge.py", SOURCE / "context.py"], ids=lambda path: path.name)
def test_every_reason_is_explained(path: Path) -> None:
    page = PAGES / ("roompolicy.md" if path.name in OF_POLICY else "auralinkbridge.md")
    text = page.read_text(encoding="utf-8")
    assert [reason for reason in sorted(reasons(path)) if f"`{reason}`" not in text] == []


def test_every_problem_of_a_pod_is_explained() -> None:
    text = (PAGES / "auralinkbridge.md").read_text(encoding="utf-8")
    assert [problem for problem in PROBLEMS if f"`{problem}`" not in text] == []


def test_every_problem_that_the_schema_takes_has_its_remedy() -> None:
    """CredentialsMissing keeps a bridge from Ready instead of degrading it."""
    assert {*DEGRADING, "CredentialsMissing"} == set(PROBLEMS)


# --- what to do about an alert -------------------------------------------------------------------------------------


def chapter(alert: str) -> str:
    """What the manual says to an alert."""
    found = re.search(rf"^### {alert}$(.*?)(?=^##|\Z)", MANUAL.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found
    return found.group(1)


def named_in(text: str) -> set[str]:
    """Words that look like reasons."""
    return set(re.findall(r"`([A-Z][A-Za-z]+)`", text))


def reasons_of(*files: str) -> set[str]:
    return set().union(*(reasons(SOURCE / "status" / file) for file in files))


def test_the_manual_says_what_to_do_for_each_way_to_be_degraded_and_for_no_other() -> None:
    """CredentialsMissing is none: it keeps a bridge from Ready."""
    assert named_in(chapter("AuraLinkBridgeDegraded")) - {"DependencyNotReady"} == {
        *DEGRADING,
        *reasons_of("degraded.py", "pods.py"),
    }


def test_the_manual_says_what_to_do_for_each_way_to_be_stalled_and_not_to_be_ready() -> None:
    """What stalls is raised by the writing of children or read from the Deployment; the rest comes by itself."""
    stalled = {
        *reasons_of("deployment.py", "invalid.py"),
        *set().union(*(reasons(SOURCE / f"{name}.py") for name in ("sight", "converge", "context"))) - {"Progressing"},
        "ProgressDeadlineExceeded",
    }
    assert named_in(chapter("AuraLinkBridgeStalled")) == stalled
    waiting = reasons_of("readiness.py") - stalled - {"Succeeded"}
    assert waiting - named_in(chapter("AuraLinkBridgeNotReady")) == set()


def test_the_manual_knows_both_ways_of_policies_to_conflict() -> None:
    said = chapter("AuraLinkPolicyConflict")
    assert "TooManyPolicies" in named_in(said)
    assert re.search(r"the first by\s+name", said)  # of two of the same second


def test_the_manual_upgrades_to_the_defaults_of_the_new_chart() -> None:
    """`--reuse-values` leaves a value that only the new chart knows without its default."""
    commands = re.findall(r"^ {4}(helm upgrade .*)$", MANUAL.read_text(encoding="utf-8"), re.MULTILINE)
    assert commands
    assert [command for command in commands if "--reset-then-reuse-values" not in command] == []


def test_the_manual_quotes_the_log_as_it_is() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    quoted = set(re.findall(r"`([a-z]+(?: [a-z]+){3,})`", MANUAL.read_text(encoding="utf-8")))
    assert {"repairing a child that somebody changed", "reconcile fails again and again"} <= quoted
    assert {text for text in quoted if f'"{text}"' not in source} == set()
