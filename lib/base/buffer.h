/* buffer.h - bytes that grow.
 *
 * Appending never returns an error that must be checked each time: when the
 * heap is empty or `size_max` would be passed the buffer remembers it, takes
 * nothing more, and the writer asks rp_buffer_failed once at the end.
 *
 * Threads: used by one thread at a time. */
#ifndef RP_BASE_BUFFER_H
#define RP_BASE_BUFFER_H

#include <reprise/types.h>

typedef struct rp_buffer {
    char *ptr; /* owned */
    size_t len, capacity;
    size_t size_max; /* 0: no bound */
    bool failed;
} rp_buffer;

void rp_buffer_init(rp_buffer *buffer, size_t size_max);
void rp_buffer_fini(rp_buffer *buffer);
static inline void
rp_buffer_clear(rp_buffer *buffer)
{
    buffer->len = 0;
    buffer->failed = false;
}
static inline rp_str
rp_buffer_str(const rp_buffer *buffer)
{
    return (rp_str){ buffer->ptr, buffer->len };
}
static inline bool
rp_buffer_failed(const rp_buffer *buffer)
{
    return buffer->failed;
}

/* Room for `size` more bytes at ptr + len; NULL (and failed) if there is none. */
char *rp_buffer_reserve(rp_buffer *buffer, size_t size);
void rp_buffer_append(rp_buffer *buffer, rp_str text);
void rp_buffer_append_char(rp_buffer *buffer, char c);
void rp_buffer_printf(rp_buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void rp_buffer_append_le32(rp_buffer *buffer, uint32_t value);
void rp_buffer_append_le64(rp_buffer *buffer, uint64_t value);
/* Forget the first `size` bytes, at most all. */
void rp_buffer_drop_front(rp_buffer *buffer, size_t size);
/* Give the bytes away: the caller frees them with free(); the buffer is empty. */
char *rp_buffer_take(rp_buffer *buffer, size_t *len);

#endif
