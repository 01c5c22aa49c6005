"""The data plane of AuraLink: one pod that moves the media of its rooms and recompresses their video."""

# Written out, not read from package metadata: an image holds the sources, not the distribution.
__version__ = "0.1.0"
