/* wire.h - protocol bytes to and from neutral requests and replies. Pure.
 *
 * A request body becomes an rp_request: what may be matched fuzzily, what must
 * be equal, and in which tier it may be answered. A reply (a body, or the events
 * of a stream) becomes an rp_reply that is stored once and can be replayed as a
 * body or as a stream. Conventions: docs/protocol.md.
 *
 * Memory:  results lie in the arena that was handed in.
 * Threads: pure functions; objects are used by one thread at a time. */
#ifndef RP_WIRE_WIRE_H
#define RP_WIRE_WIRE_H

#include "base/arena.h"
#include "base/buffer.h"
#include "json/json.h"
#include <reprise/status.h>

typedef enum rp_wire {
    RP_WIRE_CHAT,        /* POST /v1/chat/completions */
    RP_WIRE_COMPLETIONS, /* POST /v1/completions */
    RP_WIRE_EMBEDDINGS,  /* POST /v1/embeddings */
    RP_WIRE_RESPONSES,   /* POST /v1/responses */
    RP_WIRE_MESSAGES,    /* POST /v1/messages (Anthropic) */
    RP_WIRE_PROMPT,      /* a bare prompt of the native calls: a family of its own */
    RP_WIRE_COUNT,
} rp_wire;

const char *rp_wire_name(rp_wire wire); /* "chat", "completions" ...: metric label api */
/* The wire of a cacheable path ("/v1/chat/completions"), false if it is another. */
bool rp_wire_of_path(rp_str path, rp_wire *out);

/* Which tiers may answer or keep a request. */
typedef enum rp_tier {
    RP_TIER_NONE,     /* forwarded, never stored: `reason` says why */
    RP_TIER_EXACT,    /* equal requests only */
    RP_TIER_SEMANTIC, /* equal or similar */
} rp_tier;

typedef struct rp_field {
    rp_str name, value; /* value: canonical JSON */
} rp_field;

/* Control fields that LiteLLM clients put into the body as `cache: {...}`. They are
 * removed before forwarding and never part of a key. */
typedef struct rp_body_controls {
    bool present, no_cache, no_store;
    int64_t ttl_seconds, max_age_seconds; /* -1: not given */
    rp_str namespace_name;                /* empty: not given */
} rp_body_controls;

typedef struct rp_request {
    rp_wire wire;
    rp_tier tier;
    const char *reason; /* static label when tier is below semantic: "tools", "n", "image" ... */
    rp_str model;
    bool stream;
    bool include_usage; /* stream_options.include_usage */
    bool service_keeps; /* the service keeps the reply under its id (Responses, `store`) */
    rp_str prompt;      /* fuzzy part: text of the last user turn, normalised (NFC, line ends,
                           outer space); empty unless tier is RP_TIER_SEMANTIC */
    rp_str last_turn;   /* canonical JSON of what `fields` leaves out: the content of the last
                           message if that is the user's text; else {"turn": [...]}, all from
                           the last user message with text on; empty if nothing is left out */
    const rp_field *fields; /* all that separates, sorted by name; the whole conversation
                               except the last user turn is the field "messages" */
    size_t field_count;
    rp_str user, metadata;  /* canonical JSON or empty: not in the partition, hashed with the entry */
    double temperature;     /* NaN: absent */
    rp_body_controls controls;
    rp_str forward_body; /* what goes upstream: the body as it came, or without `cache` */
    size_t text_tokens_hint; /* rough count of prompt tokens (bytes / 4), for savings when a
                                reply has no usage */
} rp_request;

/* Understand a body. `json` is the parsed `body`. Fails: RP_ERR_INVALID if the
 * body is not what the endpoint takes at all (not an object): forward it
 * untouched. A body with surprising members does not fail: its tier is lower. */
RP_NODISCARD rp_status rp_request_parse(rp_wire wire, rp_str body, const rp_json *json,
                                        rp_arena *arena, rp_request *out, rp_error *error);

/* One form of a text for matching: NFC, CRLF and CR to LF, outer white space off. `text` is
 * valid UTF-8. The result is `text` itself or lies in the arena; ptr NULL: no memory. */
rp_str rp_normal_text(rp_str text, rp_arena *arena);

/* The same request with the names that chat, responses and messages share, for routes whose
 * protocols share entries (docs/protocol.md, "Shared wires"). In the arena, or `request` itself
 * if there is nothing to rename. NULL: no memory. */
const rp_request *rp_request_share(const rp_request *request, rp_arena *arena);

/* ---- replies ---------------------------------------------------------------- */

