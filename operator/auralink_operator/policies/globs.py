"""Whether globs can fit the same name: exactly, and with an example of one.

Pods match names with `fnmatch.fnmatchcase`, so a glob is read here as that does, quirks included. A glob is a list of
steps: `STAR`, or a set of characters for one. A name fits several globs when all of them can be walked to their ends
on the same characters; a breadth-first search over their positions finds the shortest such name. Positions multiply,
hence `Effort`: what globs of strangers may cost is bounded.
"""

import sys
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

Chars = tuple[tuple[int, int], ...]
"""A set of characters: ranges of code points, sorted and apart."""

_ALL: Chars = ((0, sys.maxunicode),)
_READABLE = tuple(map(ord, "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-_."))


class _Star:
    """Any number of any characters."""


STAR = _Star()
Step = Chars | _Star


class OutOfEffortError(Exception):
    """The globs are too many or too tangled to be compared within what was allowed."""


class Effort:
    """How many more positions may be looked at."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def spend(self) -> None:
        if self._left <= 0:
            raise OutOfEffortError
        self._left -= 1


def example(globs: Sequence[str], effort: Effort) -> str | None:
    """The shortest name that fits all of the globs; None if there is none. Never empty, as no room's name is."""
    patterns = [_steps(glob) for glob in globs]
    start = (0,) * len(patterns)
    end = tuple(len(pattern) for pattern in patterns)
    came: dict[tuple[int, ...], tuple[tuple[int, ...], str] | None] = {start: None}
    waiting = deque([start])
    done: set[tuple[int, ...]] = set()
    while waiting:
        at = waiting.popleft()
        if at in done:
            continue
        done.add(at)
        effort.spend()
        if at == end:
            return _walked(came, at) or "a"
        for place, pattern in enumerate(patterns):
            if at[place] < len(pattern) and pattern[at[place]] is STAR:
                beyond = (*at[:place], at[place] + 1, *at[place + 1 :])
                if beyond not in done:
                    came[beyond] = (at, "")  # at no cost: looked at before whatever is longer
                    waiting.appendleft(beyond)
        found = _next(patterns, at)
        if found and found[0] not in came:
            came[found[0]] = (at, found[1])
            waiting.append(found[0])
    return None


def _next(patterns: Sequence[tuple[Step, ...]], at: tuple[int, ...]) -> tuple[tuple[int, ...], str] | None:
    """Where one character leads that every pattern takes, and which; None if there is none or it leads nowhere new."""
    chars = _ALL
    moved = []
    for place, pattern in zip(at, patterns, strict=True):
        if place == len(pattern):
            return None
        step = pattern[place]
        if isinstance(step, _Star):
            moved.append(place)
        else:
            chars = _both(chars, step)
            moved.append(place + 1)
    there = tuple(moved)
    return (there, _pick(chars)) if chars and there != at else None


def _walked(came: dict[tuple[int, ...], tuple[tuple[int, ...], str] | None], at: tuple[int, ...]) -> str:
    """The characters on the way to a position."""
    found = []
    while step := came[at]:
        at, char = step
        found.append(char)
    return "".join(reversed(found))


def _both(one: Chars, other: Chars) -> Chars:
    found = ((max(a, c), min(b, d)) for a, b in one for c, d in other)
    return tuple(sorted((low, high) for low, high in found if low <= high))


def _pick(chars: Chars) -> str:
    """One of the characters, a readable one if there is any; "" of none."""
    for code in _READABLE:
        if any(low <= code <= high for low, high in chars):
            return chr(code)
    return chr(chars[0][0]) if chars else ""


@lru_cache(maxsize=4096)
def _steps(glob: str) -> tuple[Step, ...]:
    found: list[Step] = []
    at = 0
    while at < len(glob):
        char = glob[at]
        at += 1
        if char == "*":
            if not found or found[-1] is not STAR:
                found.append(STAR)
        elif char == "?":
            found.append(_ALL)
        elif char == "[" and (end := _closing(glob, at)) is not None:
            found.append(_set(glob[at:end]))
            at = end + 1
        else:
            found.append(((ord(char), ord(char)),))
    return tuple(found)


def _closing(glob: str, at: int) -> int | None:
    """Where the set that begins at `at` ends; a bracket right at its beginning belongs to it. None: it is no set."""
    if glob[at : at + 1] == "!":
        at += 1
    if glob[at : at + 1] == "]":
        at += 1
    end = glob.find("]", at)
    return None if end < 0 else end


def _set(inside: str) -> Chars:
    """The characters of what stands between brackets."""
    chunks = _chunks(inside)
    for number in range(len(chunks) - 1, 0, -1):
        if chunks[number - 1][-1] > chunks[number][0]:  # a range that ends before it begins is nothing
            chunks[number - 1] = chunks[number - 1][:-1] + chunks[number][1:]
            del chunks[number]
    negated = chunks[0].startswith("!")
    if negated:
        chunks[0] = chunks[0][1:]
    ranges = [(ord(char), ord(char)) for chunk in chunks for char in chunk]
    ranges += [(ord(low[-1]), ord(high[0])) for low, high in pairwise(chunks)]
    merged = _merged(ranges)
    return _others(merged) if negated else merged


def _chunks(inside: str) -> list[str]:
    """Cut at every `-` that makes a range: the last character of one chunk to the first of the next."""
    if "-" not in inside:
        return [inside]
    chunks: list[str] = []
    begin, look = 0, 2 if inside.startswith("!") else 1
    while (dash := inside.find("-", look)) >= 0:
        chunks.append(inside[begin:dash])
        begin, look = dash + 1, dash + 3
    if begin < len(inside):
        chunks.append(inside[begin:])
    else:
        chunks[-1] += "-"
    return chunks


def _merged(ranges: Sequence[tuple[int, int]]) -> Chars:
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return tuple(found)


def _others(chars: Chars) -> Chars:
    found, low = [], 0
    for begin, end in chars:
        if low < begin:
            found.append((low, begin - 1))
        low = end + 1
    return (*found, (low, sys.maxunicode)) if low <= sys.maxunicode else tuple(found)
