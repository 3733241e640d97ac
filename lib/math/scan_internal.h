/* scan_internal.h - the tables that need their own instruction set flags. */
#ifndef RP_MATH_SCAN_INTERNAL_H
#define RP_MATH_SCAN_INTERNAL_H

#include "math/scan.h"

#if defined(__x86_64__)
extern const rp_scan_kernels rp_scan_avx2;
extern const rp_scan_kernels rp_scan_avx512;
#elif defined(__aarch64__)
extern const rp_scan_kernels rp_scan_neon;
#endif

/* A slot that is free may be written while the sieve reads past it. What the sieve
 * then sees is thrown away, for the slot's id is still 0 (lib/index/flat.c). */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RP_SCAN_RACY __attribute__((no_sanitize("thread")))
#endif
#elif defined(__SANITIZE_THREAD__)
#define RP_SCAN_RACY __attribute__((no_sanitize("thread")))
#endif
#ifndef RP_SCAN_RACY
#define RP_SCAN_RACY
#endif

#endif
