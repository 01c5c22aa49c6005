/* One libaom AV1 encoder behind three calls: open, encode, close. Compiled by cffi (see build.py), which releases the GIL
 * around every call. Settings come in as text pairs, so that they live as data in codecs/. Nothing here is shared
 * between encoders; an encoder belongs to one thread. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <aom/aom_encoder.h>
#include <aom/aomcx.h>

typedef struct al_aom {
    aom_codec_ctx_t codec;
    aom_codec_enc_cfg_t cfg;
    aom_image_t picture;
    int64_t pts;
    int opened;
} al_aom;

typedef struct {
    const uint8_t *data; /* owned by the encoder, valid until its next call */
    size_t size;
    int key;
    int q;               /* of the picture, on the scale of 0 to 63 */
    double psnr;         /* of all three planes against the picture given, dB */
} al_aom_frame;

static void al_fail(char *error, int error_size, const char *what, const char *name) {
    snprintf(error, (size_t)error_size, "%s%s", what, name);
}

static void al_aom_close(al_aom *enc) {
    if (enc == NULL)
        return;
    if (enc->opened)
        aom_codec_destroy(&enc->codec);
    free(enc);
}

/* colour = full range, primaries, transfer, matrix, as the AV1 specification numbers them in 6.4.2, which is as H.273
 * does. kbps is far above what any q gives, so that q alone decides. NULL with a reason in `error` when libaom refuses
 * a setting. */
static al_aom *al_aom_open(int width, int height, int threads, int kbps, const char **names, const char **values,
                           int settings, const int *colour, char *error, int error_size) {
    al_aom *enc = calloc(1, sizeof(*enc));
    aom_codec_enc_cfg_t *cfg;
    int i;

    if (enc == NULL) {
        al_fail(error, error_size, "out of memory", "");
        return NULL;
    }
    cfg = &enc->cfg;
    if (aom_codec_enc_config_default(aom_codec_av1_cx(), cfg, AOM_USAGE_REALTIME) != AOM_CODEC_OK) {
        al_fail(error, error_size, "libaom has no real-time mode", "");
        goto refused;
    }
    cfg->g_w = (unsigned int)width;
    cfg->g_h = (unsigned int)height;
    cfg->g_threads = (unsigned int)threads;
    cfg->g_timebase.num = 1;
    cfg->g_timebase.den = 30;
    cfg->g_lag_in_frames = 0;
    cfg->g_error_resilient = 0;
    cfg->kf_mode = AOM_KF_DISABLED;
    cfg->fwd_kf_enabled = 0;
    cfg->rc_end_usage = AOM_CBR;
    cfg->rc_target_bitrate = (unsigned int)kbps;
    cfg->rc_dropframe_thresh = 0;
    if (aom_codec_enc_init(&enc->codec, aom_codec_av1_cx(), cfg, AOM_CODEC_USE_PSNR) != AOM_CODEC_OK) {
        al_fail(error, error_size, "libaom would not open", "");
        goto refused;
    }
    enc->opened = 1;
    for (i = 0; i < settings; i++) {
        if (aom_codec_set_option(&enc->codec, names[i], values[i]) != AOM_CODEC_OK) {
            al_fail(error, error_size, "setting refused: ", names[i]);
            goto refused;
        }
    }
    if (aom_codec_control(&enc->codec, AV1E_SET_COLOR_RANGE, colour[0]) != AOM_CODEC_OK ||
        aom_codec_control(&enc->codec, AV1E_SET_COLOR_PRIMARIES, colour[1]) != AOM_CODEC_OK ||
        aom_codec_control(&enc->codec, AV1E_SET_TRANSFER_CHARACTERISTICS, colour[2]) != AOM_CODEC_OK ||
        aom_codec_control(&enc->codec, AV1E_SET_MATRIX_COEFFICIENTS, colour[3]) != AOM_CODEC_OK) {
        al_fail(error, error_size, "colour refused", "");
        goto refused;
    }
    return enc;
refused:
    al_aom_close(enc);
    return NULL;
}

static int al_aom_set_q(al_aom *enc, unsigned int q) {
    if (enc->cfg.rc_min_quantizer == q && enc->cfg.rc_max_quantizer == q)
        return 0;
    enc->cfg.rc_min_quantizer = enc->cfg.rc_max_quantizer = q;
    return aom_codec_enc_config_set(&enc->codec, &enc->cfg) == AOM_CODEC_OK ? 0 : -1;
}

/* One picture in, its temporal unit out, with a delimiter in front. Returns 0, or -1 when nothing, or more than one
 * thing, came out. */
static int al_aom_encode(al_aom *enc, const uint8_t *y, int y_stride, const uint8_t *u, int u_stride, const uint8_t *v,
                         int v_stride, unsigned int q, int key, al_aom_frame *out) {
    aom_image_t *picture = &enc->picture;
    const aom_codec_cx_pkt_t *packet;
    aom_codec_iter_t iter = NULL;

    out->size = 0;
    out->psnr = 0;
    if (al_aom_set_q(enc, q) != 0)
        return -1;
    if (aom_img_wrap(picture, AOM_IMG_FMT_I420, enc->cfg.g_w, enc->cfg.g_h, 1, (unsigned char *)y) == NULL)
        return -1;
    picture->planes[AOM_PLANE_Y] = (unsigned char *)y;
    picture->planes[AOM_PLANE_U] = (unsigned char *)u;
    picture->planes[AOM_PLANE_V] = (unsigned char *)v;
    picture->stride[AOM_PLANE_Y] = y_stride;
    picture->stride[AOM_PLANE_U] = u_stride;
    picture->stride[AOM_PLANE_V] = v_stride;
    if (aom_codec_encode(&enc->codec, picture, enc->pts++, 1, key ? AOM_EFLAG_FORCE_KF : 0) != AOM_CODEC_OK)
        return -1;
    while ((packet = aom_codec_get_cx_data(&enc->codec, &iter)) != NULL) {
        if (packet->kind == AOM_CODEC_CX_FRAME_PKT) {
            if (out->size != 0)
                return -1;
            out->data = packet->data.frame.buf;
            out->size = packet->data.frame.sz;
            out->key = (packet->data.frame.flags & AOM_FRAME_IS_KEY) != 0;
        } else if (packet->kind == AOM_CODEC_PSNR_PKT) {
            out->psnr = packet->data.psnr.psnr[0];
        }
    }
    if (out->size == 0 || aom_codec_control(&enc->codec, AOME_GET_LAST_QUANTIZER_64, &out->q) != AOM_CODEC_OK)
        return -1;
    return 0;
}
