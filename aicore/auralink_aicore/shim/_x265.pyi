from typing import Any

ffi: Any

class _Lib:
    def al_x265_open(
        self,
        width: int,
        height: int,
        preset: bytes,
        tune: bytes,
        names: list[Any],
        values: list[Any],
        settings: int,
        colour: list[int],
        error: Any,
        error_size: int,
        /,
    ) -> Any: ...
    def al_x265_encode(
        self,
        enc: Any,
        y: Any,
        y_stride: int,
        u: Any,
        u_stride: int,
        v: Any,
        v_stride: int,
        qp: int,
        key: int,
        out: Any,
        /,
    ) -> int: ...
    def al_x265_close(self, enc: Any, /) -> None: ...

lib: _Lib
