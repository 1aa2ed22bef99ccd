/* Kernels of attention.py: attention of each token to its own list of keys, one pass over the rows, forward and backward.
   Columns of a token i: K selected keys (idx; n = none), the cache (i - first_age - 0, 1, ...), then the slots of the
   segment that it may read. Scores are padded to C, whole vectors; padding and absent columns are -inf. A column of
   weight 0 is skipped: after a sparse activation most are.

   qkv [B, n, 3d], slots [B, S, 2d] (keys, values), ea and eb [B, n, r] (factors of the edges), age [H, W], mask [B, n],
   y [B, n, d], p [B, n, H, C], w [B, n, K] (the graph). */
#include <stdlib.h>
#include "rows.h"

#define INLINE static inline __attribute__((always_inline))

typedef struct {
  int64_t n, H, h, K, W, first_age, M, segment, causal, S, r, C, kind, graph;
  float scale;
} Sizes;

enum { SOFTMAX, SPARSEMAX, ENTMAX15 };
enum { NO_GRAPH, EDGE_GRAPH, ATTENTION_GRAPH };

INLINE float dot(const float *x, const float *y, int64_t h) {
  float s = 0.0f;
  for (int64_t e = 0; e < h; e++) s += x[e] * y[e];
  return s;
}

INLINE void add(float *y, float a, const float *x, int64_t h) {
  for (int64_t e = 0; e < h; e++) y[e] += a * x[e];
}

static void row_forward(float *z, int64_t L, int64_t kind) {
  L &= ~15;
  if (kind == ENTMAX15)
    entmax15_row(z, z, L);
  else if (kind == SPARSEMAX)
    sparsemax_row(z, z, L);
  else
    softmax_row(z, z, L);
}

static void row_backward(const float *p, float *g, int64_t L, int64_t kind) {
  L &= ~15;
  if (kind == ENTMAX15)
    entmax15_row_backward(p, g, g, L);
  else if (kind == SPARSEMAX)
    sparsemax_row_backward(p, g, g, L);
  else
    softmax_row_backward(p, g, g, L);
}

/* The columns of token i: below n a token, n + t slot t, -1 none. Returns how many there are. */
static int64_t list(const Sizes *s, int64_t i, const int64_t *idx, const uint8_t *mask, int64_t *col) {
  int64_t c = 0;
  for (int64_t j = 0; j < s->K; j++) col[c++] = idx[j] < s->n ? idx[j] : -1;
  for (int64_t a = 0; a < s->W; a++) {
    int64_t j = i - s->first_age - a;
    col[c++] = j >= 0 && j < s->n && (!mask || mask[j]) ? j : -1;
  }
  for (int64_t t = 0; t < s->M; t++) {
    int64_t group = s->causal ? i / s->segment : 0;
    col[c++] = s->causal && i < s->segment ? -1 : s->n + group * s->M + t;
  }
  return c;
}

/* Key (part 0) or value (part 1) of a column. */
INLINE const float *row_of(const Sizes *s, const float *qkv, const float *slots, int64_t col, int64_t part) {
  int64_t d = s->H * s->h;
  return col < s->n ? qkv + col * 3 * d + (1 + part) * d : slots + (col - s->n) * 2 * d + part * d;
}

INLINE void forward_rows(const Sizes *s, const float *qkv, const float *slots, const float *ea, const float *eb, const float *age,
                         const int64_t *idx, const uint8_t *mask, float *y, float *p, float *w, const int64_t h) {
  const int64_t n = s->n, H = s->H, d = H * h, C = s->C, ours = s->K + s->W, Kp = (s->K + 15) / 16 * 16;
  int64_t *col = malloc(C * sizeof(int64_t));
  float *e = malloc(C * sizeof(float)), *graph = malloc(Kp * sizeof(float));
  for (int64_t i = 0; i < n; i++, idx += s->K, y += d, p += H * C, w += s->K) {
    int64_t c = list(s, i, idx, mask, col);
    const float *q = qkv + i * 3 * d;
    for (int64_t j = 0; j < c; j++) {
      if (col[j] < 0) {
        for (int64_t head = 0; head < H; head++) p[head * C + j] = -INFINITY;
        continue;
      }
      const float *key = row_of(s, qkv, slots, col[j], 0);
      e[j] = s->r && j < ours ? dot(ea + i * s->r, eb + col[j] * s->r, s->r) : 0.0f;
      for (int64_t head = 0; head < H; head++) {
        float lean = j >= s->K && j < ours ? age[head * s->W + j - s->K] : 0.0f;
        p[head * C + j] = s->scale * dot(q + head * h, key + head * h, h) + (e[j] + lean);
      }
    }
    for (int64_t head = 0; head < H; head++) {
      float *row = p + head * C;
      for (int64_t j = c; j < C; j++) row[j] = -INFINITY;
      row_forward(row, C, s->kind);
      float *out = y + head * h;
      for (int64_t x = 0; x < h; x++) out[x] = 0.0f;
      for (int64_t j = 0; j < c; j++)
        if (row[j] != 0.0f && col[j] >= 0) add(out, row[j], row_of(s, qkv, slots, col[j], 1) + head * h, h);
    }
    if (s->graph == EDGE_GRAPH) {
      for (int64_t j = 0; j < Kp; j++) graph[j] = j < s->K && col[j] >= 0 ? e[j] : -INFINITY;
      row_forward(graph, Kp, s->kind);
      memcpy(w, graph, s->K * sizeof(float));
    } else if (s->graph == ATTENTION_GRAPH) {
      for (int64_t j = 0; j < s->K; j++) {
        float sum = 0.0f;
        for (int64_t head = 0; head < H; head++) sum += p[head * C + j];
        w[j] = sum / (float)H;
      }
    }
  }
  free(col);
  free(e);
  free(graph);
}

