/* wire_internal.h - how the protocols plug into lib/wire.
 *
 * Each protocol is one file with one rp_protocol: which request members lower the tier,
 * what a body says, how the events of a stream make a body, how a stored reply becomes
 * a stream. What is common lies in request.c, conversation.c, reply.c, reply_reader.c. */
#ifndef RP_WIRE_WIRE_INTERNAL_H
#define RP_WIRE_WIRE_INTERNAL_H

#include "json/span.h"
#include "wire/wire.h"

/* ---- requests -------------------------------------------------------------------- */

typedef struct rp_request_draft {
    rp_request *out; /* tier and reason are kept up to date here */
    const rp_json *json;
    rp_arena *arena;
    rp_buffer text;  /* values of fields, as pieces of it */
    struct rp_field_piece {
        rp_str name;
        size_t offset, size;
    } *pieces;       /* in the arena; room for one per member of the body */
    size_t piece_count;
    size_t turn_offset, turn_size; /* the last turn within `text` */
} rp_request_draft;

/* Lower the tier to `tier` at most. The first reason for the lowest tier is kept. */
void rp_request_lower(rp_request_draft *draft, rp_tier tier, const char *reason);
/* `value` separates, under `name`. */
void rp_request_field(rp_request_draft *draft, rp_str name, const rp_json *value);
/* Give the fuzzy part; normalises it. Lowers to exact if it is empty or too long. */
void rp_request_prompt(rp_request_draft *draft, rp_str text);
/* Give the canonical JSON of what the fields leave out. */
void rp_request_turn(rp_request_draft *draft, const rp_json *value);

/* True if the member says nothing: absent, null, false, or an empty array. */
bool rp_json_is_idle(const rp_json *value);

typedef struct rp_conversation_kind {
    const char *text_type;      /* of a text part in a user turn: "text", "input_text" */
    bool typed_items;           /* items of the Responses protocol: "type" besides "role" */
} rp_conversation_kind;

/* A conversation (array of messages, or for typed items also a string): field `name`
 * gets all but the last user turn, which becomes prompt and turn if it is only text. */
void rp_request_conversation(rp_request_draft *draft, rp_str name, const rp_json *messages,
                             const rp_conversation_kind *kind);
/* Text that may be a string or parts (system): as a field, in one form. */
void rp_request_content_field(rp_request_draft *draft, rp_str name, const rp_json *content);
/* Tools as a field, without hints to the provider's own cache. */
void rp_request_tools_field(rp_request_draft *draft, rp_str name, const rp_json *tools);

/* ---- replies ---------------------------------------------------------------------- */

/* What a span of the stored body is. Values are stored: never renumber. */
typedef enum rp_span_kind {
    RP_SPAN_ID = 1,            /* spliced: value of the reply's id */
    RP_SPAN_CREATED = 2,       /* spliced: value of created */
    RP_SPAN_USAGE = 3,         /* spliced with zero_usage: value of usage */
    RP_SPAN_MODEL = 4,
    RP_SPAN_TOP_EXTRA = 5,     /* a whole member of the reply, for every chunk */
    RP_SPAN_CHOICE = 6,        /* starts a choice: value of its index */
    RP_SPAN_CONTENT = 7,       /* value: string or null */
    RP_SPAN_ITEM = 8,          /* a whole output item or content block */
    RP_SPAN_TEXT_EXTRA = 9,    /* a whole member of the message whose value is a string */
    RP_SPAN_MESSAGE_EXTRA = 10, /* a whole member of the message, for one chunk */
    RP_SPAN_LOGPROBS = 11,     /* value: object */
    RP_SPAN_FINISH = 12,       /* value: string */
    RP_SPAN_CHOICE_EXTRA = 13, /* a whole member of the choice */
    RP_SPAN_TOOL = 14,         /* starts a tool call: value of its id (or its whole value) */
    RP_SPAN_TOOL_NAME = 15,
    RP_SPAN_TOOL_ARGUMENTS = 16,
    RP_SPAN_FUNCTION_NAME = 17, /* message.function_call, before tools */
    RP_SPAN_FUNCTION_ARGUMENTS = 18,
    RP_SPAN_THINKING = 19,     /* value: string */
    RP_SPAN_SIGNATURE = 20,    /* value: string */
    RP_SPAN_ITEM_MEMBER = 21,  /* a whole member that comes with an item's start */
    RP_SPAN_ITEM_ID = 22,      /* value: string */
    RP_SPAN_PART = 23,         /* starts a part of a message item: its whole value */
    RP_SPAN_CITATION = 24,     /* value: object */
    RP_SPAN_KIND_COUNT,
} rp_span_kind;

typedef struct rp_span {
    rp_span_kind kind;
    uint32_t offset, size; /* within the body */
} rp_span;

enum {
    RP_REPLY_FROM_STREAM = 1,   /* the body was assembled from events */
    RP_REPLY_HAS_TOOLS = 2,
    RP_REPLY_BODY_ONLY = 4,     /* a stream cannot hold it */
    RP_REPLY_USAGE_UNKNOWN = 8, /* usage in the body is ours, all zero */
    RP_REPLY_KEEP_ID = 16,      /* the service knows the reply under its id: no new one */
    RP_REPLY_FLAGS = 31,
};

