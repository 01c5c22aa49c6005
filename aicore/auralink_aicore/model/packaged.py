"""The model that comes with the package."""

from functools import cache
from pathlib import Path
from typing import Final

from auralink_aicore.model.file import Model, read

PACKAGED: Final = Path(__file__).parent / "auralink-q-1.3.0.json"


@cache
def packaged() -> Model:
    """Read once. Raises BadModelError where the package is broken."""
    return read(PACKAGED.name, PACKAGED.read_bytes())
