from typing import Any

ffi: Any

class _Lib:
    VP8E_SET_CPUUSED: int
    VP8E_SET_STATIC_THRESHOLD: int
    VP9E_SET_AQ_MODE: int
    VP9E_SET_COLOR_RANGE: int
    VP9E_SET_COLOR_SPACE: int
    VP9E_SET_ROW_MT: int
    VP9E_SET_TILE_COLUMNS: int
    def al_vpx_open(self, settings: Any, controls: Any, count: int, error: Any, error_size: int, /) -> Any: ...
    def al_vpx_encode(
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
    def al_vpx_set_speed(self, enc: Any, cpu_used: int, /) -> int: ...
    def al_vpx_close(self, enc: Any, /) -> None: ...

lib: _Lib
