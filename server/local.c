/* local.c - what we answer ourselves: health, models, our encoder, browsers' preflights.
 *
 * GET /v1/models is the upstream's list plus our encoder under "reprise/NAME".
 * POST /v1/embeddings for such a name is answered by the encoder, so that others can
 * use the proxy as an embedder; other models are forwarded. */
#include "base/bytes.h"
#include "server/native.h"
#include "server/server_internal.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    EMBEDDING_INPUTS_MAX = 2048,     /* as OpenAI's limit */
    EMBEDDING_SLICE = 16,            /* encoded between two looks at whether we stop; a guess */
    MODELS_SIZE_MAX = 8 << 20,       /* of an upstream's list of models; a guess */
};

static const rp_str model_prefix = { "reprise/", 8 };

/* ---- health, preflight, native calls -------------------------------------------- */

static bool
is_get_or_head(const rp_http_request *request)
{
    return rp_str_equal(request->method, RP_STR("GET")) ||
           rp_str_equal(request->method, RP_STR("HEAD"));
}

static void
reply_json(rp_visit *visit, int status, rp_str body)
{
    rp_reply_head head;
    rp_reply_head_init(&head);
    rp_reply_head_add(&head, RP_STR("Content-Type"), RP_STR("application/json"));
    rp_visit_reply(visit, status, &head, body);
}

/* RFC 9110, 15.5.6: it has to say which methods there are. */
static void
reply_other_method(rp_visit *visit, const char *allow, rp_str body)
{
    rp_reply_head head;
    rp_reply_head_init(&head);
    rp_reply_head_add(&head, RP_STR("Content-Type"), RP_STR("application/json"));
    rp_reply_head_add(&head, RP_STR("Allow"), rp_str_of(allow));
    rp_visit_reply(visit, 405, &head, body);
}

