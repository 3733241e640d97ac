/* openai_internal.h - what the chat and completions protocols share: replies made of
 * choices, and streams made of chunks. The others use its members that nobody knows
 * (rp_extras). */
#ifndef RP_WIRE_OPENAI_INTERNAL_H
#define RP_WIRE_OPENAI_INTERNAL_H

#include "json/span.h"
#include "wire/wire_internal.h"

/* prompt_tokens and completion_tokens (input_, output_tokens) of a usage object. */
rp_usage rp_openai_usage(const rp_json *usage);
#define RP_OPENAI_ZERO_USAGE "{\"prompt_tokens\":0,\"completion_tokens\":0,\"total_tokens\":0}"

/* The member `tools`: a field, and a reason if the service runs one of them itself. */
void rp_openai_tools(rp_request_draft *draft, const rp_json *tools);

/* True if a member says nothing that a reader could miss: null, [] or {}. */
bool rp_reply_member_is_empty(const rp_json *value);

/* Judge `body` and note the spans outside of choices; for each choice `each` is called. */
typedef rp_reply_verdict rp_openai_choice(rp_reply_draft *draft, const rp_json *choice,
                                          rp_str bytes);
rp_reply_verdict rp_openai_body(rp_reply_draft *draft, const rp_json *json,
                                rp_openai_choice *each);
/* Why a choice with this finish_reason is not kept; GOOD if it is. */
rp_reply_verdict rp_openai_finish(rp_reply_draft *draft, const rp_json *finish_reason);

/* ---- chunks to a body -------------------------------------------------------------- */

enum { RP_OPENAI_EXTRAS_MAX = 16, RP_OPENAI_CHOICES_MAX = 128, RP_OPENAI_TOOLS_MAX = 256 };

typedef enum rp_extra_kind {
    RP_EXTRA_VALUE,  /* the last value counts */
    RP_EXTRA_STRING, /* strings that follow each other */
    RP_EXTRA_ARRAY,  /* items that follow each other */
} rp_extra_kind;

/* A member with a name that we do not know, put together from many chunks. */
typedef struct rp_extra {
    rp_str name; /* in the assembly's arena */
    rp_extra_kind kind;
    rp_buffer text; /* the string; or JSON */
} rp_extra;

typedef struct rp_extras {
    rp_extra each[RP_OPENAI_EXTRAS_MAX];
    size_t count;
} rp_extras;

typedef struct rp_tool_parts {
    rp_buffer id, name, arguments;
} rp_tool_parts;

typedef struct rp_choice_parts {
    int64_t index;
    rp_buffer content, refusal, finish;
    bool has_content, has_refusal;
    rp_extras message, choice, logprobs;
    bool has_function;
    rp_tool_parts function;
    rp_tool_parts *tools[RP_OPENAI_TOOLS_MAX]; /* in the assembly's arena */
    size_t tool_count;
} rp_choice_parts;

typedef struct rp_openai_state {
    rp_buffer id, model, usage;
    int64_t created;
    rp_extras extras;
    rp_choice_parts *choices[RP_OPENAI_CHOICES_MAX]; /* in the arena */
    size_t choice_count;
} rp_openai_state;

/* Add a value to the member of that name; idle values are skipped. False: too many, or
 * the kind changed. */
bool rp_extras_add(rp_assembly *assembly, rp_extras *extras, const rp_json *member,
                   rp_extra_kind kind);
void rp_extras_write(const rp_extras *extras, rp_json_writer *w);
void rp_extras_fini(rp_extras *extras);

/* One chunk; `each` reads a choice of it into its parts. False: UNREADABLE. */
typedef bool rp_openai_delta(rp_assembly *assembly, rp_choice_parts *parts,
                             const rp_json *choice);
void rp_openai_event(rp_assembly *assembly, const rp_json *chunk, rp_openai_delta *each);
/* What chat and completions read alike of a choice: finish_reason, logprobs, extras. */
bool rp_openai_common_delta(rp_assembly *assembly, rp_choice_parts *parts, const rp_json *member);
void rp_openai_fini(rp_assembly *assembly);

/* The body around the choices; `each` writes the members of one choice but its end. */
typedef void rp_openai_write_choice(rp_json_writer *w, const rp_choice_parts *parts);
void rp_openai_assembled(rp_assembly *assembly, const char *object,
                         rp_openai_write_choice *each, rp_buffer *body);

/* ---- a body to chunks --------------------------------------------------------------- */

typedef struct rp_chunks {
    const rp_reply *reply;
    const rp_replay_options *options;
    rp_buffer *out;
    size_t head_offset, head_size; /* of the first chunk's start, which all share */
} rp_chunks;

void rp_chunks_init(rp_chunks *chunks, const rp_reply *reply, const rp_replay_options *options,
                    const char *id_prefix, const char *object, rp_buffer *out);
/* Start a chunk up to where its choice begins, and end it after the choice. */
void rp_chunk_open(rp_chunks *chunks);
void rp_chunk_close(rp_chunks *chunks);
/* Usage if asked for, and [DONE]. Fails: RP_ERR_UNSUPPORTED (asked for, unknown). */
rp_status rp_chunks_end(rp_chunks *chunks);

#endif
