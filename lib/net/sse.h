/* sse.h - server-sent events (WHATWG HTML, "Server-sent events"), reading.
 *
 * Feed bytes in any pieces; events come out whole. Accepts CR, LF and CRLF, a BOM
 * at the start, comments, several data lines; ignores unknown fields. A pending
 * event without its blank line is not an event.
 *
 * Memory:  a line and the joined data of an event may each take event_size_max bytes.
 * Threads: an rp_sse_reader is used by one thread at a time. */
#ifndef RP_NET_SSE_H
#define RP_NET_SSE_H

#include "base/buffer.h"
#include <reprise/status.h>

typedef struct rp_sse_event {
    rp_str type; /* "message" if the event names none */
    rp_str data; /* lines joined by LF */
} rp_sse_event;

typedef struct rp_sse_reader {
    rp_buffer line, type, data; /* owned */
    bool has_data, after_cr, started, failed;
} rp_sse_reader;

void rp_sse_init(rp_sse_reader *reader, size_t event_size_max); /* 0: no bound */
void rp_sse_fini(rp_sse_reader *reader);
/* Lent for the call, which must not feed or free the reader. */
typedef void rp_sse_call(void *context, const rp_sse_event *event);
/* False once a line or an event passed event_size_max (or memory ended); the reader
 * then takes nothing more. */
bool rp_sse_feed(rp_sse_reader *reader, rp_str bytes, rp_sse_call *call, void *context);

#endif
