/* Kernel of topk.py: the k largest of each row in one pass. Few entries pass the bar, the k-th largest so far, so
   almost all of a row is a vector comparison. Ties go to the lower index; -inf and NaN are never chosen. */
#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define LANES 16

/* Appends the entries of score[at..at+LANES) above the bar; both buffers have room for LANES more. */
static inline int32_t push(const float *score, int32_t at, float bar, float *value, int32_t *index, int32_t count) {
#ifdef __AVX512F__
  __m512 s = _mm512_loadu_ps(score + at);
  __mmask16 above = _mm512_cmp_ps_mask(s, _mm512_set1_ps(bar), _CMP_GT_OQ);
  if (!above) return count;
  const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  _mm512_storeu_ps(value + count, _mm512_maskz_compress_ps(above, s));
  _mm512_storeu_si512(index + count, _mm512_maskz_compress_epi32(above, _mm512_add_epi32(lanes, _mm512_set1_epi32(at))));
  return count + __builtin_popcount(above);
#else
  int any = 0;
  for (int i = 0; i < LANES; i++) any |= score[at + i] > bar;
  if (!any) return count;
  for (int i = 0; i < LANES; i++)
    if (score[at + i] > bar) {
      value[count] = score[at + i];
      index[count++] = at + i;
    }
  return count;
#endif
}

/* k-th largest of v[0..count), 1 <= k <= count: its bits from the top, each by one count over the order-keeping integers. */
static float kth_largest(const float *v, uint32_t *key, int32_t count, int32_t k) {
  for (int32_t i = 0; i < count; i++) {
    uint32_t u;
    memcpy(&u, v + i, 4);
    if (u == 0x80000000u) u = 0; /* -0 equals 0 */
    key[i] = u & 0x80000000u ? ~u : u | 0x80000000u;
  }
  uint32_t found = 0;
  for (int bit = 31; bit >= 0; bit--) {
    uint32_t tried = found | 1u << bit;
    int32_t above = 0;
    for (int32_t i = 0; i < count; i++) above += key[i] >= tried;
    if (above >= k) found = tried;
  }
  found = found & 0x80000000u ? found & 0x7fffffffu : ~found;
  float bar;
  memcpy(&bar, &found, 4);
  return bar;
}

/* Keeps the k largest of `count` candidates in their order; returns the smallest of them. */
static float prune(float *value, int32_t *index, uint32_t *key, int32_t count, int32_t k) {
  float bar = kth_largest(value, key, count, k);
  int32_t level = k, kept = 0;
  for (int32_t i = 0; i < count; i++) level -= value[i] > bar;
  for (int32_t i = 0; i < count; i++) {
    int equal = value[i] == bar && level > 0, keep = value[i] > bar || equal;
    level -= equal;
    value[kept] = value[i];
    index[kept] = index[i];
    kept += keep;
  }
  return bar;
}

/* out [R, k]: ascending indices of each row's k largest, E where a row has fewer. value, key and index hold
   4 k + 6 LANES numbers of 4 bytes. */
void select_rows(const float *score, int64_t R, int64_t E, int64_t k, int64_t *out, float *value, uint32_t *key,
                 int32_t *index) {
  const int32_t full = 4 * k + 4 * LANES, whole = E - E % LANES;
  for (int64_t row = 0; row < R; row++, score += E, out += k) {
    float bar = -INFINITY;
    int32_t count = 0;
    for (int32_t at = 0; at < whole; at += LANES) {
      count = push(score, at, bar, value, index, count);
      if (count >= full) {
        bar = prune(value, index, key, count, k);
        count = k;
      }
    }
    for (int32_t i = whole; i < E; i++)
      if (score[i] > bar) {
        value[count] = score[i];
        index[count++] = i;
      }
    if (count > k) {
      prune(value, index, key, count, k);
      count = k;
    }
    for (int64_t i = 0; i < k; i++) out[i] = i < count ? index[i] : E;
  }
}

/* As key_selection.py's select_keys, for short sequences: out [B, n, k]. Rows of a and b are as and bs floats apart. turned
   holds r whole rows of scores, score one; near = 0 keeps the query itself. mask [B, n] or NULL. */
void select_short(const float *a, int64_t as, const float *b, int64_t bs, const uint8_t *mask, int64_t B, int64_t n,
                  int64_t r, int64_t k, int64_t near, int64_t causal, int64_t *out, float *turned, float *score,
                  float *value, uint32_t *key, int32_t *index) {
  const int64_t width = (n + LANES - 1) / LANES * LANES;
  for (int64_t row = 0; row < B; row++, a += n * as, b += n * bs) {
    for (int64_t e = 0; e < r; e++)
      for (int64_t j = 0; j < width; j++) turned[e * width + j] = j < n ? b[j * bs + e] : 0.0f;
    for (int64_t i = 0; i < n; i++, out += k) {
      int64_t past = near ? i - near + 1 : i + 1, seen = causal ? (past > 0 ? past : 0) : n;
      int64_t end = (seen + LANES - 1) / LANES * LANES;
      for (int64_t at = 0; at < end; at += LANES) {
        float s[LANES] = {0};
        for (int64_t e = 0; e < r; e++)
          for (int64_t lane = 0; lane < LANES; lane++) s[lane] += a[i * as + e] * turned[e * width + at + lane];
        memcpy(score + at, s, sizeof(s));
      }
      for (int64_t j = seen; j < end; j++) score[j] = -INFINITY;
      if (!causal)
        for (int64_t j = i - near + 1 > 0 ? i - near + 1 : 0; j < n && j < i + near; j++) score[j] = -INFINITY;
      if (mask)
        for (int64_t j = 0; j < seen; j++)
          if (!mask[row * n + j]) score[j] = -INFINITY;
      if (!near) score[i] = INFINITY;
      select_rows(score, 1, end, k, out, value, key, index);
      for (int64_t j = 0; j < k; j++)
        if (out[j] >= end) out[j] = n;
    }
  }
}
