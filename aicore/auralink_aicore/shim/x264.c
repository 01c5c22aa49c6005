/* One libx264 encoder behind four calls: open, encode, set_speed, close. Compiled by cffi (see build.py), which
 * releases the GIL around every call. Settings come in as text pairs, so that they live as data in codecs/.
 * Nothing here is shared between encoders; an encoder belongs to one thread. */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <x264.h>

#include "still.h"

typedef struct al_x264 {
    x264_t *handle;
    x264_param_t param;
    int64_t pts;
    al_still still;
    float still_strength;
} al_x264;

typedef struct {
    const uint8_t *data; /* owned by the encoder, valid until its next call */
    int size;
    int key;
    int qp;              /* mean quantiser of the picture, rounded */
    double psnr;         /* of all three planes against the picture given, dB */
} al_x264_frame;

/* x264 clears b_psnr when the log level is below INFO, so the level is INFO and the messages end here. */
static void al_no_log(void *opaque, int level, const char *format, va_list args) {
    (void)opaque; (void)level; (void)format; (void)args;
}

static void al_fail(char *error, int error_size, const char *what, const char *name) {
    snprintf(error, (size_t)error_size, "%s%s", what, name);
}

static void al_x264_close(al_x264 *enc) {
    if (enc == NULL)
        return;
    if (enc->handle != NULL)
        x264_encoder_close(enc->handle);
    al_still_close(&enc->still);
    free(enc);
}

/* colour = full range, primaries, transfer, matrix, as ISO/IEC 14496-10 table E-3..E-5 number them. still_strength is
 * al_still_follow's; it needs AQ on, of next to no strength of its own, for else x264 takes no offsets.
 * NULL with a reason in `error` when libx264 refuses a setting. */
static al_x264 *al_x264_open(int width, int height, const char *preset, const char *tune, const char *profile,
                             const char **names, const char **values, int settings, const int *colour,
                             float still_strength, char *error, int error_size) {
    al_x264 *enc = calloc(1, sizeof(*enc));
    x264_param_t *p;
    int i;

    if (enc == NULL) {
        al_fail(error, error_size, "out of memory", "");
        return NULL;
    }
    p = &enc->param;
    if (x264_param_default_preset(p, preset, tune) < 0) {
        al_fail(error, error_size, "unknown preset ", preset);
        goto refused;
    }
    for (i = 0; i < settings; i++) {
        if (x264_param_parse(p, names[i], values[i]) != 0) {
            al_fail(error, error_size, "setting refused: ", names[i]);
            goto refused;
        }
    }
    if (al_still_open(&enc->still, width, height) != 0) {
        al_fail(error, error_size, "out of memory", "");
        goto refused;
    }
    enc->still_strength = still_strength;
    p->i_width = width;
    p->i_height = height;
    p->i_csp = X264_CSP_I420;
    p->i_log_level = X264_LOG_INFO;
    p->pf_log = al_no_log;
    p->vui.b_fullrange = colour[0];
    p->vui.i_colorprim = colour[1];
    p->vui.i_transfer = colour[2];
    p->vui.i_colmatrix = colour[3];
    if (x264_param_apply_profile(p, profile) < 0) {
        al_fail(error, error_size, "profile refused: ", profile);
        goto refused;
    }
    enc->handle = x264_encoder_open(p);
    if (enc->handle == NULL) {
        al_fail(error, error_size, "libx264 would not open", "");
        goto refused;
    }
    return enc;
refused:
    al_x264_close(enc);
    return NULL;
}

/* Moves the access unit together without its SEI (x264 names itself there; receivers have no use for it). */
static int al_strip_sei(x264_nal_t *nals, int count) {
    uint8_t *start = nals[0].p_payload, *end = start;
    int i;

    for (i = 0; i < count; i++) {
        if (nals[i].i_type == NAL_SEI)
            continue;
        if (end != nals[i].p_payload)
            memmove(end, nals[i].p_payload, (size_t)nals[i].i_payload);
        end += nals[i].i_payload;
    }
    return (int)(end - start);
}

/* One picture in, its access unit out. `before` is the luma of the picture before it, NULL without one. key_qp >= 0
 * fixes the quantiser of a key (in CRF mode a key otherwise takes its own from the P frames before it, whatever the
 * CRF). Returns 0, or -1 when nothing came out. */
static int al_x264_encode(al_x264 *enc, const uint8_t *y, int y_stride, const uint8_t *u, int u_stride,
                          const uint8_t *v, int v_stride, const uint8_t *before, int before_stride, double crf,
                          int key, int key_qp, al_x264_frame *out) {
    const float *offsets = NULL;
    x264_picture_t in, coded;
    x264_nal_t *nals = NULL;
    int count = 0;

    if ((float)crf != enc->param.rc.f_rf_constant) {
        enc->param.rc.f_rf_constant = (float)crf;
        if (x264_encoder_reconfig(enc->handle, &enc->param) < 0)
            return -1;
    }
    x264_picture_init(&in);
    in.img.i_csp = X264_CSP_I420;
    in.img.i_plane = 3;
    in.img.plane[0] = (uint8_t *)y;
    in.img.plane[1] = (uint8_t *)u;
    in.img.plane[2] = (uint8_t *)v;
    in.img.i_stride[0] = y_stride;
    in.img.i_stride[1] = u_stride;
    in.img.i_stride[2] = v_stride;
    in.i_pts = enc->pts++;
    in.i_type = key ? X264_TYPE_IDR : X264_TYPE_P;
    in.i_qpplus1 = key && key_qp >= 0 ? key_qp + 1 : X264_QP_AUTO;
    if (before != NULL)
        offsets = al_still_follow(&enc->still, y, y_stride, before, before_stride, enc->still_strength);
    if (!key) /* a key is to be small; the next pictures refine it */
        in.prop.quant_offsets = (float *)offsets; /* x264 only reads them */
    if (x264_encoder_encode(enc->handle, &nals, &count, &in, &coded) <= 0 || count <= 0)
        return -1;
    out->data = nals[0].p_payload;
    out->size = al_strip_sei(nals, count);
    out->key = coded.b_keyframe;
    out->qp = coded.i_qpplus1 - 1;
    out->psnr = coded.prop.f_psnr_avg;
    return 0;
}

/* The one cheaper level that reconfiguring reaches: without trellis. (subme 0 could not be left again.) */
static int al_x264_set_speed(al_x264 *enc, int trellis) {
    enc->param.analyse.i_trellis = trellis;
    return x264_encoder_reconfig(enc->handle, &enc->param);
}
