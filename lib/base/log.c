/* log.c - see log.h. */
#include "base/log.h"
#include "base/bytes.h"
#include "base/clock.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static atomic_int level_shown = RP_LOG_INFO; /* relaxed: a late change is harmless */
static atomic_bool as_json;                  /* relaxed: the same */

void
rp_log_set_level(rp_log_level level_min)
{
    atomic_store_explicit(&level_shown, (int)level_min, memory_order_relaxed);
}

void
rp_log_set_json(bool json)
{
    atomic_store_explicit(&as_json, json, memory_order_relaxed);
}

static size_t
format_time(char *out, size_t size)
{
    const rp_time now_us = rp_clock_wall_us(&rp_clock_system);
    const time_t seconds = (time_t)(now_us / 1000000);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    const size_t len = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &parts);
    return len + (size_t)snprintf(out + len, size - len, ".%03dZ", (int)(now_us / 1000 % 1000));
}

/* Control characters, quotes and backslashes as JSON wants them. */
static size_t
escape_json(const char *text, char *out, size_t size)
{
    size_t len = 0;
    for (; *text && len + 7 < size; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            out[len++] = '\\';
            out[len++] = (char)c;
        } else if (c < 0x20 || c == 0x7f) {
            len += (size_t)snprintf(out + len, size - len, "\\u%04x", c);
        } else {
            out[len++] = (char)c;
        }
    }
    out[len] = '\0';
    return len;
}

void
rp_log(rp_log_level level, const char *format, ...)
{
    static const char *const names[] = { "debug", "info", "warning", "error" };
    if ((int)level < atomic_load_explicit(&level_shown, memory_order_relaxed))
        return;
    char text[1024], line[2300], stamp[40];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    format_time(stamp, sizeof stamp);

    int len;
    if (atomic_load_explicit(&as_json, memory_order_relaxed)) {
        char escaped[2100];
        escape_json(text, escaped, sizeof escaped);
        len = snprintf(line, sizeof line, "{\"time\":\"%s\",\"level\":\"%s\",\"message\":\"%s\"}\n",
                       stamp, names[level], escaped);
    } else {
        for (char *c = text; *c; c++)
            if ((unsigned char)*c < 0x20)
                *c = ' ';
        len = snprintf(line, sizeof line, "%s %-7s %s\n", stamp, names[level], text);
    }
    /* A log that cannot be written is no reason to stop serving. */
    if (len > 0 && write(STDERR_FILENO, line, RP_MIN((size_t)len, sizeof line - 1)) < 0)
        return;
}

bool
rp_log_gate_open(rp_log_gate *gate, int64_t now_us, int64_t period_us, uint64_t *suppressed)
{
    int64_t next_us = __atomic_load_n(&gate->next_us, __ATOMIC_RELAXED);
    if (now_us < next_us ||
        !__atomic_compare_exchange_n(&gate->next_us, &next_us, now_us + period_us, false,
                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        __atomic_fetch_add(&gate->suppressed, 1, __ATOMIC_RELAXED);
        return false;
    }
    *suppressed = __atomic_exchange_n(&gate->suppressed, 0, __ATOMIC_RELAXED);
    return true;
}
