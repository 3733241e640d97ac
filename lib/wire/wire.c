/* wire.c - names, paths and error objects of the protocols. See wire.h. */
#include "wire/wire_internal.h"

#include "base/bytes.h"
#include <assert.h>

const rp_protocol *
rp_protocol_of(rp_wire wire)
{
    static const rp_protocol *const protocols[RP_WIRE_COUNT] = {
        [RP_WIRE_CHAT] = &rp_protocol_chat,
        [RP_WIRE_COMPLETIONS] = &rp_protocol_completions,
        [RP_WIRE_EMBEDDINGS] = &rp_protocol_embeddings,
        [RP_WIRE_RESPONSES] = &rp_protocol_responses,
        [RP_WIRE_MESSAGES] = &rp_protocol_messages,
        [RP_WIRE_PROMPT] = &rp_protocol_prompt,
    };
    assert(wire >= 0 && wire < RP_WIRE_COUNT);
    return protocols[wire];
}

const char *
rp_wire_name(rp_wire wire)
{
    return rp_protocol_of(wire)->name;
}

bool
rp_wire_of_path(rp_str path, rp_wire *out)
{
    for (int wire = 0; wire < RP_WIRE_COUNT; wire++) {
        const char *known = rp_protocol_of((rp_wire)wire)->path;
        if (known && rp_str_equal(path, rp_str_of(known))) {
            *out = (rp_wire)wire;
            return true;
        }
    }
    return false;
}

const char *
rp_reply_verdict_name(rp_reply_verdict verdict)
{
    switch (verdict) {
    case RP_REPLY_GOOD: return "good";
    case RP_REPLY_INCOMPLETE: return "incomplete";
    case RP_REPLY_STATUS: return "status";
    case RP_REPLY_FINISH:
    case RP_REPLY_LENGTH:
    case RP_REPLY_FILTERED: return "finish";
    case RP_REPLY_EMPTY: return "empty";
    case RP_REPLY_ERROR: return "error";
    case RP_REPLY_REFUSAL: return "refusal";
    case RP_REPLY_UNREADABLE: return "unreadable";
    }
    return "unreadable";
}

/* Anthropic names its errors by kind; the kind follows from the status. */
static const char *
messages_error_type(int http_status)
{
    switch (http_status) {
    case 400: return "invalid_request_error";
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 413: return "request_too_large";
    case 429: return "rate_limit_error";
    case 503:
    case 529: return "overloaded_error";
    case 504: return "timeout_error";
    default: return http_status < 500 ? "invalid_request_error" : "api_error";
    }
}

void
rp_wire_error_body(rp_wire wire, int http_status, const char *type, const char *code,
                   rp_str message, rp_buffer *out)
{
    rp_json_writer w;
    rp_json_writer_init(&w, out);
    rp_json_open(&w, '{');
    if (wire == RP_WIRE_MESSAGES) {
        rp_json_key(&w, "type");
        rp_json_put_cstring(&w, "error");
    }
    rp_json_key(&w, "error");
    rp_json_open(&w, '{');
    if (wire == RP_WIRE_MESSAGES) {
        rp_json_key(&w, "type");
        rp_json_put_cstring(&w, messages_error_type(http_status));
        rp_json_key(&w, "message");
        rp_json_put_string(&w, message);
    } else {
        rp_json_key(&w, "message");
        rp_json_put_string(&w, message);
        rp_json_key(&w, "type");
        rp_json_put_cstring(&w, type);
        rp_json_key(&w, "param");
        rp_json_put_null(&w);
        rp_json_key(&w, "code");
        rp_json_put_cstring(&w, code);
    }
    rp_json_close(&w, '}');
    rp_json_close(&w, '}');
}
