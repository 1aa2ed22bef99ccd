/* Row kernels of entmax.py: one row at a time stays in the first-level cache, where PyTorch makes ~25 passes.
   R rows of L floats; p may be z, and dz may be g. */
#include "rows.h"

void entmax15_forward(const float *z, float *p, int64_t R, int64_t L) {
  for (int64_t row = 0; row < R; row++, z += L, p += L) entmax15_row(z, p, L);
}

void sparsemax_forward(const float *z, float *p, int64_t R, int64_t L) {
  for (int64_t row = 0; row < R; row++, z += L, p += L) sparsemax_row(z, p, L);
}

void entmax15_backward(const float *p, const float *g, float *dz, int64_t R, int64_t L) {
  for (int64_t row = 0; row < R; row++, p += L, g += L, dz += L) entmax15_row_backward(p, g, dz, L);
}

void sparsemax_backward(const float *p, const float *g, float *dz, int64_t R, int64_t L) {
  for (int64_t row = 0; row < R; row++, p += L, g += L, dz += L) sparsemax_row_backward(p, g, dz, L);
}
