/* One libx265 encoder behind three calls: open, encode, close. Compiled by cffi (see build.py), which releases the GIL
 * around every call. Settings come in as text pairs, so that they live as data in codecs/. Nothing here is shared
 * between encoders; an encoder belongs to one thread. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <x265.h>

typedef struct al_x265 {
    x265_encoder *handle;
    x265_param *param;
    int64_t pts;
} al_x265;

typedef struct {
    const uint8_t *data; /* owned by the encoder, valid until its next call */
    int size;
    int key;
    int qp;              /* mean quantiser of the picture, rounded */
} al_x265_frame;

static void al_fail(char *error, int error_size, const char *what, const char *name) {
    snprintf(error, (size_t)error_size, "%s%s", what, name);
}

static void al_x265_close(al_x265 *enc) {
    if (enc == NULL)
        return;
    if (enc->handle != NULL)
        x265_encoder_close(enc->handle);
    if (enc->param != NULL)
        x265_param_free(enc->param);
    free(enc);
}

/* colour = full range, primaries, transfer, matrix, as ISO/IEC 23008-2 tables E.3 to E.5 number them; 2 is "unspecified".
 * NULL with a reason in `error` when libx265 refuses a setting. */
static al_x265 *al_x265_open(int width, int height, const char *preset, const char *tune, const char **names,
                             const char **values, int settings, const int *colour, char *error, int error_size) {
    al_x265 *enc = calloc(1, sizeof(*enc));
    x265_param *p;
    int i;

    if (enc == NULL || (enc->param = x265_param_alloc()) == NULL) {
        al_fail(error, error_size, "out of memory", "");
        goto refused;
    }
    p = enc->param;
    if (x265_param_default_preset(p, preset, tune) < 0) {
        al_fail(error, error_size, "unknown preset ", preset);
        goto refused;
    }
    p->logLevel = X265_LOG_NONE;
    for (i = 0; i < settings; i++) {
        if (x265_param_parse(p, names[i], values[i]) != 0) {
            al_fail(error, error_size, "setting refused: ", names[i]);
            goto refused;
        }
    }
    p->sourceWidth = width;
    p->sourceHeight = height;
    p->internalCsp = X265_CSP_I420;
    p->vui.bEnableColorDescriptionPresentFlag = colour[1] != 2 || colour[2] != 2 || colour[3] != 2;
    p->vui.bEnableVideoSignalTypePresentFlag = colour[0] || p->vui.bEnableColorDescriptionPresentFlag;
    p->vui.videoFormat = 5; /* unspecified */
    p->vui.bEnableVideoFullRangeFlag = colour[0];
    p->vui.colorPrimaries = colour[1];
    p->vui.transferCharacteristics = colour[2];
    p->vui.matrixCoeffs = colour[3];
    if (x265_param_apply_profile(p, "main") < 0) {
        al_fail(error, error_size, "profile refused: ", "main");
        goto refused;
    }
    enc->handle = x265_encoder_open(p);
    if (enc->handle == NULL) {
        al_fail(error, error_size, "libx265 would not open", "");
        goto refused;
    }
    return enc;
refused:
    al_x265_close(enc);
    return NULL;
}

/* One picture in, its access unit out. Returns 0, or -1 when nothing came out. */
static int al_x265_encode(al_x265 *enc, const uint8_t *y, int y_stride, const uint8_t *u, int u_stride,
                          const uint8_t *v, int v_stride, int qp, int key, al_x265_frame *out) {
    x265_picture in, coded;
    x265_nal *nals = NULL;
    uint32_t count = 0, i;

    x265_picture_init(enc->param, &in);
    x265_picture_init(enc->param, &coded);
    in.bitDepth = 8;
    in.colorSpace = X265_CSP_I420;
    in.planes[0] = (void *)y;
    in.planes[1] = (void *)u;
    in.planes[2] = (void *)v;
    in.stride[0] = y_stride;
    in.stride[1] = u_stride;
    in.stride[2] = v_stride;
    in.pts = enc->pts++;
    in.sliceType = key ? X265_TYPE_IDR : X265_TYPE_P;
    in.forceqp = qp + 1; /* 0 would leave it to rate control */
    if (x265_encoder_encode(enc->handle, &nals, &count, &in, &coded) != 1 || count == 0)
        return -1;
    out->data = nals[0].payload; /* they lie in a row */
    out->size = 0;
    for (i = 0; i < count; i++)
        out->size += (int)nals[i].sizeBytes;
    out->key = coded.sliceType == X265_TYPE_IDR;
    out->qp = (int)(coded.frameData.qp + 0.5);
    return 0;
}