/* A reply on its way into the store. */
typedef struct rp_reply_draft {
    rp_str body;
    unsigned flags;
    rp_usage usage;
    int64_t created;
    rp_span *spans; /* owned */
    size_t span_count, span_capacity;
    bool failed;    /* no memory, or too many */
    bool is_cut, is_filtered; /* a choice ended in the limit, or in the service's filter */
} rp_reply_draft;

/* Note a finish that a route may want to keep: true. */
bool rp_draft_unfinished(rp_reply_draft *draft, rp_str finish);

/* `bytes` lies within draft->body. */
void rp_draft_span(rp_reply_draft *draft, rp_span_kind kind, rp_str bytes);

/* Note the members that replies of all protocols have: id, created (under this name; NULL:
 * none), model, usage. False: it is another member. */
bool rp_draft_head_member(rp_reply_draft *draft, const rp_json_walk *walk, const char *created,
                          rp_usage (*usage_of)(const rp_json *usage));

/* Judge a body and append it, encoded, to *out if it is good; else nothing. */
rp_reply_verdict rp_reply_from_draft(rp_wire wire, rp_str body, unsigned flags,
                                     rp_json_reader *json_reader, rp_buffer *out,
                                     rp_usage *usage);

struct rp_reply {
    rp_wire wire;
    unsigned flags;
    rp_usage usage;
    int64_t created;
    rp_str body;         /* borrowed from the encoded bytes */
    const char *spans;   /* borrowed; 12 bytes each */
    size_t span_count;
    rp_arena *arena;     /* for the text, made when first asked for */
    rp_str text;         /* ptr NULL: not made yet */
};
rp_span rp_reply_span(const rp_reply *reply, size_t index);
rp_str rp_span_bytes(const rp_reply *reply, rp_span span);
/* The first span of a kind, as bytes; ptr NULL: none. */
rp_str rp_reply_find(const rp_reply *reply, rp_span_kind kind);

/* Spans that belong together, [first, end): from one of a starting kind (a choice, an item)
 * to before the next. Start with {0, 0}. False: no more. */
typedef struct rp_span_group {
    size_t first, end;
} rp_span_group;
bool rp_group_next(const rp_reply *reply, rp_span_kind kind, rp_span_group *group);
/* The first span of a kind in the group, as bytes; ptr NULL: none. */
rp_str rp_group_find(const rp_reply *reply, rp_span_group group, rp_span_kind kind);

/* A reply of chat, responses or messages for a request of another of them. */
rp_status rp_replay_on_other_wire(const rp_reply *reply, const rp_replay_options *options,
                                  rp_buffer *out);
/* The body with its spliced spans replaced. `prefix`: of a new id. */
rp_status rp_replay_body(const rp_reply *reply, const rp_replay_options *options,
                         const char *id_prefix, rp_str zero_usage, rp_buffer *out);
/* A new id, quoted JSON: prefix and 32 hexadecimal digits. */
void rp_replay_id(const rp_reply *reply, const rp_replay_options *options, const char *prefix,
                  rp_buffer *out);
/* Bytes of the stored body for one line of an event stream: without CR and LF, which JSON
 * has only between its tokens. */
void rp_replay_raw(rp_str json, rp_buffer *out);
/* Take the next piece off the inside of an escaped JSON string: it ends at a word's end,
 * never within an escape, a surrogate pair or a UTF-8 sequence. `size` is the aim. */
rp_str rp_replay_piece(rp_str *rest, size_t size);
/* The aim for a text of `size` bytes: a few pieces. */
size_t rp_replay_piece_size(size_t size);
/* Without the quotes of a JSON string; empty if it is none. */
rp_str rp_string_inside(rp_str json);

/* ---- streams into bodies ------------------------------------------------------------ */

typedef struct rp_assembly {
    rp_arena *arena; /* lives as long as the assembly */
    rp_reply_verdict verdict; /* GOOD until something says no */
    bool terminal;   /* the protocol's own end was seen */
    bool usage_known;
    void *state;     /* of the protocol; in the arena, cleared */
} rp_assembly;

/* ---- a protocol --------------------------------------------------------------------- */

typedef struct rp_protocol {
    const char *name, *path;
    size_t assembly_size; /* bytes of rp_assembly.state; 0: no streams */

    /* Does this protocol itself handle the member (true), or is it a plain field? */
    bool (*request_member)(rp_request_draft *draft, const rp_json *member);
    /* After all members: what is missing, and what they say together. */
    void (*request_end)(rp_request_draft *draft);

    /* Judge a whole body and note its spans. `json` is the parsed draft->body. */
    rp_reply_verdict (*reply_body)(rp_reply_draft *draft, const rp_json *json);
    /* One event of a stream; `json` NULL if the data is the literal [DONE]. */
    void (*reply_event)(rp_assembly *assembly, rp_str type, const rp_json *json);
    /* The body that the events make. */
    void (*reply_assembled)(rp_assembly *assembly, rp_buffer *body);
    void (*assembly_fini)(rp_assembly *assembly);

    rp_status (*replay_body)(const rp_reply *reply, const rp_replay_options *options,
                             rp_buffer *out);
    rp_status (*replay_stream)(const rp_reply *reply, const rp_replay_options *options,
                               rp_buffer *out);
} rp_protocol;

extern const rp_protocol rp_protocol_chat, rp_protocol_completions, rp_protocol_embeddings,
    rp_protocol_responses, rp_protocol_messages, rp_protocol_prompt;
const rp_protocol *rp_protocol_of(rp_wire wire);

#endif
