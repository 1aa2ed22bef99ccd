/* Kernels of parts.py: what a step of ReSSFormer does beside its products, each in one pass over the tokens. */
#include "rows.h"

/* Router of moe.py. logits [T, E] -> probs [T, E], the e best experts and their gates [T, e] (gates sum to 1 where e > 1),
   lse [T], and sums [2 E + 2]: weights of the tokens sent to each expert, probability of each expert, squared lse, total
   weight. mask [T] or NULL: tokens that count. */
void route_forward(const float *logits, const uint8_t *mask, int64_t T, int64_t E, int64_t e, float *probs, float *gate,
                   int64_t *expert, float *lse, float *sums) {
  for (int64_t i = 0; i < 2 * E + 2; i++) sums[i] = 0.0f;
  for (int64_t t = 0; t < T; t++, logits += E, probs += E, gate += e, expert += e) {
    float top = row_max(logits, E), total = 0.0f, chosen = 0.0f, weight = mask && !mask[t] ? 0.0f : 1.0f;
    for (int64_t i = 0; i < E; i++) {
      probs[i] = expf(logits[i] - top);
      total += probs[i];
    }
    for (int64_t i = 0; i < E; i++) probs[i] /= total;
    lse[t] = top + logf(total);
    for (int64_t j = 0; j < e; j++) {
      int64_t best = -1;
      for (int64_t i = 0; i < E; i++) {
        int taken = 0;
        for (int64_t before = 0; before < j; before++) taken |= expert[before] == i;
        if (!taken && (best < 0 || probs[i] > probs[best])) best = i;
      }
      expert[j] = best;
      gate[j] = probs[best];
      chosen += probs[best];
      sums[best] += weight;
    }
    if (e > 1)
      for (int64_t j = 0; j < e; j++) gate[j] /= chosen;
    for (int64_t i = 0; i < E; i++) sums[E + i] += weight * probs[i];
    sums[2 * E] += weight * lse[t] * lse[t];
    sums[2 * E + 1] += weight;
  }
}

/* dlogits [T, E] of the gates' gradient g [T, e], of dmean [E], the gradient of each expert's weighted sum of
   probabilities, and of dsquare, that of the sum of squared lse. */
void route_backward(const float *probs, const float *gate, const int64_t *expert, const float *lse, const uint8_t *mask,
                    const float *g, const float *dmean, float dsquare, int64_t T, int64_t E, int64_t e, float *dlogits) {
  for (int64_t t = 0; t < T; t++, probs += E, gate += e, expert += e, g += e, dlogits += E) {
    float weight = mask && !mask[t] ? 0.0f : 1.0f, inner = 0.0f, along = 0.0f, chosen = 1.0f;
    for (int64_t i = 0; i < E; i++) dlogits[i] = weight * dmean[i];
    if (e > 1) {
      chosen = 0.0f;
      for (int64_t j = 0; j < e; j++) {
        chosen += probs[expert[j]];
        along += g[j] * gate[j];
      }
    }
    for (int64_t j = 0; j < e; j++) dlogits[expert[j]] += (g[j] - along) / chosen;
    for (int64_t i = 0; i < E; i++) inner += probs[i] * dlogits[i];
    float square = 2.0f * weight * lse[t] * dsquare;
    for (int64_t i = 0; i < E; i++) dlogits[i] = probs[i] * (dlogits[i] - inner + square);
  }
}

/* Graphs of graph.py: rows of k ascending indices (n = none) and weights, now and before. same [R, k]: weight before on
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
