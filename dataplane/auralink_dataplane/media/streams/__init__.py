"""The shell around the streams of a pod: frames up from the packet core, through `pipeline`, to the AI Core and back.

Everything here runs on the event loop and nothing waits: the packet core wakes it by file descriptor, sessions by
callback, time by one timer per stream. Decisions are `pipeline`'s; `stream` carries them out, `streams` hands each what
concerns it, `books` count.
"""

from auralink_dataplane.media.streams.stream import Stream
from auralink_dataplane.media.streams.streams import Streams

__all__ = ["Stream", "Streams"]
