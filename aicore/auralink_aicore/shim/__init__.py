"""The encoders' C bindings: one cffi module per library, used by `codecs` only.

PyAV's own encoders would do but for one thing: they cannot change the quantiser from frame to frame. Decoding
stays with PyAV. The modules are compiled in place by `build`; each is a face of ``open, encode, set_speed, close``.
"""