/* OPTIONS with the target *: what this server can do in general (RFC 9110, 9.3.7). */
static void
reply_options(rp_visit *visit)
{
    rp_reply_head head;
    rp_reply_head_init(&head);
    rp_reply_head_add(&head, RP_STR("Allow"),
                      RP_STR("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    rp_visit_reply(visit, 204, &head, RP_STR(""));
}

static void
reply_preflight(rp_visit *visit, const rp_http_request *request)
{
    rp_reply_head head;
    rp_reply_head_init(&head);
    const rp_str asked = rp_http_header(request->headers, request->header_count,
                                        "access-control-request-headers");
    rp_reply_head_add(&head, RP_STR("Access-Control-Allow-Methods"),
                      RP_STR("GET, POST, PUT, PATCH, DELETE, OPTIONS"));
    rp_reply_head_add(&head, RP_STR("Access-Control-Allow-Headers"),
                      asked.len ? asked : RP_STR("*"));
    rp_reply_head_add(&head, RP_STR("Access-Control-Max-Age"), RP_STR("600"));
    rp_reply_head_add(&head, RP_STR("Vary"), RP_STR("Access-Control-Request-Headers"));
    rp_visit_reply(visit, 204, &head, RP_STR(""));
}

/* Back on the loop; the client may have left meanwhile. */
static void
on_native_answered(void *context, const rp_native_call *call)
{
    rp_visit *visit = context;
    if (visit->exchange && call->allow)
        reply_other_method(visit, call->allow, rp_buffer_str(&call->reply));
    else if (visit->exchange)
        reply_json(visit, call->status, rp_buffer_str(&call->reply));
    rp_visit_unref(visit);
}

static void
answer_native(rp_visit *visit, const rp_http_request *request)
{
    rp_server *server = visit->worker->server;
    const size_t prefix = strlen("/v1/reprise/");
    if (!visit->identity.is_known) {
        rp_visit_fail(visit, 401, "invalid_request_error", "no_credential",
                      "this call needs the credential whose entries are meant");
        return;
    }
    const rp_native_call call = {
        .server = server,
        .site = visit->site,
        .tenant = visit->identity.name,
        .identity = visit->identity,
        .headers = &visit->headers,
        .name = { request->path.ptr + prefix, request->path.len - prefix },
        .is_post = rp_str_equal(request->method, RP_STR("POST")),
        .is_get = is_get_or_head(request),
        .body = request->body,
    };
    if (!request->body_is_whole) {
        rp_visit_fail(visit, 413, "invalid_request_error", "too_large", "the body is too large");
        return;
    }
    if (rp_native_start(&call, visit->worker->loop, on_native_answered, rp_visit_ref(visit)) != RP_OK) {
        rp_visit_unref(visit);
        rp_visit_fail(visit, 503, "server_error", "busy", "too many calls at this moment");
    }
}

/* ---- models ------------------------------------------------------------------------ */

static void
put_own_model(rp_visit *visit, rp_json_writer *writer)
{
    const rp_encoder *encoder = rp_cache_encoder(visit->worker->server->cache);
    rp_json_open(writer, '{');
    rp_json_key(writer, "id");
    rp_json_put_string(writer, rp_arena_printf(&visit->arena, "reprise/%.*s",
                                               RP_FMT(rp_encoder_name(encoder))));
    rp_json_key(writer, "object");
    rp_json_put_cstring(writer, "model");
    rp_json_key(writer, "created");
    rp_json_put_int(writer, visit->worker->server->started_us / 1000000);
    rp_json_key(writer, "owned_by");
    rp_json_put_cstring(writer, "reprise");
    rp_json_close(writer, '}');
}

/* GET /v1/models/reprise/NAME: ours, so the upstream is not asked. */
static void
reply_own_model(rp_visit *visit, const rp_http_request *request)
{
    const rp_encoder *encoder = rp_cache_encoder(visit->worker->server->cache);
    const size_t prefix = strlen("/v1/models/reprise/");
    const rp_str name = { request->path.ptr + prefix, request->path.len - prefix };
    if (!encoder || !rp_str_equal(name, rp_encoder_name(encoder))) {
        rp_visit_fail(visit, 404, "invalid_request_error", "model_not_found",
                      "no such encoder is loaded here");
        return;
    }
    rp_json_writer writer;
    rp_buffer *body = &visit->worker->scratch;
    rp_buffer_clear(body);
    rp_json_writer_init(&writer, body);
    put_own_model(visit, &writer);
    reply_json(visit, 200, rp_buffer_str(body));
}

/* The upstream's list with ours behind it; false: that is no list we understand. */
static bool
merge_models(rp_visit *visit, rp_buffer *out)
{
    rp_arena_reset(&visit->query_arena);
    const rp_json *list;
    if (rp_json_parse(visit->worker->json, &visit->query_arena, rp_buffer_str(&visit->collect),
                      &list, NULL) != RP_OK ||
        list->type != RP_JSON_OBJECT)
        return false;
    const rp_json *data = rp_json_get(list, "data");
    if (!data || data->type != RP_JSON_ARRAY)
        return false;
    rp_json_writer writer;
    rp_json_writer_init(&writer, out);
    rp_json_open(&writer, '{');
    for (uint32_t i = 0; i < list->count; i++) {
        const rp_json *member = &list->children[i];
        if (member == data)
            continue;
        char name[128];
        if (member->name.len >= sizeof name)
            return false;
        memcpy(name, member->name.ptr, member->name.len);
        name[member->name.len] = '\0';
        rp_json_key(&writer, name);
        rp_json_put_value(&writer, member);
    }
    rp_json_key(&writer, "data");
    rp_json_open(&writer, '[');
    for (uint32_t i = 0; i < data->count; i++)
        rp_json_put_value(&writer, &data->children[i]);
    put_own_model(visit, &writer);
    rp_json_close(&writer, ']');
    rp_json_close(&writer, '}');
    return !rp_buffer_failed(out);
}

static bool
on_models(rp_visit *visit, int status, const rp_header *headers, size_t count)
{
    if (status != 0)
        return status == 200 && !rp_http_header(headers, count, "content-encoding").len;
    rp_buffer *body = &visit->worker->scratch;
    rp_buffer_clear(body);
    const bool merged = merge_models(visit, body);
    reply_json(visit, 200, merged ? rp_buffer_str(body) : rp_buffer_str(&visit->collect));
    return true;
}

/* ---- the paths ----------------------------------------------------------------------- */

bool
rp_local_answer(rp_visit *visit)
{
    const rp_http_request *request = rp_exchange_request(visit->exchange);
    const bool is_get = rp_str_equal(request->method, RP_STR("GET"));
    visit->report.reason = "local";
    if (rp_str_equal(request->path, RP_STR("*"))) { /* OPTIONS, or it were no request */
        reply_options(visit);
        return true;
    }
    if (visit->site->config->cors && rp_str_equal(request->method, RP_STR("OPTIONS"))) {
        reply_preflight(visit, request); /* without a credential, on every path */
        return true;
    }
    if (rp_str_equal(request->path, RP_STR("/healthz"))) {
        if (is_get_or_head(request))
            reply_json(visit, 200, RP_STR("{\"status\":\"ok\"}\n"));
        else
            reply_other_method(visit, "GET, HEAD",
                               RP_STR("{\"error\":{\"message\":\"this path is read only\","
                                      "\"type\":\"invalid_request_error\"}}"));
        return true;
    }
    if (rp_str_starts_with(request->path, RP_STR("/v1/reprise/"))) {
        answer_native(visit, request);
        return true;
    }
    if (is_get && rp_str_starts_with(request->path, RP_STR("/v1/models/reprise/"))) {
        reply_own_model(visit, request);
        return true;
    }
    visit->report.reason = NULL;
    if (is_get && rp_str_equal(request->path, RP_STR("/v1/models")) &&
        rp_cache_encoder(visit->worker->server->cache)) {
        visit->collected = on_models;
        visit->collect.size_max = MODELS_SIZE_MAX;
    }
    return false;
}

/* ---- embeddings ---------------------------------------------------------------------- */

typedef struct embedding_job {
    rp_visit *visit; /* a reference */
    rp_str *texts;   /* in the visit's arena */
    size_t count;
    bool base64;
    rp_str model;
    int64_t tokens;
    rp_status status;
    rp_error error;
} embedding_job;

static void
put_floats(rp_json_writer *writer, const float *vector, size_t dim)
{
    rp_json_open(writer, '[');
    for (size_t i = 0; i < dim; i++) {
        char text[32];
        snprintf(text, sizeof text, "%.9g", (double)vector[i]);
        rp_json_put_raw(writer, rp_str_of(text));
    }
    rp_json_close(writer, ']');
}

/* Little-endian float32. False: no memory. */
static bool
put_base64(rp_json_writer *writer, const float *vector, size_t dim)
{
    uint8_t *bytes = malloc(dim * 4);
    char *text = malloc((dim * 4 + 2) / 3 * 4 + 1);
    if (bytes && text) {
        for (size_t i = 0; i < dim; i++) {
            uint32_t bits;
            memcpy(&bits, &vector[i], 4);
            rp_store_le32(bytes + 4 * i, bits);
        }
        EVP_EncodeBlock((unsigned char *)text, bytes, (int)(dim * 4));
        rp_json_put_cstring(writer, text);
    }
    const bool done = bytes && text;
    free(bytes);
    free(text);
    return done;
}

static bool
write_embeddings(const embedding_job *job, const float *vectors, size_t dim, rp_buffer *out)
{
    bool done = true;
    rp_json_writer writer;
    rp_json_writer_init(&writer, out);
    rp_json_open(&writer, '{');
    rp_json_key(&writer, "object");
    rp_json_put_cstring(&writer, "list");
    rp_json_key(&writer, "data");
    rp_json_open(&writer, '[');
    for (size_t i = 0; i < job->count && done; i++) {
        rp_json_open(&writer, '{');
        rp_json_key(&writer, "object");
        rp_json_put_cstring(&writer, "embedding");
        rp_json_key(&writer, "index");
        rp_json_put_uint(&writer, i);
        rp_json_key(&writer, "embedding");
        if (job->base64)
            done = put_base64(&writer, vectors + i * dim, dim);
        else
            put_floats(&writer, vectors + i * dim, dim);
        rp_json_close(&writer, '}');
    }
    rp_json_close(&writer, ']');
    rp_json_key(&writer, "model");
    rp_json_put_string(&writer, job->model);
    rp_json_key(&writer, "usage");
    rp_json_open(&writer, '{');
    rp_json_key(&writer, "prompt_tokens");
    rp_json_put_int(&writer, job->tokens);
    rp_json_key(&writer, "total_tokens");
    rp_json_put_int(&writer, job->tokens);
    rp_json_close(&writer, '}');
    rp_json_close(&writer, '}');
    return done && !rp_buffer_failed(out);
}

static void
on_embedded_locally(void *context)
{
    embedding_job *job = context;
    rp_visit *visit = job->visit;
    if (job->status == RP_ERR_LIMIT)
        rp_visit_fail(visit, 400, "invalid_request_error", "input_too_long", job->error.text);
    else if (job->status != RP_OK)
        rp_visit_fail(visit, 500, "server_error", "encoder_failed",
                      "the encoder could not embed this input");
    else
        reply_json(visit, 200, rp_buffer_str(&visit->collect));
    free(job);
    rp_visit_unref(visit);
}

/* Pool thread. */
static void
embed_locally(void *context)
{
    embedding_job *job = context;
    rp_encoder *encoder = rp_cache_encoder_ref(job->visit->worker->server->cache);
    const size_t dim = rp_encoder_dim(encoder);
    float *vectors = calloc(job->count * dim, sizeof *vectors);
    job->status = vectors ? RP_OK : RP_ERR_NOMEM;
    /* A few at a time: 2,048 long texts take a minute, and who stops does not wait for that. */
    for (size_t at = 0; job->status == RP_OK && at < job->count; at += EMBEDDING_SLICE) {
        const size_t count = RP_MIN(job->count - at, (size_t)EMBEDDING_SLICE);
        if (atomic_load(&job->visit->worker->server->is_stopping))
            job->status = RP_ERR_CLOSED;
        else
            job->status = rp_encoder_embed(encoder, job->texts + at, count, vectors + at * dim, NULL,
                                           &job->error);
    }
    if (job->status == RP_OK) {
        for (size_t i = 0; i < job->count; i++)
            job->tokens += (int64_t)RP_MIN(rp_encoder_tokenize(encoder, job->texts[i], NULL, 0),
                                           rp_encoder_window_tokens(encoder));
        if (!write_embeddings(job, vectors, dim, &job->visit->collect))
            job->status = RP_ERR_NOMEM;
    }
    free(vectors);
    rp_encoder_close(encoder);
    (void)!rp_loop_post(job->visit->worker->loop, on_embedded_locally, job);
}

/* The texts of `input`; a sentence if it is not what we take. */
static const char *
read_inputs(const rp_json *input, rp_arena *arena, embedding_job *job)
{
    if (!input)
        return "input is missing";
    const bool one = input->type == RP_JSON_STRING;
    if (!one && (input->type != RP_JSON_ARRAY || input->count == 0))
        return "input must be a string or a list of strings";
    job->count = one ? 1 : input->count;
    if (job->count > EMBEDDING_INPUTS_MAX)
        return "input may have at most 2048 texts";
    job->texts = rp_arena_calloc(arena, job->count, sizeof *job->texts);
    if (!job->texts)
        return "input is too large";
    for (size_t i = 0; i < job->count; i++) {
        const rp_json *item = one ? input : &input->children[i];
        /* Token numbers of somebody else's vocabulary would be read as other words. */
        if (item->type != RP_JSON_STRING)
            return "this encoder reads text, not token numbers of another model's vocabulary "
                   "(LangChain: check_embedding_ctx_length=False)";
        if (item->string.len > RP_TEXT_SIZE_MAX)
            return "a text of input is longer than 1 MiB";
        job->texts[i] = item->string;
    }
    return NULL;
}

static const char *
read_embedding_request(rp_visit *visit, const rp_json *body, embedding_job *job)
{
    const rp_encoder *encoder = rp_cache_encoder(visit->worker->server->cache);
    rp_str name = rp_json_string(rp_json_get(body, "model"));
    job->model = name;
    name.ptr += model_prefix.len;
    name.len -= model_prefix.len;
    if (!encoder)
        return "no encoder is loaded here";
    if (!rp_str_equal(name, rp_encoder_name(encoder)))
        return "no such encoder here; GET /v1/models names it";
    const rp_json *dimensions = rp_json_get(body, "dimensions");
    int64_t wanted;
    if (dimensions && dimensions->type != RP_JSON_NULL &&
        (!rp_json_to_int64(dimensions, &wanted) || wanted != (int64_t)rp_encoder_dim(encoder)))
        return "dimensions must be those of the encoder";
    const rp_json *format = rp_json_get(body, "encoding_format");
    job->base64 = rp_str_equal(rp_json_string(format), RP_STR("base64"));
    if (format && format->type != RP_JSON_NULL && !job->base64 &&
        !rp_str_equal(rp_json_string(format), RP_STR("float")))
        return "encoding_format must be float or base64";
    return read_inputs(rp_json_get(body, "input"), &visit->arena, job);
}

bool
rp_local_embeds(const rp_json *body)
{
    return rp_str_starts_with(rp_json_string(rp_json_get(body, "model")), model_prefix);
}

void
rp_local_embeddings(rp_visit *visit, const rp_json *body)
{
    visit->report.reason = "local";
    embedding_job *job = calloc(1, sizeof *job);
    if (!job) {
        rp_visit_fail(visit, 503, "server_error", "overloaded", "no memory");
        return;
    }
    const char *problem = read_embedding_request(visit, body, job);
    if (problem) {
        free(job);
        rp_visit_fail(visit, 400, "invalid_request_error", "invalid_embedding_request", problem);
        return;
    }
    job->visit = rp_visit_ref(visit);
    if (rp_pool_submit(visit->worker->server->pool, embed_locally, job) != RP_OK) {
        rp_metrics_add(visit->worker->server->metrics, RP_SUM_REFUSED, 1);
        rp_visit_fail(visit, 503, "server_error", "overloaded", "too many texts wait");
        rp_visit_unref(visit);
        free(job);
    }
}
