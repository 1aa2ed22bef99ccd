/* Kernels of graph_change.py: the graphs of graph.py, compared in one pass over the rows. */
#include <stdint.h>

/* Graphs: rows of k ascending indices (n = none) and weights, now and before. same [R, k]: weight before on
   the edge, else 0; back [R, k]: weight now on each edge of before. sums: squared change, shared edges, union. */
void change_forward(const int64_t *idx, const float *w, const int64_t *idx0, const float *w0, const uint8_t *mask,
                    int64_t R, int64_t k, int64_t n, float *same, float *back, double *sums) {
  sums[0] = sums[1] = sums[2] = 0.0;
  for (int64_t row = 0; row < R; row++, idx += k, w += k, idx0 += k, w0 += k, same += k, back += k) {
    int64_t at = 0, both = 0, now = 0, before = 0;
    float squared = 0.0f;
    for (int64_t j = 0; j < k; j++) same[j] = back[j] = 0.0f;
    for (int64_t j = 0; j < k; j++) before += idx0[j] < n;
    for (int64_t j = 0; j < k && idx[j] < n; j++) {
      now++;
      while (at < before && idx0[at] < idx[j]) at++;
      if (at < before && idx0[at] == idx[j]) {
        both++;
        same[j] = w0[at];
        back[at] = w[j];
      }
    }
    if (mask && !mask[row]) continue;
    for (int64_t j = 0; j < k; j++) squared += w[j] * (w[j] - same[j]) + w0[j] * (w0[j] - back[j]);
    sums[0] += squared;
    sums[1] += (double)both;
    sums[2] += (double)(now + before - both);
  }
}

/* dw = 2 g (w - same), dw0 = 2 g (w0 - back) in rows that count. */
void change_backward(const float *w, const float *w0, const float *same, const float *back, const uint8_t *mask,
                     float g, int64_t R, int64_t k, float *dw, float *dw0) {
  for (int64_t row = 0; row < R; row++)
    for (int64_t j = row * k; j < (row + 1) * k; j++) {
      float by = mask && !mask[row] ? 0.0f : 2.0f * g;
      dw[j] = by * (w[j] - same[j]);
      dw0[j] = by * (w0[j] - back[j]);
    }
}