typedef struct rp_usage {
    int64_t input_tokens, output_tokens; /* -1: unknown. Input includes provider-cached ones. */
} rp_usage;

/* Why a reply is not kept; RP_REPLY_GOOD: it may be. Metric reprise_cache_write_skipped_total. */
typedef enum rp_reply_verdict {
    RP_REPLY_GOOD,
    RP_REPLY_INCOMPLETE,     /* stream without its terminal event, body cut short */
    RP_REPLY_STATUS,         /* not a 2xx */
    RP_REPLY_FINISH,         /* finish_reason is not one of those that are kept */
    RP_REPLY_LENGTH,         /* whole, but cut by the caller's or the model's limit */
    RP_REPLY_FILTERED,       /* whole, but cut by the service's filter */
    RP_REPLY_EMPTY,          /* no text and no tool call */
    RP_REPLY_ERROR,          /* an error object in a 200, or an error event */
    RP_REPLY_REFUSAL,
    RP_REPLY_UNREADABLE,     /* not the endpoint's JSON; encoded; too large */
} rp_reply_verdict;
const char *rp_reply_verdict_name(rp_reply_verdict verdict);

/* A complete reply in neutral form plus its original bytes, encoded so that it
 * can be stored and replayed without parsing JSON again. Opaque bytes with a
 * version (docs/file-format.md, "Reply"). */
typedef struct rp_reply rp_reply; /* a decoded view; lies in an arena, points into the bytes */

/* Watches a reply on its way to the client: feed it the bytes as they come. */
typedef struct rp_reply_reader rp_reply_reader;
/* `is_stream` by the reply's Content-Type (text/event-stream). size_max bounds what
 * is kept; a longer reply is RP_REPLY_UNREADABLE. */
RP_NODISCARD rp_status rp_reply_reader_new(rp_wire wire, int http_status, bool is_stream,
                                           size_t size_max, rp_reply_reader **out);
void rp_reply_reader_free(rp_reply_reader *reader);
void rp_reply_reader_feed(rp_reply_reader *reader, rp_str bytes);
/* The upstream ended; `clean`: as its framing says it should. On RP_REPLY_GOOD, and on
 * RP_REPLY_LENGTH and RP_REPLY_FILTERED, which a route may want to keep, the encoded reply is
 * appended to *out. `json_reader` is borrowed for the call. All the work is
 * done here (about 0.5 us an event): feed only copies. */
rp_reply_verdict rp_reply_reader_finish(rp_reply_reader *reader, bool clean,
                                        rp_json_reader *json_reader, rp_buffer *out,
                                        rp_usage *usage);

/* Make an encoded reply from a whole body (the native store call, import). */
rp_reply_verdict rp_reply_from_body(rp_wire wire, rp_str body, rp_json_reader *json_reader,
                                    rp_buffer *out, rp_usage *usage);

/* Open encoded bytes from the store. They are checked. Fails: RP_ERR_CORRUPT, RP_ERR_STALE. */
RP_NODISCARD rp_status rp_reply_open(rp_str encoded, rp_arena *arena, const rp_reply **out);
rp_wire rp_reply_wire(const rp_reply *reply);
rp_usage rp_reply_usage(const rp_reply *reply);
bool rp_reply_has_tool_calls(const rp_reply *reply);
/* Text of the first choice; for judges and lookups. Unescaped into the arena of
 * rp_reply_open when first asked for: one thread at a time. */
rp_str rp_reply_text(const rp_reply *reply);
rp_str rp_reply_original_id(const rp_reply *reply);

typedef struct rp_replay_options {
    rp_wire wire;        /* of the request that is answered */
    bool stream;         /* the client asked for a stream */
    bool include_usage;
    bool zero_usage;     /* config usage_on_hit: zero */
    int64_t created;     /* seconds: the replay's own `created` */
    uint64_t id_random[2]; /* for the replay's own id */
} rp_replay_options;

/* Append the whole replay: a JSON body, or all events of a stream including their
 * terminal one. A body made from a stream without usage has zeros there. Fails, with *out
 * as it was: RP_ERR_UNSUPPORTED if the asked form or wire cannot hold every field of the reply,
 * or needs a usage that is not known (a miss); RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_reply_replay(const rp_reply *reply, const rp_replay_options *options,
                                       rp_buffer *out);

/* The protocol's own error object, for errors that Reprise itself answers. */
void rp_wire_error_body(rp_wire wire, int http_status, const char *type, const char *code,
                        rp_str message, rp_buffer *out);

#endif
