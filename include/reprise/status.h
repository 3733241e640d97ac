/* status.h - how a function says that it failed, and why.
 *
 * A function that can fail returns rp_status; results leave through its last
 * parameters and are written only on success. Where a person will want more
 * than a code, the very last parameter is an rp_error (NULL is fine): one
 * sentence with the file, the number and the limit involved. Sentences never
 * hold prompts, replies or credentials.
 *
 * Threads: plain values; no shared state. */
#ifndef REPRISE_STATUS_H
#define REPRISE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define RP_NODISCARD __attribute__((warn_unused_result))
#define RP_PRINTF(format_at, values_at) __attribute__((format(printf, format_at, values_at)))
#else
#define RP_NODISCARD
#define RP_PRINTF(format_at, values_at)
#endif

typedef enum rp_status {
    RP_OK = 0,
    RP_ERR_INVALID,     /* an argument or a piece of input breaks its contract */
    RP_ERR_NOMEM,       /* no memory */
    RP_ERR_LIMIT,       /* a stated maximum would be passed */
    RP_ERR_EXISTS,      /* the id or name is in use */
    RP_ERR_NOT_FOUND,   /* something that must exist does not (a file, a model) */
    RP_ERR_IO,          /* the system refused to read, write, map or connect */
    RP_ERR_TRUNCATED,   /* the bytes end before the thing they describe does */
    RP_ERR_CORRUPT,     /* the bytes contradict themselves or their checksum */
    RP_ERR_STALE,       /* whole and undamaged, but of another time or identity */
    RP_ERR_UNSUPPORTED, /* understood, but this program cannot do it */
    RP_ERR_BUSY,        /* a bounded queue is full, or a lock is held elsewhere */
    RP_ERR_TIMEOUT,     /* a deadline passed */
    RP_ERR_CLOSED,      /* the other side has gone, or the object is shutting down */
} rp_status;

enum { RP_ERROR_SIZE = 320 };

/* The sentence about a failure. Start it as `rp_error error = {{0}}`. */
typedef struct rp_error {
    char text[RP_ERROR_SIZE]; /* always ends in a zero byte */
} rp_error;

/* The lower-case name of a code, for instance "not-found"; never NULL. */
const char *rp_status_name(rp_status status);

/* Write a sentence, cut to fit, and return `status`, so that a failing function
 * can end with `return rp_fail(error, RP_ERR_IO, "cannot open %s", path);`. */
rp_status rp_fail(rp_error *error, rp_status status, const char *format, ...) RP_PRINTF(3, 4);

#ifdef __cplusplus
}
#endif
#endif
