"""The data plane of AuraLink: one pod that moves the media of its rooms and recompresses their video."""

from importlib.metadata import version

__version__ = version("auralink")
