from typing import Any

ffi: Any

class _Lib:
    def al_aom_open(
        self,
        width: int,
        height: int,
        threads: int,
        kbps: int,
        names: list[Any],
        values: list[Any],
        settings: int,
        colour: list[int],
        error: Any,
        error_size: int,
        /,
    ) -> Any: ...
    def al_aom_encode(
        self,
        enc: Any,
        y: Any,
        y_stride: int,
        u: Any,
        u_stride: int,
        v: Any,
        v_stride: int,
        q: int,
        key: int,
        out: Any,
        /,
    ) -> int: ...
    def al_aom_close(self, enc: Any, /) -> None: ...

lib: _Lib
