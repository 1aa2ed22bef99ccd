/* One row of L scores at a time: what the kernels of entmax.py and attend.py are made of.
   -inf is a masked entry; a row without entries gives zeros; NaN spreads over its row. */
#ifndef ROWS_H
#define ROWS_H
#include <math.h>
#include <stdint.h>
#include <string.h>

#define TINY 1e-30f

/* Largest entry; -inf for a row without entries, NaN for such a row with a NaN. */
static inline float row_max(const float *z, int64_t L) {
  float top = -INFINITY;
#pragma omp simd reduction(max : top)
  for (int64_t i = 0; i < L; i++) top = z[i] > top ? z[i] : top;
  if (top == -INFINITY)
    for (int64_t i = 0; i < L; i++)
      if (z[i] != z[i]) return NAN;
  return top;
}

static inline float positive(float x) { return x < 0.0f ? 0.0f : x; } /* keeps NaN */

/* d = z - top, stored: the compiler may reassociate a sum, and (z - top) - tau as z - (top + tau) loses digits. */
static inline void shift_row(const float *z, float *d, float top, int64_t L) {
  for (int64_t i = 0; i < L; i++) d[i] = z[i] - top;
}

/* Newton from below on ||relu(d - tau)||_2 = 2. */
static inline float entmax15_threshold(const float *d, int64_t L) {
  float tau = -2.0f;
  for (int step = 0; step < 64; step++) {
    float s1 = 0.0f, s2 = 0.0f;
    for (int64_t i = 0; i < L; i++) {
      float r = positive(d[i] - tau);
      s1 += r;
      s2 += r * r;
    }
    float norm = sqrtf(s2), by = (norm - 2.0f) * norm / s1;
    if (by > 0.0f) tau += by;
    if (!(by >= 2e-4f)) return by == by ? tau : by; /* what is left is the square of the last step */
  }
  return tau;
}

/* Newton from below on sum relu(d - tau) = 1: exact once the support stands. */
static inline float sparsemax_threshold(const float *d, int64_t L) {
  float tau = -1.0f;
  for (int step = 0; step < 64; step++) {
    float s = 0.0f;
    int32_t count = 0;
    for (int64_t i = 0; i < L; i++) {
      float r = positive(d[i] - tau);
      s += r;
      count += r > 0.0f;
    }
    float by = (s - 1.0f) / (float)count;
    if (by > 0.0f) tau += by;
    if (!(by >= 1e-6f)) return by == by ? tau : by;
  }
  return tau;
}

/* p may be z. */
static inline void entmax15_row(const float *z, float *p, int64_t L) {
  float top = row_max(z, L), s = 0.0f;
  if (top == -INFINITY) {
    memset(p, 0, L * sizeof(float));
    return;
  }
  shift_row(z, p, top, L);
  float tau = entmax15_threshold(p, L);
  for (int64_t i = 0; i < L; i++) {
    float r = positive(p[i] - tau);
    p[i] = r * r;
    s += r * r;
  }
  s = 1.0f / s;
  for (int64_t i = 0; i < L; i++) p[i] *= s;
}

static inline void sparsemax_row(const float *z, float *p, int64_t L) {
  float top = row_max(z, L);
  if (top == -INFINITY) {
    memset(p, 0, L * sizeof(float));
    return;
  }
  shift_row(z, p, top, L);
  float tau = sparsemax_threshold(p, L);
  for (int64_t i = 0; i < L; i++) p[i] = positive(p[i] - tau);
}

static inline void softmax_row(const float *z, float *p, int64_t L) {
  float top = row_max(z, L), s = 0.0f;
  if (top == -INFINITY) {
    memset(p, 0, L * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < L; i++) p[i] = expf(z[i] - top);
  for (int64_t i = 0; i < L; i++) s += p[i];
  s = 1.0f / s;
  for (int64_t i = 0; i < L; i++) p[i] *= s;
}

/* dz = s * (g - <s, g> / sum s), s = sqrt(p); dz may be g. */
static inline void entmax15_row_backward(const float *p, const float *g, float *dz, int64_t L) {
  float total = 0.0f, inner = 0.0f;
  for (int64_t i = 0; i < L; i++) {
    float s = sqrtf(p[i]);
    total += s;
    inner += s * g[i];
  }
  float q = inner / (total < TINY ? TINY : total);
  for (int64_t i = 0; i < L; i++) dz[i] = sqrtf(p[i]) * (g[i] - q);
}

/* The same with s = (p > 0). */
static inline void sparsemax_row_backward(const float *p, const float *g, float *dz, int64_t L) {
  float total = 0.0f, inner = 0.0f;
  for (int64_t i = 0; i < L; i++) {
    float s = p[i] > 0.0f ? 1.0f : 0.0f;
    total += s;
    inner += s * g[i];
  }
  float q = inner / (total < TINY ? TINY : total);
  for (int64_t i = 0; i < L; i++) dz[i] = p[i] > 0.0f ? g[i] - q : 0.0f;
}

/* The same with s = p. */
static inline void softmax_row_backward(const float *p, const float *g, float *dz, int64_t L) {
  float inner = 0.0f;
  for (int64_t i = 0; i < L; i++) inner += p[i] * g[i];
  for (int64_t i = 0; i < L; i++) dz[i] = p[i] * (g[i] - inner);
}

#endif
