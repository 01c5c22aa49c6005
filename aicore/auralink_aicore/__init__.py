"""The reference AI Core: recompresses encoded video frames with their own codec, one frame in and one frame out.

Started with ``python -m auralink_aicore``. A front process (`server`) owns the port and decides who is served;
worker processes (`worker`) own the codecs; `transcoder` is one stream; `controller` decides the quantiser.
"""
