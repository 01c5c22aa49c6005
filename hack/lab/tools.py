"""The pinned tools of `hack/tools.sh`, from Python."""

import subprocess
from pathlib import Path

_TOOLS = Path(__file__).resolve().parents[1] / "tools.sh"
_LONGEST_BUILD_S = 1800.0


def tool(*arguments: str) -> str:
    """What `hack/tools.sh` answers. It builds what is missing first, which can take minutes; its progress is shown.

    Raises subprocess.CalledProcessError where a build fails, subprocess.TimeoutExpired where it takes half an hour."""
    command = [str(_TOOLS), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=_LONGEST_BUILD_S)
    return done.stdout.strip()
