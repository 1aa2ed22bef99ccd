/* Row kernels of entmax.py: one row at a time stays in the first-level cache, where PyTorch makes ~25 passes.
   R rows of L floats; -inf is a masked entry; a row without entries gives zeros; NaN spreads over its row. */
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

/* Newton from below on ||relu(z - top - tau)||_2 = 2. */
static inline float entmax15_threshold(const float *z, int64_t L, float top) {
  float tau = -2.0f;
  for (int step = 0; step < 64; step++) {
    float s1 = 0.0f, s2 = 0.0f;
    for (int64_t i = 0; i < L; i++) {
      float r = positive((z[i] - top) - tau);
      s1 += r;
      s2 += r * r;
    }
    float norm = sqrtf(s2), d = (norm - 2.0f) * norm / s1;
    if (d > 0.0f) tau += d;
    if (!(d >= 2e-4f)) return d == d ? tau : d;
  }
  return tau;
}

/* Newton from below on sum relu(z - top - tau) = 1. */
static inline float sparsemax_threshold(const float *z, int64_t L, float top) {
  float tau = -1.0f;
  for (int step = 0; step < 64; step++) {
    float s = 0.0f;
    int32_t count = 0;
    for (int64_t i = 0; i < L; i++) {
      float r = positive((z[i] - top) - tau);
      s += r;
      count += r > 0.0f;
    }
    float d = (s - 1.0f) / (float)count;
    if (d > 0.0f) tau += d;
    if (!(d >= 1e-6f)) return s == s ? tau : s;
  }
  return tau;
}

/* p may be z. tau (R floats, or NULL) receives the threshold in units of z, 0 for empty rows. */
void entmax15_forward(const float *z, float *p, float *tau, int64_t R, int64_t L) {
  for (int64_t row = 0; row < R; row++, z += L, p += L) {
    float top = row_max(z, L), t = 0.0f, s = 0.0f;
    if (top == -INFINITY) {
      memset(p, 0, L * sizeof(float));
    } else {
      t = entmax15_threshold(z, L, top);
      for (int64_t i = 0; i < L; i++) {
        float r = positive((z[i] - top) - t);
        p[i] = r * r;
        s += r * r;
      }
      s = 1.0f / s;
      for (int64_t i = 0; i < L; i++) p[i] *= s;
      t += top;
    }
    if (tau) tau[row] = t;
  }
}

void sparsemax_forward(const float *z, float *p, float *tau, int64_t R, int64_t L) {
  for (int64_t row = 0; row < R; row++, z += L, p += L) {
    float top = row_max(z, L), t = 0.0f;
    if (top == -INFINITY) {
      memset(p, 0, L * sizeof(float));
    } else {
      t = sparsemax_threshold(z, L, top);
      for (int64_t i = 0; i < L; i++) p[i] = positive((z[i] - top) - t);
      t += top;
    }
    if (tau) tau[row] = t;
  }
}

/* dz = s * (g - <s, g> / sum s), s = sqrt(p); dz may be g. */
void entmax15_backward(const float *p, const float *g, float *dz, int64_t R, int64_t L) {
  for (int64_t row = 0; row < R; row++, p += L, g += L, dz += L) {
    float total = 0.0f, inner = 0.0f;
    for (int64_t i = 0; i < L; i++) {
      float s = sqrtf(p[i]);
      total += s;
      inner += s * g[i];
    }
    float q = inner / (total < TINY ? TINY : total);
    for (int64_t i = 0; i < L; i++) dz[i] = sqrtf(p[i]) * (g[i] - q);
  }
}

/* The same with s = (p > 0). */
void sparsemax_backward(const float *p, const float *g, float *dz, int64_t R, int64_t L) {
  for (int64_t row = 0; row < R; row++, p += L, g += L, dz += L) {
    float total = 0.0f, inner = 0.0f;
    for (int64_t i = 0; i < L; i++) {
      float s = p[i] > 0.0f ? 1.0f : 0.0f;
      total += s;
      inner += s * g[i];
    }
    float q = inner / (total < TINY ? TINY : total);
    for (int64_t i = 0; i < L; i++) dz[i] = p[i] > 0.0f ? g[i] - q : 0.0f;
  }
}
