"""Checks an audit log: python -m hack.audit <log> [--since 2026-01-01T12:00:00Z] [--requests [--user NAME]]."""

import argparse
import sys
from datetime import datetime
from pathlib import Path

from hack.audit.log import requests
from hack.audit.statuses import check


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.audit", description=__doc__)
    parser.add_argument("log", type=Path, help="the API server's audit log; what was rotated away beside it counts too")
    parser.add_argument("--since", type=datetime.fromisoformat, help="only what was asked from then on")
    parser.add_argument("--requests", action="store_true", help="print how often who asked for what, and check nothing")
    parser.add_argument("--user", default="", help="with --requests: this user only")
    arguments = parser.parse_args()
    if arguments.requests:
        for (verb, what), count in requests(arguments.log, arguments.user, arguments.since).most_common():
            print(f"{count:8} {verb} {what}")
        return 0
    report = check(arguments.log, arguments.since)
    print(report)
    for violation in report.violations:
        print(f"  {violation}")
    # A log without a single status was written by another policy, or is another log: nothing has been shown.
    return 1 if report.violations or not report.written["operator"] else 0


if __name__ == "__main__":
    sys.exit(main())
