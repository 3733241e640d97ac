/* status.c - see reprise/status.h. */
#include <reprise/status.h>
#include <stdarg.h>
#include <stdio.h>

const char *
rp_status_name(rp_status status)
{
    switch (status) {
    case RP_OK: return "ok";
    case RP_ERR_INVALID: return "invalid";
    case RP_ERR_NOMEM: return "no-memory";
    case RP_ERR_LIMIT: return "limit";
    case RP_ERR_EXISTS: return "exists";
    case RP_ERR_NOT_FOUND: return "not-found";
    case RP_ERR_IO: return "io";
    case RP_ERR_TRUNCATED: return "truncated";
    case RP_ERR_CORRUPT: return "corrupt";
    case RP_ERR_STALE: return "stale";
    case RP_ERR_UNSUPPORTED: return "unsupported";
    case RP_ERR_BUSY: return "busy";
    case RP_ERR_TIMEOUT: return "timeout";
    case RP_ERR_CLOSED: return "closed";
    }
    return "unknown";
}

rp_status
rp_fail(rp_error *error, rp_status status, const char *format, ...)
{
    if (error) {
        va_list values;
        va_start(values, format);
        vsnprintf(error->text, sizeof error->text, format, values);
        va_end(values);
    }
    return status;
}
