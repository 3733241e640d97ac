/* test_support.h - what every unit test includes: cmocka, and memory that ends
 * at an unreadable page, so that reading or writing one byte too far crashes. */
#ifndef RP_TESTS_TEST_SUPPORT_H
#define RP_TESTS_TEST_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first. */
#include <cmocka.h>

#include "base/bytes.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* The thread sanitizer makes arithmetic some thirty times slower and finds nothing in it: a
 * test that does much of it does less there. */
#ifdef __SANITIZE_THREAD__
#define RP_TEST_SIZE(usual, under_thread_sanitizer) (under_thread_sanitizer)
#else
#define RP_TEST_SIZE(usual, under_thread_sanitizer) (usual)
#endif

/* A copy of `size` bytes whose end touches an unreadable page. Kept until the
 * process ends: tests are small. */
static inline char *
rp_test_guarded(const void *bytes, size_t size)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t body = (size + page - 1) / page * page;
    char *at = mmap(NULL, body + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(at != MAP_FAILED);
    assert_int_equal(mprotect(at + body, page, PROT_NONE), 0);
    char *copy = at + body - size;
    if (size)
        memcpy(copy, bytes, size);
    return copy;
}

/* The folder with development data, or NULL; a test that needs it says skipped. */
static inline const char *
rp_test_data(void)
{
    const char *folder = getenv("REPRISE_DATA");
    return folder && *folder ? folder : NULL;
}

/* The folder with the real encoder (all-MiniLM-L6-v2), or NULL. */
static inline const char *
rp_test_model(void)
{
    const char *folder = getenv("REPRISE_TEST_MODEL");
    return folder && *folder ? folder : NULL;
}

#define assert_str_equal(actual, expected)                                                         \
    do {                                                                                           \
        const rp_str actual_ = (actual), expected_ = (expected);                                   \
        if (!rp_str_equal(actual_, expected_))                                                     \
            print_error("got \"%.*s\", want \"%.*s\"\n", RP_FMT(actual_), RP_FMT(expected_));       \
        assert_true(rp_str_equal(actual_, expected_));                                             \
    } while (0)

#endif
