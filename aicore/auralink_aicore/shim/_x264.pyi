from typing import Any

ffi: Any

class _Lib:
    def al_x264_open(
        self,
        width: int,
        height: int,
        preset: bytes,
        tune: bytes,
        profile: bytes,
        names: list[Any],
        values: list[Any],
        settings: int,
        colour: list[int],
        still_strength: float,
        error: Any,
        error_size: int,
        /,
    ) -> Any: ...
    def al_x264_encode(
        self,
        enc: Any,
        y: Any,
        y_stride: int,
        u: Any,
        u_stride: int,
        v: Any,
        v_stride: int,
        before: Any,
        before_stride: int,
        crf: float,
        key: int,
        key_qp: int,
        out: Any,
        /,
    ) -> int: ...
    def al_x264_set_speed(self, enc: Any, trellis: int, /) -> int: ...
    def al_x264_close(self, enc: Any, /) -> None: ...

lib: _Lib
