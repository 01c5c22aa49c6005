"""What the API server's audit log tells of a whole run: whether each status that was written keeps the rules by which
tools read statuses, and how many requests who made. `python -m hack.audit <log>`; tests run it as their last step.
"""

from hack.audit.log import Event, events, requests
from hack.audit.statuses import Report, check

__all__ = ["Event", "Report", "check", "events", "requests"]
