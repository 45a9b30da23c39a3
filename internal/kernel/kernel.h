// The loops of kernel.c. The Go twins of the same names tell what they do.
#ifndef GALLEY_KERNEL_H
#define GALLEY_KERNEL_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
	float decay;      // 1 - lr * weight decay
	float grad_scale; // the gradient's factor
	float lerp1;      // 1 - beta1
	float beta2;      // beta2
	float rest2;      // 1 - beta2
	float root2;      // sqrt(1 - beta2^step)
	float eps;        // epsilon
	float step_size;  // -lr / (1 - beta1^step)
} kernel_adamw_params;

// The number of sums that sum_squares keeps side by side.
enum { kernel_lanes = 32 };

void kernel_adamw(float *w, const float *g, float *m, float *v, size_t n, const kernel_adamw_params *p);
double kernel_sum_squares(const float *x, size_t n);
void kernel_scale(float *x, size_t n, float a);
void kernel_add_scaled(float *dst, const float *x, size_t n, float a);
void kernel_add_rows(float *table, size_t width, const int64_t *rows, size_t n, const float *x, float a);
void kernel_dropout(float *dst, size_t blocks, uint64_t seed, uint64_t stream, uint64_t block, uint32_t threshold,
                    float keep);

#endif
