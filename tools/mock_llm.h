/* mock_llm.h - a deterministic stand-in for an LLM service: what it answers.
 *
 * The same request gets the same answer on every machine. Answers come from a
 * script (JSON lines) where a row matches, else they are made from the prompt and
 * a seed. tools/mock_llm.c serves them, tools/mock_answer.c makes them.
 *
 * Threads: one thread at a time. */
#ifndef RP_TOOLS_MOCK_LLM_H
#define RP_TOOLS_MOCK_LLM_H

#include "base/arena.h"
#include "base/buffer.h"
#include "json/json.h"
#include <reprise/status.h>

/* What goes wrong on purpose; the names are those of --fault and X-Mock-Fault. */
typedef enum mock_fault {
    MOCK_FAULT_NONE,
    MOCK_FAULT_STATUS,       /* status=CODE: an error object with that status */
    MOCK_FAULT_RESET,        /* the connection closes before a byte of reply */
    MOCK_FAULT_RESET_MID,    /* and in the middle of the body or stream */
    MOCK_FAULT_STALL,        /* no reply ever */
    MOCK_FAULT_STALL_MID,    /* half of it, then nothing more */
    MOCK_FAULT_TRUNCATE,     /* a stream ends cleanly without its terminal events */
    MOCK_FAULT_SHORT,        /* fewer bytes than Content-Length says, then a close */
    MOCK_FAULT_LONG,         /* more bytes than Content-Length says */
    MOCK_FAULT_GARBAGE,      /* bytes that are no HTTP */
    MOCK_FAULT_BAD_JSON,     /* 200 with a body that is no JSON */
    MOCK_FAULT_SLOW_HEAD,    /* the head a byte at a time, 50 ms apart */
    MOCK_FAULT_EMPTY,        /* an answer without text */
    MOCK_FAULT_ERROR_EVENT,  /* an error object inside a 200 */
    MOCK_FAULT_REFUSAL,      /* message.refusal */
    MOCK_FAULT_FILTER,       /* finish_reason content_filter */
    MOCK_FAULT_COUNT,
} mock_fault;

/* "stall-mid" or "status=503"; false if unknown. */
bool mock_fault_parse(rp_str text, mock_fault *fault, int *status);

typedef struct mock_script mock_script; /* rows: prompt, answer, fault?, delay_ms?, model? */
/* Fails: RP_ERR_INVALID "FILE:LINE: ...", RP_ERR_NOT_FOUND. */
RP_NODISCARD rp_status mock_script_load(const char *path, mock_script **out, rp_error *error);
void mock_script_free(mock_script *script); /* NULL is fine */

typedef enum mock_api {
    MOCK_CHAT,
    MOCK_COMPLETIONS,
    MOCK_EMBEDDINGS,
    MOCK_RESPONSES,
    MOCK_MESSAGES,
} mock_api;

typedef struct mock_options {
    const mock_script *script; /* or NULL */
    uint64_t seed;
    size_t answer_words;       /* of made answers */
} mock_options;

typedef struct mock_reply {
    int status;
    bool stream;
    mock_fault fault;    /* of the script's row */
    int fault_status;
    int64_t delay_us;    /* of the script's row; -1: none given */
    rp_str body;         /* whole body of a plain reply */
    const rp_str *events;/* of a stream: complete SSE events, in order */
    size_t event_count;
    size_t terminal_count; /* how many of the last events end the stream */
} mock_reply;

/* Answer one request. `fault` is what the caller wants (header or rate); a script
 * row's own comes back in out->fault. Everything lies in `arena`. */
RP_NODISCARD rp_status mock_answer(const mock_options *options, mock_api api, const rp_json *body,
                                   uint64_t sequence, mock_fault fault, rp_arena *arena,
                                   mock_reply *out);

#endif
