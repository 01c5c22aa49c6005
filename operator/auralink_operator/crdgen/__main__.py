"""`python -m auralink_operator.crdgen [--check]`."""

import argparse
import sys
from pathlib import Path

from auralink_operator.crdgen.files import files


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m auralink_operator.crdgen", description="Writes the CRDs and the tables in docs/kinds."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not what it should be")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[3], help="folder of the repository")
    arguments = parser.parse_args()
    stale = []
    for path, text in files(arguments.root).items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path)
        if not arguments.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if arguments.check and stale:
        print("not what the models say, run make generate: " + ", ".join(map(str, stale)), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
