//go:build cgo

#include "kernel.h"

#include <math.h>
#include <stdlib.h> // __GLIBC__
#include <string.h>

#if defined(__SSE__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// Contracting a*b+c into one operation would round differently from the Go
// twins, and differently on each instruction set. GCC does not where it is
// told to follow a C standard; Clang is told here.
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

// The same for flags from the environment that reorder additions.
#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__)
#error "build without -ffast-math: sums must have the order of the Go twins"
#endif

// The dynamic linker picks among a function's versions, which glibc can do.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define VERSIONS __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define VERSIONS
#endif

// The number of weights that a step is computed for at a time.
enum { tile = 512 };

// roots replaces x by its square roots. The compiler keeps sqrtf out of
// vectors because of errno.
static inline void roots(float *x) {
#if defined(__SSE__)
	for (size_t i = 0; i < tile; i += 4) _mm_storeu_ps(x + i, _mm_sqrt_ps(_mm_loadu_ps(x + i)));
#elif defined(__aarch64__)
	for (size_t i = 0; i < tile; i += 4) vst1q_f32(x + i, vsqrtq_f32(vld1q_f32(x + i)));
#else
	for (size_t i = 0; i < tile; i++) x[i] = sqrtf(x[i]);
#endif
}

VERSIONS void kernel_adamw(float *restrict w, const float *restrict g, float *restrict m, float *restrict v, size_t n,
                           const kernel_adamw_params *p) {
	const kernel_adamw_params c = *p;
	float root[tile] = {0};
	for (size_t done = 0; done < n; done += tile) {
		size_t part = n - done < tile ? n - done : tile;
		for (size_t i = 0; i < part; i++) {
			float gi = g[i] * c.grad_scale;
			float vi = v[i] * c.beta2 + (c.rest2 * gi) * gi;
			m[i] = m[i] + c.lerp1 * (gi - m[i]);
			v[i] = vi;
			root[i] = vi;
		}
		roots(root);
		for (size_t i = 0; i < part; i++)
			w[i] = w[i] * c.decay + (c.step_size * m[i]) / (root[i] / c.root2 + c.eps);
		w += part, g += part, m += part, v += part;
	}
}

VERSIONS double kernel_sum_squares(const float *x, size_t n) {
	double lane[kernel_lanes] = {0};
	size_t i = 0;
	for (; i + kernel_lanes <= n; i += kernel_lanes)
		for (size_t j = 0; j < kernel_lanes; j++) lane[j] += (double)x[i + j] * (double)x[i + j];
	for (size_t j = 0; i + j < n; j++) lane[j] += (double)x[i + j] * (double)x[i + j];
	for (size_t half = kernel_lanes / 2; half > 0; half /= 2)
		for (size_t j = 0; j < half; j++) lane[j] += lane[j + half];
	return lane[0];
}

VERSIONS void kernel_scale(float *x, size_t n, float a) {
	for (size_t i = 0; i < n; i++) x[i] *= a;
}

VERSIONS void kernel_add_scaled(float *restrict dst, const float *restrict x, size_t n, float a) {
	for (size_t i = 0; i < n; i++) dst[i] += a * x[i];
}

VERSIONS void kernel_add_rows(float *restrict table, size_t width, const int64_t *restrict rows, size_t n,
                              const float *restrict x, float a) {
	for (size_t r = 0; r < n; r++) {
		float *restrict to = table + (size_t)rows[r] * width;
		const float *restrict from = x + r * width;
		for (size_t i = 0; i < width; i++) to[i] += a * from[i];
	}
}

// The number of blocks that the dropout loop computes side by side; fewer
// would have the compiler unroll the loops instead of using vectors.
enum { width = 64 };

static inline uint32_t high(uint32_t a, uint32_t b) { return (uint32_t)(((uint64_t)a * b) >> 32); }

VERSIONS void kernel_dropout(float *dst, size_t blocks, uint64_t seed, uint64_t stream, uint64_t block,
                             uint32_t threshold, float keep) {
	for (size_t done = 0; done < blocks; done += width) {
		uint32_t x0[width], x1[width], x2[width], x3[width];
		for (size_t j = 0; j < width; j++) {
			uint64_t count = block + done + j;
			x0[j] = (uint32_t)count;
			x1[j] = (uint32_t)(count >> 32);
			x2[j] = (uint32_t)stream;
			x3[j] = (uint32_t)(stream >> 32);
		}
		uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
		for (int round = 0; round < 10; round++) {
			for (size_t j = 0; j < width; j++) {
				uint32_t high0 = high(0xD2511F53, x0[j]), low0 = 0xD2511F53 * x0[j];
				uint32_t high1 = high(0xCD9E8D57, x2[j]), low1 = 0xCD9E8D57 * x2[j];
				x0[j] = high1 ^ x1[j] ^ k0;
				x1[j] = low1;
				x2[j] = high0 ^ x3[j] ^ k1;
				x3[j] = low0;
			}
			k0 += 0x9E3779B9;
			k1 += 0xBB67AE85;
		}
		float mask[4 * width];
		for (size_t j = 0; j < width; j++) {
			mask[4 * j] = x0[j] >= threshold ? keep : 0;
			mask[4 * j + 1] = x1[j] >= threshold ? keep : 0;
			mask[4 * j + 2] = x2[j] >= threshold ? keep : 0;
			mask[4 * j + 3] = x3[j] >= threshold ? keep : 0;
		}
		size_t left = blocks - done < width ? blocks - done : width;
		memcpy(dst + 4 * done, mask, 4 * left * sizeof *mask);
	}
}
