/* buffer.c - see buffer.h. */
#include "base/buffer.h"
#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void
rp_buffer_init(rp_buffer *buffer, size_t size_max)
{
    *buffer = (rp_buffer){ .size_max = size_max };
}

void
rp_buffer_fini(rp_buffer *buffer)
{
    free(buffer->ptr);
    *buffer = (rp_buffer){ .size_max = buffer->size_max };
}

char *
rp_buffer_reserve(rp_buffer *buffer, size_t size)
{
    if (buffer->failed)
        return NULL;
    if (size <= buffer->capacity - buffer->len)
        return buffer->ptr + buffer->len;
    size_t wanted;
    if (__builtin_add_overflow(buffer->len, size, &wanted) ||
        (buffer->size_max && wanted > buffer->size_max)) {
        buffer->failed = true;
        return NULL;
    }
    size_t capacity = RP_MAX(buffer->capacity + buffer->capacity / 2, (size_t)256);
    capacity = RP_MAX(capacity, wanted);
    if (buffer->size_max)
        capacity = RP_MIN(capacity, buffer->size_max);
    char *grown = realloc(buffer->ptr, capacity);
    if (!grown) {
        buffer->failed = true;
        return NULL;
    }
    buffer->ptr = grown;
    buffer->capacity = capacity;
    return grown + buffer->len;
}

void
rp_buffer_append(rp_buffer *buffer, rp_str text)
{
    if (!text.len)
        return;
    char *room = rp_buffer_reserve(buffer, text.len);
    if (room) {
        memcpy(room, text.ptr, text.len);
        buffer->len += text.len;
    }
}

void
rp_buffer_append_char(rp_buffer *buffer, char c)
{
    char *room = rp_buffer_reserve(buffer, 1);
    if (room) {
        *room = c;
        buffer->len++;
    }
}

void
rp_buffer_printf(rp_buffer *buffer, const char *format, ...)
{
    va_list values, again;
    va_start(values, format);
    va_copy(again, values);
    const int len = vsnprintf(NULL, 0, format, values);
    char *room = len < 0 ? NULL : rp_buffer_reserve(buffer, (size_t)len + 1);
    if (room) {
        vsnprintf(room, (size_t)len + 1, format, again);
        buffer->len += (size_t)len;
    }
    va_end(again);
    va_end(values);
}

void
rp_buffer_append_le32(rp_buffer *buffer, uint32_t value)
{
    char bytes[4];
    rp_store_le32(bytes, value);
    rp_buffer_append(buffer, (rp_str){ bytes, sizeof bytes });
}

void
rp_buffer_append_le64(rp_buffer *buffer, uint64_t value)
{
    char bytes[8];
    rp_store_le64(bytes, value);
    rp_buffer_append(buffer, (rp_str){ bytes, sizeof bytes });
}

void
rp_buffer_drop_front(rp_buffer *buffer, size_t size)
{
    size = RP_MIN(size, buffer->len);
    buffer->len -= size;
    if (size && buffer->len)
        memmove(buffer->ptr, buffer->ptr + size, buffer->len);
}

char *
rp_buffer_take(rp_buffer *buffer, size_t *len)
{
    char *bytes = buffer->ptr;
    *len = buffer->len;
    *buffer = (rp_buffer){ .size_max = buffer->size_max };
    return bytes;
}
