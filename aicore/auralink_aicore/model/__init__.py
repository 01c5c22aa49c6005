"""The model in use: `file` reads a model file, `trees` answers from it, `packaged` is the one that ships.

`ids.json` has the SHA-256 of every file that ever had an id: what an id says never changes.
"""

from auralink_aicore.model.file import (
    MAX_BYTES,
    BadModelError,
    Learned,
    Model,
    Prediction,
    StreamCurves,
    model_hash,
    read,
    version_of,
)
from auralink_aicore.model.packaged import PACKAGED, packaged

__all__ = [
    "MAX_BYTES",
    "PACKAGED",
    "BadModelError",
    "Learned",
    "Model",
    "Prediction",
    "StreamCurves",
    "model_hash",
    "packaged",
    "read",
    "version_of",
]
