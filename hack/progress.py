"""Progress lines with the time since the command started, and waiting with a limit. Used by everything in `hack`."""

import sys
import time
from collections.abc import Callable

_STARTED = time.monotonic()


class CommandError(Exception):
    """What the user reads when something in here cannot be done; ends the command with exit code 1."""


def say(text: str) -> None:
    print(f"==> [{time.monotonic() - _STARTED:5.1f} s] {text}", file=sys.stderr, flush=True)


def wait(what: str, ready: Callable[[], bool], timeout_s: float, every_s: float = 0.1) -> bool:
    """Whether `ready` became true in time. Says something every ten seconds."""
    started = said = time.monotonic()
    while not ready():
        now = time.monotonic()
        if now - started > timeout_s:
            return False
        if now - said >= 10:
            said = now
            say(f"still waiting for {what}")
        time.sleep(every_s)
    return True
