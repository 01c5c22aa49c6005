/* Which parts of a picture are likely to stay as they are, and how much finer they deserve to be coded for it: what is
 * coded well once is then skipped for as long as it stays. x264's macroblock tree learns that from pictures to come;
 * a live stream has none, so it is guessed from those before. Used by the encoders that take a quantiser for each
 * macroblock. */
#ifndef AL_STILL_H
#define AL_STILL_H
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define AL_STILL_BLOCK 16
#define AL_STILL_MEMORY 8      /* pictures that the share of unchanged ones is an average of */
#define AL_STILL_LONGEST 16.0f /* pictures that a part is thought to stay at most; bounds the offsets */

typedef struct al_still {
    int width, height;   /* of the picture */
    int columns, rows;   /* of macroblocks */
    float *share;        /* of the last pictures that left a block as it was, 0..1 */
    float *offset;       /* steps of QP, their mean 0 */
} al_still;

static void al_still_close(al_still *still) {
    free(still->share);
    free(still->offset);
    still->share = still->offset = NULL;
}

/* Returns 0, or -1 without memory. */
static int al_still_open(al_still *still, int width, int height) {
    size_t blocks;

    still->width = width;
    still->height = height;
    still->columns = (width + AL_STILL_BLOCK - 1) / AL_STILL_BLOCK;
    still->rows = (height + AL_STILL_BLOCK - 1) / AL_STILL_BLOCK;
    blocks = (size_t)still->columns * (size_t)still->rows;
    still->share = calloc(blocks, sizeof(float));
    still->offset = calloc(blocks, sizeof(float));
    return still->share != NULL && still->offset != NULL ? 0 : -1;
}

/* Whether a block's luma is the same in both pictures: a sender that skips a block repeats it bit by bit. */
static int al_still_same(const uint8_t *a, int a_stride, const uint8_t *b, int b_stride, int width, int height) {
    int row;

    for (row = 0; row < height; row++)
        if (memcmp(a + (ptrdiff_t)row * a_stride, b + (ptrdiff_t)row * b_stride, (size_t)width) != 0)
            return 0;
    return 1;
}

/* Offsets for the picture `y`, which came after `before`: -strength for each doubling of the pictures that a block is
 * thought to stay, then all moved so that their mean is 0. Valid until the next call. */
static const float *al_still_follow(al_still *still, const uint8_t *y, int y_stride, const uint8_t *before,
                                    int before_stride, float strength) {
    float sum = 0;
    int row, column, blocks = still->columns * still->rows, i = 0;

    for (row = 0; row < still->rows; row++) {
        int top = row * AL_STILL_BLOCK;
        int height = still->height - top < AL_STILL_BLOCK ? still->height - top : AL_STILL_BLOCK;
        for (column = 0; column < still->columns; column++, i++) {
            int left = column * AL_STILL_BLOCK;
            int width = still->width - left < AL_STILL_BLOCK ? still->width - left : AL_STILL_BLOCK;
            int same = al_still_same(y + (ptrdiff_t)top * y_stride + left, y_stride,
                                     before + (ptrdiff_t)top * before_stride + left, before_stride, width, height);
            still->share[i] += ((float)same - still->share[i]) / AL_STILL_MEMORY;
            still->offset[i] = strength * log2f(1 - still->share[i] * (1 - 1 / AL_STILL_LONGEST));
            sum += still->offset[i];
        }
    }
    for (i = 0; i < blocks; i++)
        still->offset[i] -= sum / (float)blocks;
    return still->offset;
}
#endif
