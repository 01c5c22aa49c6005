"""Draws the tables of room state into docs/rooms.md: `python -m hack.roomdoc [--check]`. `make generate` calls it.

What stands between the markers is written here, all else by hand.
"""

import sys
from collections.abc import Iterable, Mapping
from enum import Enum
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from auralink_dataplane.rooms.tables import COMMAND, CORRECTIONS, PARTICIPANT, ROOM, Outcome

PAGE: Final = Path(__file__).parents[1] / "docs" / "rooms.md"
TABLES: Final[Mapping[str, Mapping[tuple[Any, Any], Any]]] = {
    "participant": PARTICIPANT,
    "room": ROOM,
    "command": COMMAND,
}


def drawing(table: Mapping[tuple[Any, Any], Any]) -> str:
    """A diagram of the steps that lead elsewhere, and every step as a row."""
    moves: dict[tuple[str, str], list[str]] = {}
    for (state, fact), step in table.items():
        if step.to is not state:
            moves.setdefault((state.value, step.to.value), []).append(fact.value)
    first = next(iter(table))[0].value
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    lines += [f"    {before} --> {after}: {', '.join(facts)}" for (before, after), facts in moves.items()]
    lines += ["```", "", "| State | Fact | State after | Outcome |", "|---|---|---|---|"]
    return "\n".join([*lines, *_rows(table)])


def _rows(table: Mapping[tuple[Any, Any], Any]) -> Iterable[str]:
    """Facts of one state that come to the same share a row."""

    def result(item: tuple[tuple[Any, Enum], Any]) -> tuple[str, str, str]:
        (state, _), step = item
        return state.value, step.to.value, _named(step.outcome)

    for (state, after, outcome), items in groupby(sorted(table.items(), key=result), key=result):
        facts = ", ".join(fact.value for (_, fact), _ in items)
        yield f"| {state} | {facts} | {after} | {outcome} |"


def _named(outcome: Outcome) -> str:
    if outcome is Outcome.NOTHING:
        return ""
    return f"**{outcome.value}**" if outcome in CORRECTIONS else outcome.value


def written(page: str) -> str:
    """The page with its drawings made anew. Raises ValueError where a marker is missing."""
    for name, table in TABLES.items():
        start, end = f"<!-- {name}: written by make generate -->", f"<!-- {name}: end -->"
        before, found, rest = page.partition(start)
        _, also, after = rest.partition(end)
        if not (found and also):
            raise ValueError(f"{PAGE.name} lacks the markers of {name}")
        page = f"{before}{start}\n{drawing(table)}\n{end}{after}"
    return page


def main(arguments: list[str]) -> int:
    page = PAGE.read_text()
    new = written(page)
    if "--check" in arguments:
        if new != page:
            print(f"{PAGE} is not what the tables say: make generate", file=sys.stderr)
        return int(new != page)
    PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
