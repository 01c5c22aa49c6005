"""Compiles the codec bindings beside their sources: ``python -m auralink_aicore.shim.build``.

Run once per machine (or image) with a C compiler and the codecs' development files installed (Debian 12: build 164 of
libx264 in ``libx264-dev``, 1.12 of libvpx in ``libvpx-dev``, 3.5 of libx265 in ``libx265-dev``, 3.6 of libaom in
``libaom-dev``). The results use Python's stable ABI, so they do not depend on 3.x.
"""

import tempfile
from pathlib import Path

import cffi

HERE = Path(__file__).parent

X264_FACE = """
typedef struct al_x264 al_x264;
typedef struct {
    const uint8_t *data;
    int size;
    int key;
    int qp;
    double psnr;
} al_x264_frame;
static al_x264 *al_x264_open(int width, int height, const char *preset, const char *tune, const char *profile,
                             const char **names, const char **values, int settings, const int *colour,
                             float still_strength, char *error, int error_size);
static int al_x264_encode(al_x264 *enc, const uint8_t *y, int y_stride, const uint8_t *u, int u_stride,
                          const uint8_t *v, int v_stride, const uint8_t *before, int before_stride, double crf,
                          int key, int key_qp, al_x264_frame *out);
static int al_x264_set_speed(al_x264 *enc, int trellis);
static void al_x264_close(al_x264 *enc);
"""

VPX_FACE = """
#define VP8E_SET_CPUUSED ...
#define VP8E_SET_STATIC_THRESHOLD ...
#define VP9E_SET_AQ_MODE ...
#define VP9E_SET_COLOR_RANGE ...
#define VP9E_SET_COLOR_SPACE ...
#define VP9E_SET_ROW_MT ...
#define VP9E_SET_TILE_COLUMNS ...
typedef struct al_vpx al_vpx;
typedef struct {
    int vp9;
    unsigned int width;
    unsigned int height;
    unsigned int threads;
    unsigned int target_kbps;
} al_vpx_settings;
typedef struct {
    int id;
    int value;
} al_vpx_control;
typedef struct {
    const uint8_t *data;
    size_t size;
    int key;
    int q;
    double psnr;
} al_vpx_frame;
static al_vpx *al_vpx_open(const al_vpx_settings *settings, const al_vpx_control *controls, int count, char *error,
                           int error_size);
static int al_vpx_encode(al_vpx *enc, const uint8_t *y, int y_stride, const uint8_t *u, int u_stride, const uint8_t *v,
                         int v_stride, unsigned int q, int key, al_vpx_frame *out);
static int al_vpx_set_speed(al_vpx *enc, int cpu_used);
static void al_vpx_close(al_vpx *enc);
"""

X265_FACE = """
typedef struct al_x265 al_x265;
typedef struct {
    const uint8_t *data;
    int size;
    int key;
    int qp;
} al_x265_frame;
static al_x265 *al_x265_open(int width, int height, const char *preset, const char *tune, const char **names,
                             const char **values, int settings, const int *colour, char *error, int error_size);
static int al_x265_encode(al_x265 *enc, const uint8_t *y, int y_stride, const uint8_t *u, int u_stride,
                          const uint8_t *v, int v_stride, int qp, int key, al_x265_frame *out);
static void al_x265_close(al_x265 *enc);
"""

AOM_FACE = """
typedef struct al_aom al_aom;
typedef struct {
    const uint8_t *data;
    size_t size;
    int key;
    int q;
    double psnr;
} al_aom_frame;
static al_aom *al_aom_open(int width, int height, int threads, int kbps, const char **names, const char **values,
                           int settings, const int *colour, char *error, int error_size);
static int al_aom_encode(al_aom *enc, const uint8_t *y, int y_stride, const uint8_t *u, int u_stride, const uint8_t *v,
                         int v_stride, unsigned int q, int key, al_aom_frame *out);
static void al_aom_close(al_aom *enc);
"""


BINDINGS = {
    "x264": X264_FACE,
    "vpx": VPX_FACE,
    "x265": X265_FACE,
    "aom": AOM_FACE,
}
"""Library -> the face of its binding; ``<library>.c`` is the source and ``_<library>`` the module."""

_WARNINGS = ["-Wall", "-Wextra", "-Wno-missing-field-initializers", "-Wno-unused-parameter"]


def build(library: str, face: str) -> None:
    """Compile one binding next to this file."""
    ffi = cffi.FFI()
    ffi.cdef(face)
    ffi.set_source(
        f"_{library}",
        (HERE / f"{library}.c").read_text(),
        libraries=[library, "m"],
        include_dirs=[str(HERE)],
        extra_compile_args=["-O2", *_WARNINGS],
    )
    with tempfile.TemporaryDirectory(dir=HERE) as scratch:
        built = Path(ffi.compile(tmpdir=scratch, target=f"_{library}.abi3.so"))
        built.replace(HERE / built.name)  # a process that has the old one loaded keeps it


if __name__ == "__main__":
    for name, text in BINDINGS.items():
        build(name, text)
