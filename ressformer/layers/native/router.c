/* Kernels of router.py: the router of moe.py in one pass over the tokens. */
#include "rows.h"

/* logits [T, E] -> probs [T, E], the e best experts and their gates [T, e] (gates sum to 1 where e > 1),
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
