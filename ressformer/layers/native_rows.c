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
void entmax15_forward(const float *z, float *p, int64_t R, int64_t L) {
  for (int64_t row = 0; row < R; row++, z += L, p += L) {
    float top = row_max(z, L), s = 0.0f;
    if (top == -INFINITY) {
      memset(p, 0, L * sizeof(float));
      continue;
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
}

void sparsemax_forward(const float *z, float *p, int64_t R, int64_t L) {
  for (int64_t row = 0; row < R; row++, z += L, p += L) {
    float top = row_max(z, L);
    if (top == -INFINITY) {
      memset(p, 0, L * sizeof(float));
      continue;
    }
    shift_row(z, p, top, L);
    float tau = sparsemax_threshold(p, L);
    for (int64_t i = 0; i < L; i++) p[i] = positive(p[i] - tau);
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