/* gw may be NULL. The gradients are added to: dqkv [n, 3d], dslots [S, 2d], da and db [n, r], dage [H, W]. */
INLINE void backward_rows(const Sizes *s, const float *qkv, const float *slots, const float *ea, const float *eb, const int64_t *idx,
                          const uint8_t *mask, const float *p, const float *w, const float *gy, const float *gw,
                          float *dqkv, float *dslots, float *da, float *db, float *dage, const int64_t h) {
  const int64_t n = s->n, H = s->H, d = H * h, C = s->C, ours = s->K + s->W, r = s->r, Kp = (s->K + 15) / 16 * 16;
  int64_t *col = malloc(C * sizeof(int64_t));
  float *g = malloc(C * sizeof(float)), *de = malloc(C * sizeof(float)), *pw = malloc(Kp * sizeof(float));
  for (int64_t i = 0; i < n; i++, idx += s->K, gy += d, p += H * C, w += s->K) {
    int64_t c = list(s, i, idx, mask, col);
    const float *q = qkv + i * 3 * d;
    float *dq = dqkv + i * 3 * d;
    for (int64_t j = 0; j < C; j++) de[j] = 0.0f;
    for (int64_t head = 0; head < H; head++) {
      const float *row = p + head * C, *grad = gy + head * h;
      for (int64_t j = 0; j < C; j++) g[j] = 0.0f;
      for (int64_t j = 0; j < c; j++) {
        if (row[j] == 0.0f || col[j] < 0) continue;
        const float *value = row_of(s, qkv, slots, col[j], 1) + head * h;
        g[j] = dot(grad, value, h);
        if (gw && s->graph == ATTENTION_GRAPH && j < s->K) g[j] += gw[i * s->K + j] / (float)H;
      }
      row_backward(row, g, C, s->kind);
      for (int64_t j = 0; j < c; j++) {
        if (row[j] == 0.0f || col[j] < 0) continue;
        int64_t at = col[j] < n ? col[j] * 3 * d + d : (col[j] - n) * 2 * d;
        float *dkey = (col[j] < n ? dqkv : dslots) + at + head * h;
        add(dkey + d, row[j], grad, h);
        add(dkey, s->scale * g[j], q + head * h, h);
        add(dq + head * h, s->scale * g[j], row_of(s, qkv, slots, col[j], 0) + head * h, h);
        de[j] += g[j];
        if (j >= s->K && j < ours) dage[head * s->W + j - s->K] += g[j];
      }
    }
    if (!r) continue;
    if (gw && s->graph == EDGE_GRAPH) {
      for (int64_t j = 0; j < Kp; j++) {
        g[j] = j < s->K ? gw[i * s->K + j] : 0.0f;
        pw[j] = j < s->K ? w[j] : 0.0f;
      }
      row_backward(pw, g, Kp, s->kind);
      for (int64_t j = 0; j < s->K; j++) de[j] += g[j];
    }
    for (int64_t j = 0; j < ours; j++) {
      if (de[j] == 0.0f || col[j] < 0) continue;
      add(da + i * r, de[j], eb + col[j] * r, r);
      add(db + col[j] * r, de[j], ea + i * r, r);
    }
  }
  free(col);
  free(g);
  free(de);
  free(pw);
}

/* Known widths of a head compile to straight vector code. */
#define BY_WIDTH(call)                                                                                                 \
  switch (s->h) {                                                                                                      \
  case 16: { call(16); break; }                                                                                        \
  case 32: { call(32); break; }                                                                                        \
  case 64: { call(64); break; }                                                                                        \
  default: { call(s->h); }                                                                                             \
  }

#define AT(x, size) ((x) ? (x) + b * (size) : (x))

void attend_forward(const Sizes *s, const float *qkv, const float *slots, const float *ea, const float *eb, const float *age,
                    const int64_t *idx, const uint8_t *mask, float *y, float *p, float *w, int64_t first, int64_t last) {
  const int64_t n = s->n, d = s->H * s->h;
  for (int64_t b = first; b < last; b++) {
#define CALL(width)                                                                                                    \
  forward_rows(s, qkv + b * n * 3 * d, AT(slots, s->S * 2 * d), AT(ea, n * s->r), AT(eb, n * s->r), age, idx + b * n * s->K,        \
               AT(mask, n), y + b * n * d, p + b * n * s->H * s->C, AT(w, n * s->K), width)
    BY_WIDTH(CALL)
#undef CALL
  }
}

/* dage [B, H, W]: a sequence's own, so that sequences can run in threads. */
void attend_backward(const Sizes *s, const float *qkv, const float *slots, const float *ea, const float *eb, const int64_t *idx,
                     const uint8_t *mask, const float *p, const float *w, const float *gy, const float *gw, float *dqkv,
                     float *dslots, float *da, float *db, float *dage, int64_t first, int64_t last) {
  const int64_t n = s->n, d = s->H * s->h;
  for (int64_t b = first; b < last; b++) {
#define CALL(width)                                                                                                    \
  backward_rows(s, qkv + b * n * 3 * d, AT(slots, s->S * 2 * d), AT(ea, n * s->r), AT(eb, n * s->r), idx + b * n * s->K,            \
                AT(mask, n), p + b * n * s->H * s->C, AT(w, n * s->K), gy + b * n * d, AT(gw, n * s->K),              \
                dqkv + b * n * 3 * d, AT(dslots, s->S * 2 * d), AT(da, n * s->r), AT(db, n * s->r), AT(dage, s->H * s->W), width)
    BY_WIDTH(CALL)
#undef CALL
  }
}
