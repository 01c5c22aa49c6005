/* One libvpx encoder, VP8 or VP9, behind four calls: open, encode, set_speed, close. Compiled by cffi (see build.py),
 * which releases the GIL around every call. Settings come in as numbers, so that they live as data in codecs/.
 * Nothing here is shared between encoders; an encoder belongs to one thread. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <vpx/vp8cx.h>
#include <vpx/vpx_encoder.h>

typedef struct al_vpx {
    vpx_codec_ctx_t codec;
    vpx_codec_enc_cfg_t config;
    vpx_image_t image;
    vpx_codec_pts_t pts;
} al_vpx;

typedef struct {
    int vp9; /* else VP8 */
    unsigned int width;
    unsigned int height;
    unsigned int threads;
    unsigned int target_kbps;
} al_vpx_settings;

typedef struct {
    int id; /* one of vp8cx.h's, of those that take an int */
    int value;
} al_vpx_control;

typedef struct {
    const uint8_t *data; /* owned by the encoder, valid until its next call */
    size_t size;
    int key;
    int q;       /* of the picture, 0..63 */
    double psnr; /* of all three planes against the picture given, dB; negative when libvpx does not say */
} al_vpx_frame;

static void al_vpx_close(al_vpx *enc) {
    if (enc == NULL)
        return;
    if (enc->codec.iface != NULL)
        vpx_codec_destroy(&enc->codec);
    free(enc);
}

/* A constant quantiser and no idea of the encoder's own: no key, no alternate reference, nothing held back or left
 * out. The quantiser is encode's argument. */
static void al_vpx_configure(vpx_codec_enc_cfg_t *config, const al_vpx_settings *settings) {
    config->g_w = settings->width;
    config->g_h = settings->height;
    config->g_threads = settings->threads;
    config->g_timebase.num = 1;
    config->g_timebase.den = 30; /* a name for the ticks we count in */
    config->g_pass = VPX_RC_ONE_PASS;
    config->g_lag_in_frames = 0;
    config->rc_end_usage = VPX_CBR;
    config->rc_target_bitrate = settings->target_kbps;
    config->rc_dropframe_thresh = 0;
    config->rc_resize_allowed = 0;
    config->kf_mode = VPX_KF_DISABLED;
}

/* NULL with a reason in `error` when libvpx refuses a setting. */
static al_vpx *al_vpx_open(const al_vpx_settings *settings, const al_vpx_control *controls, int count, char *error,
                           int error_size) {
    vpx_codec_iface_t *iface = settings->vp9 ? vpx_codec_vp9_cx() : vpx_codec_vp8_cx();
    al_vpx *enc = calloc(1, sizeof(*enc));
    int i;

    if (enc == NULL) {
        snprintf(error, (size_t)error_size, "out of memory");
        return NULL;
    }
    if (vpx_codec_enc_config_default(iface, &enc->config, 0) != VPX_CODEC_OK) {
        snprintf(error, (size_t)error_size, "libvpx has no such encoder");
        goto refused;
    }
    al_vpx_configure(&enc->config, settings);
    if (vpx_codec_enc_init(&enc->codec, iface, &enc->config, VPX_CODEC_USE_PSNR) != VPX_CODEC_OK) {
        const char *detail = vpx_codec_error_detail(&enc->codec);
        snprintf(error, (size_t)error_size, "libvpx would not open: %s",
                 detail ? detail : vpx_codec_error(&enc->codec));
        goto refused;
    }
    for (i = 0; i < count; i++) {
        if (vpx_codec_control_(&enc->codec, controls[i].id, controls[i].value) != VPX_CODEC_OK) {
            snprintf(error, (size_t)error_size, "libvpx refuses control %d", controls[i].id);
            goto refused;
        }
    }
    return enc;
refused:
    al_vpx_close(enc);
    return NULL;
}

/* The planes stay where they are; vpx_img_wrap only needs some address to lay its own idea of them out from. */
static int al_vpx_wrap(al_vpx *enc, const uint8_t *y, int y_stride, const uint8_t *u, int u_stride, const uint8_t *v,
                       int v_stride) {
    vpx_image_t *image =
        vpx_img_wrap(&enc->image, VPX_IMG_FMT_I420, enc->config.g_w, enc->config.g_h, 1, (unsigned char *)y);

    if (image == NULL)
        return -1;
    image->planes[VPX_PLANE_U] = (unsigned char *)u;
    image->planes[VPX_PLANE_V] = (unsigned char *)v;
    image->stride[VPX_PLANE_Y] = y_stride;
    image->stride[VPX_PLANE_U] = u_stride;
    image->stride[VPX_PLANE_V] = v_stride;
    return 0;
}

/* One picture in, its frame out. Returns 0, or -1 when nothing came out. */
static int al_vpx_encode(al_vpx *enc, const uint8_t *y, int y_stride, const uint8_t *u, int u_stride, const uint8_t *v,
                         int v_stride, unsigned int q, int key, al_vpx_frame *out) {
    const vpx_codec_cx_pkt_t *packet;
    vpx_codec_iter_t iter = NULL;

    if (al_vpx_wrap(enc, y, y_stride, u, u_stride, v, v_stride) != 0)
        return -1;
    if (q != enc->config.rc_min_quantizer || q != enc->config.rc_max_quantizer) {
        enc->config.rc_min_quantizer = enc->config.rc_max_quantizer = q;
        if (vpx_codec_enc_config_set(&enc->codec, &enc->config) != VPX_CODEC_OK)
            return -1;
    }
    if (vpx_codec_encode(&enc->codec, &enc->image, enc->pts++, 1, key ? VPX_EFLAG_FORCE_KF : 0, VPX_DL_REALTIME) !=
        VPX_CODEC_OK)
        return -1;
    out->data = NULL;
    out->psnr = -1;
    out->q = (int)q;
    while ((packet = vpx_codec_get_cx_data(&enc->codec, &iter)) != NULL) {
        if (packet->kind == VPX_CODEC_CX_FRAME_PKT) {
            out->data = packet->data.frame.buf;
            out->size = packet->data.frame.sz;
            out->key = (packet->data.frame.flags & VPX_FRAME_IS_KEY) != 0;
        } else if (packet->kind == VPX_CODEC_PSNR_PKT) {
            out->psnr = packet->data.psnr.psnr[0];
        }
    }
    vpx_codec_control(&enc->codec, VP8E_GET_LAST_QUANTIZER_64, &out->q);
    return out->data == NULL || out->size == 0 ? -1 : 0;
}

/* From the next picture on. */
static int al_vpx_set_speed(al_vpx *enc, int cpu_used) {
    return vpx_codec_control(&enc->codec, VP8E_SET_CPUUSED, cpu_used);
}
