/* Kernels of gather.py: products of rows with lists of rows, which are read in place. x [B, H, n, h] and y [B, H, m, h]
   have the strides xs, ys (of B, H, row; rows themselves are dense), idx [B, n, c] points at rows of y.
   A column of weight 0 is skipped: after a sparse activation most are. Items are (batch, head) pairs. */
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
#define LONGEST 256 /* widest row summed in registers and stack */

INLINE void dot_rows(const float *x, int64_t xn, const float *y, int64_t ym, const int64_t *idx, float *z, int64_t n,
                     int64_t c, const int64_t h) {
  for (int64_t i = 0; i < n; i++, x += xn, idx += c, z += c)
    for (int64_t j = 0; j < c; j++) {
      const float *row = y + idx[j] * ym;
      float s = 0.0f;
      for (int64_t e = 0; e < h; e++) s += x[e] * row[e];
      z[j] = s;
    }
}

INLINE void sum_rows(const float *p, const float *y, int64_t ym, const int64_t *idx, float *x, int64_t n, int64_t c,
                     const int64_t h) {
  float s[LONGEST];
  for (int64_t i = 0; i < n; i++, x += h, idx += c, p += c) {
    for (int64_t e = 0; e < h; e++) s[e] = 0.0f;
    for (int64_t j = 0; j < c; j++) {
      if (p[j] == 0.0f) continue;
      const float *row = y + idx[j] * ym;
      for (int64_t e = 0; e < h; e++) s[e] += p[j] * row[e];
    }
    for (int64_t e = 0; e < h; e++) x[e] = s[e];
  }
}

INLINE void scatter_rows(const float *p, const float *x, int64_t xn, const int64_t *idx, float *y, int64_t n, int64_t c,
                         const int64_t h) {
  for (int64_t i = 0; i < n; i++, x += xn, idx += c, p += c)
    for (int64_t j = 0; j < c; j++) {
      if (p[j] == 0.0f) continue;
      float *row = y + idx[j] * h;
      for (int64_t e = 0; e < h; e++) row[e] += p[j] * x[e];
    }
}

/* Known widths compile to straight vector code. */
#define BY_WIDTH(call)                                                                                                 \
  switch (h) {                                                                                                         \
  case 16: { call(16); break; }                                                                                        \
  case 32: { call(32); break; }                                                                                        \
  case 64: { call(64); break; }                                                                                        \
  default: { call(h); }                                                                                                \
  }

void column_dot(const float *x, const float *y, const int64_t *idx, float *z, int64_t first, int64_t last, int64_t H,
                int64_t n, int64_t c, int64_t h, const int64_t *xs, const int64_t *ys) {
  for (int64_t item = first; item < last; item++) {
    int64_t b = item / H, head = item % H;
    const float *xi = x + b * xs[0] + head * xs[1], *yi = y + b * ys[0] + head * ys[1];
#define CALL(w) dot_rows(xi, xs[2], yi, ys[2], idx + b * n * c, z + item * n * c, n, c, w)
    BY_WIDTH(CALL)
#undef CALL
  }
}

/* x [B, H, n, h] is contiguous and written whole. */
void column_sum(const float *p, const float *y, const int64_t *idx, float *x, int64_t first, int64_t last, int64_t H,
                int64_t n, int64_t c, int64_t h, const int64_t *ys) {
  for (int64_t item = first; item < last; item++) {
    int64_t b = item / H, head = item % H;
    const float *yi = y + b * ys[0] + head * ys[1];
#define CALL(w) sum_rows(p + item * n * c, yi, ys[2], idx + b * n * c, x + item * n * h, n, c, w)
    BY_WIDTH(CALL)
#undef CALL
  }
}

/* y [B, H, m, h] is contiguous and added to. */
void column_scatter(const float *p, const float *x, const int64_t *idx, float *y, int64_t first, int64_t last,
                    int64_t H, int64_t n, int64_t m, int64_t c, int64_t h, const int64_t *xs) {
  for (int64_t item = first; item < last; item++) {
    int64_t b = item / H, head = item % H;
    const float *xi = x + b * xs[0] + head * xs[1];
#define CALL(w) scatter_rows(p + item * n * c, xi, xs[2], idx + b * n * c, y + item * m * h, n, c, w)
    BY_WIDTH(CALL)
#undef CALL
  }
}
