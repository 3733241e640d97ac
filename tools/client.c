/* client.c - the commands that talk to a running server, or look into a stopped one's
 * store: lookup, store, explain, feedback, invalidate, flush, stats, export, import,
 * reembed.
 *
 * A call becomes the JSON body of the native call of the same name (docs/protocol.md).
 * With --admin (the default) it is sent to the admin listener; with --data DIR the same
 * question is asked of the store itself through the library. */
#include "tools/command.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"
#include "json/json.h"
#include "net/http_client.h"

#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <reprise/cache.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { TAGS_MAX = RP_TAGS_MAX, FILE_MAX = 64 << 20 };

typedef struct arguments {
    const char *admin, *token, *data, *model, *policy;
    const char *tenant, *namespace_name, *category, *user, *path;
    const char *prompt, *request_file, *reply, *reply_file;
    const char *entry, *request_id, *tag, *of_model, *reason;
    const char *tags[TAGS_MAX];
    size_t tag_count;
    uint64_t ttl_seconds, older_than_seconds, max_age_seconds;
    double min_similarity;
    bool right, wrong, confirm, vectors, trust_vectors, json;
    const char *file; /* of export and import; NULL or "-": standard streams */
} arguments;

/* Which options a call takes. */
enum {
    TAKES_REQUEST = 1, TAKES_REPLY = 2, TAKES_SELECTOR = 4, TAKES_ENTRY = 8, TAKES_FILE = 16,
    TAKES_CONFIRM = 32,
};

typedef struct call {
    const char *name, *summary;
    unsigned takes;
    bool read_only;
    int (*run)(const struct call *call, const arguments *a);
} call;

static int run_import(const call *c, const arguments *a);

static int
fail(const call *c, int exit_status, const char *sentence)
{
    fprintf(stderr, "reprise %s: %s\n", c->name, sentence);
    return exit_status;
}

/* ---- printing ----------------------------------------------------------------------- */

/* {"a": 1, "b": {...}} as lines "a  1" on a terminal's behalf. */
static void
print_members(const rp_json *object)
{
    rp_buffer text;
    rp_buffer_init(&text, 0);
    for (uint32_t i = 0; i < object->count; i++) {
        const rp_json *value = &object->children[i];
        rp_buffer_clear(&text);
        if (value->type == RP_JSON_STRING)
            rp_buffer_append(&text, value->string);
        else if (value->type != RP_JSON_NULL)
            rp_json_write(value, &text);
        else
            rp_buffer_append(&text, RP_STR("-"));
        printf("%-20.*s %.*s\n", RP_FMT(value->name), RP_FMT(rp_buffer_str(&text)));
    }
    rp_buffer_fini(&text);
}

static int
print_reply(const arguments *a, rp_str json)
{
    rp_arena arena;
    rp_json_reader *reader = NULL;
    const rp_json *object = NULL;
    rp_arena_init(&arena, 0);
    if (!a->json && isatty(STDOUT_FILENO) && rp_json_reader_new(&reader) == RP_OK &&
        rp_json_parse(reader, &arena, json, &object, NULL) == RP_OK && object->type == RP_JSON_OBJECT)
        print_members(object);
    else
        printf("%.*s\n", RP_FMT(json));
    rp_json_reader_free(reader);
    rp_arena_fini(&arena);
    return RP_EXIT_DONE;
}

/* ---- to a running server ------------------------------------------------------------- */

/* --token, $REPRISE_ADMIN_TOKEN, or the file that a server on this machine made. */
static rp_str
find_token(const arguments *a, char *storage, size_t size)
{
    const char *given = a->token ? a->token : getenv("REPRISE_ADMIN_TOKEN");
    if (given)
        return rp_str_of(given);
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char path[PATH_MAX];
    if (state && *state)
        snprintf(path, sizeof path, "%s/reprise/admin.token", state);
    else
        snprintf(path, sizeof path, "%s/.local/state/reprise/admin.token", home ? home : ".");
    rp_buffer bytes;
    rp_buffer_init(&bytes, 0);
    rp_str token = { 0 };
    if (rp_file_read(path, size - 1, &bytes, NULL) == RP_OK) {
        token = rp_str_trimmed(rp_buffer_str(&bytes));
        memcpy(storage, token.ptr, token.len);
        token.ptr = storage;
    }
    rp_buffer_fini(&bytes);
    return token;
}

typedef struct transfer {
    rp_loop *loop;
    rp_http_client *client;
    rp_fetch *fetch;
    int status;
    FILE *out;       /* of a 200; else the body is collected */
    rp_buffer body;
    FILE *in;        /* of an import */
    rp_buffer url, authorization;
    rp_fetch_result result;
    char detail[160];
} transfer;

static void
on_head(void *context, int status, const rp_header *headers, size_t count)
{
    (void)headers, (void)count;
    ((transfer *)context)->status = status;
}

static bool
on_data(void *context, rp_str bytes)
{
    transfer *t = context;
    if (t->out && t->status == 200)
        (void)!fwrite(bytes.ptr, 1, bytes.len, t->out);
    else
        rp_buffer_append(&t->body, bytes);
    return true;
}

static void
on_done(void *context, rp_fetch_result result, const char *detail)
{
    transfer *t = context;
    t->result = result;
    t->fetch = NULL;
    snprintf(t->detail, sizeof t->detail, "%s", detail ? detail : "");
    rp_loop_stop(t->loop);
}

static void
on_want_body(void *context)
{
    transfer *t = context;
    char piece[64 << 10];
    for (bool room = true; room && t->fetch;) {
        const size_t got = fread(piece, 1, sizeof piece, t->in);
        if (got == 0 && ferror(t->in)) { /* a directory, say: not the end of a file */
            rp_loop_stop(t->loop);
            return;
        }
        room = rp_fetch_send(t->fetch, (rp_str){ piece, got }, got == 0) && got > 0;
    }
}

/* One call. The reply's body is in t->body, or went to t->out. */
static int
talk(const call *c, const arguments *a, const char *method, const char *query, rp_str body, transfer *t)
{
    static const rp_fetch_handler handler = { on_head, on_data, on_done, on_want_body };
    char storage[256];
    rp_error error = { { 0 } };
    const rp_str token = find_token(a, storage, sizeof storage);
    rp_buffer_printf(&t->url, "%s/v1/reprise/%s%s", a->admin, c->name, query);
    rp_buffer_printf(&t->authorization, "Bearer %.*s", RP_FMT(token));
    const rp_header headers[] = { { RP_STR("Content-Type"), RP_STR("application/json") },
                                  { RP_STR("Authorization"), rp_buffer_str(&t->authorization) } };
    const rp_fetch_request request = {
        .method = rp_str_of(method),
        .url = rp_buffer_str(&t->url),
        .headers = headers,
        .header_count = RP_COUNT(headers),
        .body = body,
        .body_is_whole = t->in == NULL,
        .body_size = t->in ? -1 : (int64_t)body.len,
    };
    if (rp_loop_new(&t->loop) != RP_OK ||
        rp_http_client_new(t->loop, &(rp_http_client_options){ 0 }, &t->client, &error) != RP_OK ||
        rp_fetch_start(t->client, &request, &handler, t, &t->fetch, &error) != RP_OK)
        return fail(c, RP_EXIT_FAILED, error.text[0] ? error.text : "no memory");
    if (t->in && rp_loop_post(t->loop, on_want_body, t) != RP_OK)
        return fail(c, RP_EXIT_FAILED, "no memory");
    rp_loop_run(t->loop);
    if (t->in && ferror(t->in))
        return fail(c, RP_EXIT_USAGE, "the file cannot be read");
    if (t->result != RP_FETCH_OK) {
        char sentence[400];
        snprintf(sentence, sizeof sentence, "no answer from %s (%s); is `reprise serve` running there?",
                 a->admin, t->detail);
        return fail(c, RP_EXIT_FAILED, sentence);
    }
    return RP_EXIT_DONE;
}

static void
start_transfer(transfer *t)
{
    *t = (transfer){ 0 };
    rp_buffer_init(&t->body, 0);
    rp_buffer_init(&t->url, 0);
    rp_buffer_init(&t->authorization, 0);
}

static void
end_transfer(transfer *t)
{
    rp_http_client_free(t->client);
    rp_loop_free(t->loop);
    rp_buffer_fini(&t->body);
    rp_buffer_fini(&t->url);
    rp_buffer_fini(&t->authorization);
}

/* The sentence in {"error": {"message": ...}}, on stderr. */
static int
report_refusal(const call *c, const transfer *t)
{
    rp_arena arena;
    rp_json_reader *reader = NULL;
    const rp_json *object = NULL;
    rp_arena_init(&arena, 0);
    rp_str message = { 0 };
    if (rp_json_reader_new(&reader) == RP_OK &&
        rp_json_parse(reader, &arena, rp_buffer_str(&t->body), &object, NULL) == RP_OK)
        message = rp_json_string(rp_json_get(rp_json_get(object, "error"), "message"));
    fprintf(stderr, "reprise %s: refused with status %d: %.*s\n", c->name, t->status,
            RP_FMT(message.ptr ? message : RP_STR("no reason was given")));
    rp_json_reader_free(reader);
    rp_arena_fini(&arena);
    return RP_EXIT_FAILED;
}

/* ---- what is asked -------------------------------------------------------------------- */

static void
put(rp_json_writer *w, const char *name, const char *value)
{
    if (!value)
        return;
    rp_json_key(w, name);
    rp_json_put_cstring(w, value);
}

static void
put_count(rp_json_writer *w, const char *name, uint64_t value)
{
    if (!value)
        return;
    rp_json_key(w, name);
    rp_json_put_uint(w, value);
}

static bool
read_file(const call *c, const char *path, rp_buffer *out)
{
    rp_error error = { { 0 } };
    if (rp_file_read(path, FILE_MAX, out, &error) == RP_OK)
        return true;
    fail(c, RP_EXIT_USAGE, error.text);
    return false;
}

static bool
put_request(const call *c, const arguments *a, rp_json_writer *w)
{
    if ((a->prompt != NULL) == (a->request_file != NULL)) {
        fail(c, RP_EXIT_USAGE, "give either --prompt TEXT or --request FILE");
        return false;
    }
    put(w, "prompt", a->prompt);
    put(w, "path", a->path);
    put(w, "category", a->category);
    put(w, "user", a->user);
    put_count(w, "max_age_seconds", a->max_age_seconds);
    if (!isnan(a->min_similarity)) {
        rp_json_key(w, "min_similarity");
        rp_json_put_double(w, a->min_similarity);
    }
    if (!a->request_file)
        return true;
    rp_buffer bytes;
    rp_buffer_init(&bytes, 0);
    const bool good = read_file(c, a->request_file, &bytes);
    rp_json_key(w, "request");
    rp_json_put_raw(w, good ? rp_buffer_str(&bytes) : RP_STR("null"));
    rp_buffer_fini(&bytes);
    return good;
}

static bool
put_reply(const call *c, const arguments *a, rp_json_writer *w)
{
    if ((a->reply != NULL) == (a->reply_file != NULL)) {
        fail(c, RP_EXIT_USAGE, "give either --reply TEXT or --reply-file FILE");
        return false;
    }
    put(w, "reply", a->reply);
    put_count(w, "ttl_seconds", a->ttl_seconds);
    if (a->tag_count) {
        rp_json_key(w, "tags");
        rp_json_open(w, '[');
        for (size_t i = 0; i < a->tag_count; i++)
            rp_json_put_cstring(w, a->tags[i]);
        rp_json_close(w, ']');
    }
    if (!a->reply_file)
        return true;
    rp_buffer bytes;
    rp_buffer_init(&bytes, 0);
    const bool good = read_file(c, a->reply_file, &bytes);
    rp_json_key(w, "reply");
    rp_json_put_raw(w, good ? rp_buffer_str(&bytes) : RP_STR("null"));
    rp_buffer_fini(&bytes);
    return good;
}

static bool
write_body(const call *c, const arguments *a, rp_buffer *out)
{
    rp_json_writer w;
    rp_json_writer_init(&w, out);
    rp_json_open(&w, '{');
    put(&w, "tenant", a->tenant);
    put(&w, "namespace", a->namespace_name);
    bool good = !(c->takes & TAKES_REQUEST) || put_request(c, a, &w);
    good = good && (!(c->takes & TAKES_REPLY) || put_reply(c, a, &w));
    if (c->takes & TAKES_SELECTOR) {
        put(&w, "entry", a->entry);
        put(&w, "tag", a->tag);
        put(&w, "model", a->of_model);
        put_count(&w, "older_than_seconds", a->older_than_seconds);
        rp_json_key(&w, "confirm");
        rp_json_put_bool(&w, a->confirm);
    } else if (c->takes & TAKES_ENTRY) {
        put(&w, "entry", a->entry);
        put(&w, "request_id", a->request_id);
        put(&w, "reason", a->reason);
        rp_json_key(&w, "correct");
        rp_json_put_bool(&w, a->right);
        if (a->right == a->wrong) {
            fail(c, RP_EXIT_USAGE, "say --right or --wrong");
            good = false;
        }
    } else if (c->takes & TAKES_CONFIRM) {
        put(&w, "confirm", a->confirm ? "flush" : "");
    }
    rp_json_close(&w, '}');
    return good;
}

/* ---- a stopped server's store ------------------------------------------------------------ */

static void
warn(void *context, const char *sentence)
{
    fprintf(stderr, "reprise %s: %s\n", ((const call *)context)->name, sentence);
}

/* What only looks or removes must not make a store where a name was misspelt. */
static bool
makes_a_store(const call *c)
{
    return (c->takes & TAKES_REPLY) || c->run == run_import;
}

static rp_status
open_cache(const call *c, const arguments *a, rp_cache **out, rp_error *error)
{
    char path[PATH_MAX];
    const int len = snprintf(path, sizeof path, "%s/data.mdb", a->data);
    if (!makes_a_store(c) && (len >= (int)sizeof path || access(path, F_OK) != 0))
        return rp_fail(error, RP_ERR_NOT_FOUND, "there is no store in %s", a->data);
    const rp_cache_options options = {
        .folder = a->data,
        .model = strcmp(a->model, "none") == 0 ? NULL : a->model,
        .policy = a->policy,
        .read_only = c->read_only,
        .warn = warn,
        .warn_context = (void *)(uintptr_t)c,
    };
    return rp_cache_open(&options, out, error);
}

static rp_str
text(const char *value)
{
    return rp_str_of(value);
}

static rp_cache_selector
selector_of(const arguments *a)
{
    return (rp_cache_selector){ text(a->tenant), text(a->namespace_name), text(a->of_model),
                                text(a->tag), text(a->entry), a->older_than_seconds };
}

/* The request of lookup, store and explain; `bytes` holds a body read from a file. */
static bool
request_of(const call *c, const arguments *a, rp_buffer *bytes, rp_cache_request *out)
{
    if ((a->prompt != NULL) == (a->request_file != NULL)) {
        fail(c, RP_EXIT_USAGE, "give either --prompt TEXT or --request FILE");
        return false;
    }
    if (a->request_file && !read_file(c, a->request_file, bytes))
        return false;
    *out = (rp_cache_request){ .tenant = text(a->tenant),
                               .namespace_name = text(a->namespace_name),
                               .prompt = text(a->prompt),
                               .path = text(a->path ? a->path : "/v1/chat/completions"),
                               .body = rp_buffer_str(bytes),
                               .category = text(a->category),
                               .user = text(a->user),
                               .min_similarity = isnan(a->min_similarity) ? 0 : (float)a->min_similarity,
                               .max_age_seconds = a->max_age_seconds };
    return true;
}

static void
put_or_null(rp_json_writer *w, const char *name, const char *value)
{
    rp_json_key(w, name);
    rp_json_put_cstring(w, value && *value ? value : NULL);
}

static void
put_number(rp_json_writer *w, const char *name, double value)
{
    rp_json_key(w, name);
    rp_json_put_double(w, value); /* NaN becomes null */
}

/* As the server writes it (docs/protocol.md, Native calls). */
static void
print_answer(const arguments *a, const rp_cache_answer *answer, bool is_text)
{
    rp_buffer out;
    rp_json_writer w;
    rp_buffer_init(&out, 0);
    rp_json_writer_init(&w, &out);
    rp_json_open(&w, '{');
    put_or_null(&w, "outcome", answer->outcome);
    put_or_null(&w, "tier", answer->tier);
    put_or_null(&w, "reason", answer->reason);
    put_or_null(&w, "entry", answer->entry);
    put_number(&w, "similarity", answer->similarity);
    put_number(&w, "risk", answer->risk);
    put_number(&w, "age_seconds", answer->entry[0] ? (double)answer->age_seconds : NAN);
    rp_json_key(&w, "reply");
    if (!answer->hit)
        rp_json_put_null(&w);
    else if (is_text)
        rp_json_put_string(&w, answer->reply);
    else
        rp_json_put_raw(&w, answer->reply);
    rp_json_close(&w, '}');
    print_reply(a, rp_buffer_str(&out));
    rp_buffer_fini(&out);
}

static rp_status
ask_request(const call *c, const arguments *a, rp_cache *cache, const rp_cache_request *request, rp_error *error)
{
    rp_status status;
    if (c->takes & TAKES_REPLY) {
        rp_str tags[TAGS_MAX];
        char entry[33];
        rp_buffer reply;
        rp_buffer_init(&reply, 0);
        for (size_t i = 0; i < a->tag_count; i++)
            tags[i] = text(a->tags[i]);
        if (a->reply_file && !read_file(c, a->reply_file, &reply)) {
            rp_buffer_fini(&reply);
            return RP_ERR_NOT_FOUND;
        }
        const rp_cache_store_options options = { a->ttl_seconds, tags, a->tag_count };
        status = rp_cache_store(cache, request, a->reply ? text(a->reply) : rp_buffer_str(&reply),
                                &options, entry, error);
        rp_buffer_fini(&reply);
        if (status == RP_OK)
            printf("{\"entry\":\"%s\"}\n", entry);
    } else if (strcmp(c->name, "explain") == 0) {
        char *json;
        size_t len;
        status = rp_cache_explain(cache, request, &json, &len, error);
        if (status == RP_OK) {
            print_reply(a, (rp_str){ json, len });
            free(json);
        }
    } else {
        rp_cache_answer *answer;
        status = rp_cache_lookup(cache, request, &answer, error);
        if (status == RP_OK) {
            print_answer(a, answer, request->body.len == 0);
            rp_cache_answer_free(answer);
        }
    }
    return status;
}

static void
print_stats(const arguments *a, rp_cache *cache)
{
    rp_cache_stats s;
    rp_cache_stats_get(cache, &s);
    char json[512];
    const int len = snprintf(json, sizeof json,
                             "{\"entries\":%llu,\"vectors\":%llu,\"disk_bytes\":%llu,\"disk_max\":%llu,"
                             "\"fingerprint\":\"%s\",\"semantic\":%s}",
                             (unsigned long long)s.entries, (unsigned long long)s.vectors,
                             (unsigned long long)s.disk_bytes, (unsigned long long)s.disk_max,
                             s.fingerprint, s.semantic ? "true" : "false");
    print_reply(a, (rp_str){ json, (size_t)len });
}

static rp_status
ask_store(const call *c, const arguments *a, rp_cache *cache, rp_error *error)
{
    rp_status status = RP_OK;
    size_t matched = 0, removed = 0;
    const rp_cache_selector selector = selector_of(a);
    if (c->takes & TAKES_REQUEST) {
        rp_buffer bytes;
        rp_cache_request request;
        rp_buffer_init(&bytes, 0);
        status = request_of(c, a, &bytes, &request) ? ask_request(c, a, cache, &request, error)
                                                    : RP_ERR_INVALID;
        rp_buffer_fini(&bytes);
    } else if (c->takes & TAKES_SELECTOR) {
        status = rp_cache_invalidate(cache, &selector, a->confirm, &matched, &removed, error);
        if (status == RP_OK)
            printf("{\"matched\":%zu,\"removed\":%zu}\n", matched, removed);
    } else if (c->takes & TAKES_ENTRY) {
        if (a->right == a->wrong || !a->entry)
            return rp_fail(error, RP_ERR_INVALID, "say --entry and --right or --wrong");
        status = rp_cache_feedback(cache, text(a->tenant), text(a->entry), a->right, error);
        if (status == RP_OK)
            printf("{\"accepted\":true}\n");
    } else if (c->takes & TAKES_CONFIRM) {
        if (!a->confirm)
            return rp_fail(error, RP_ERR_INVALID, "a flush removes everything: say --confirm");
        status = rp_cache_flush(cache, text(a->tenant), &removed, error);
        if (status == RP_OK)
            printf("{\"removed\":%zu}\n", removed);
    } else {
        print_stats(a, cache);
    }
    return status;
}

static int
exit_of(rp_status status)
{
    return status == RP_OK                                       ? RP_EXIT_DONE
           : status == RP_ERR_INVALID || status == RP_ERR_NOT_FOUND ? RP_EXIT_USAGE
                                                                  : RP_EXIT_FAILED;
}

/* ---- the calls ---------------------------------------------------------------------------- */

static int
run_call(const call *c, const arguments *a)
{
    rp_error error = { { 0 } };
    if (a->data) {
        rp_cache *cache;
        rp_status status = open_cache(c, a, &cache, &error);
        if (status == RP_OK) {
            status = ask_store(c, a, cache, &error);
            rp_cache_close(cache);
        }
        return status == RP_OK || !error.text[0] ? exit_of(status) : fail(c, exit_of(status), error.text);
    }
    transfer t;
    rp_buffer body;
    start_transfer(&t);
    rp_buffer_init(&body, 0);
    const bool is_get = c->takes == 0;
    int exit_status = is_get || write_body(c, a, &body) ? RP_EXIT_DONE : RP_EXIT_USAGE;
    if (exit_status == RP_EXIT_DONE)
        exit_status = talk(c, a, is_get ? "GET" : "POST", "", rp_buffer_str(&body), &t);
    if (exit_status == RP_EXIT_DONE)
        exit_status = t.status / 100 == 2 ? print_reply(a, rp_buffer_str(&t.body))
                                          : report_refusal(c, &t);
    rp_buffer_fini(&body);
    end_transfer(&t);
    return exit_status;
}

static void
append_encoded(rp_buffer *out, const char *name, const char *value)
{
    if (!value)
        return;
    rp_buffer_printf(out, "%c%s=", out->len ? '&' : '?', name);
    for (; *value; value++)
        rp_buffer_printf(out, strchr("-._~", *value) || (*value >= '0' && *value <= '9') ||
                                      (*value >= 'A' && *value <= 'Z') || (*value >= 'a' && *value <= 'z')
                                  ? "%c" : "%%%02X", (unsigned char)*value);
}

static bool
write_piece(void *context, rp_str bytes)
{
    return fwrite(bytes.ptr, 1, bytes.len, context) == bytes.len;
}

static int
export_store(const call *c, const arguments *a, FILE *out)
{
    rp_cache *cache;
    rp_error error = { { 0 } };
    size_t exported = 0;
    rp_status status = open_cache(c, a, &cache, &error);
    if (status == RP_OK) {
        const rp_cache_export_options options = { selector_of(a), a->vectors };
        status = rp_cache_export(cache, &options, write_piece, out, &exported, &error);
        rp_cache_close(cache);
    }
    if (status != RP_OK)
        return fail(c, exit_of(status), error.text);
    fprintf(stderr, "%zu entries exported\n", exported);
    return RP_EXIT_DONE;
}

static int
run_export(const call *c, const arguments *a)
{
    FILE *out = stdout;
    if (a->file && strcmp(a->file, "-") != 0 && !(out = fopen(a->file, "w")))
        return fail(c, RP_EXIT_FAILED, "the file cannot be written");
    int exit_status;
    if (a->data) {
        exit_status = export_store(c, a, out);
    } else {
        transfer t;
        rp_buffer query;
        start_transfer(&t);
        rp_buffer_init(&query, 0);
        append_encoded(&query, "tenant", a->tenant);
        append_encoded(&query, "namespace", a->namespace_name);
        append_encoded(&query, "model", a->of_model);
        append_encoded(&query, "tag", a->tag);
        append_encoded(&query, "vectors", a->vectors ? "true" : NULL);
        rp_buffer_append_char(&query, '\0');
        t.out = out;
        exit_status = talk(c, a, "GET", query.ptr, (rp_str){ 0 }, &t);
        if (exit_status == RP_EXIT_DONE && t.status != 200)
            exit_status = report_refusal(c, &t);
        rp_buffer_fini(&query);
        end_transfer(&t);
    }
    if (fflush(out) != 0 || ferror(out))
        exit_status = fail(c, RP_EXIT_FAILED, "the export could not be written whole");
    if (out != stdout)
        fclose(out);
    return exit_status;
}

static int
import_store(const call *c, const arguments *a, FILE *in)
{
    rp_cache *cache;
    rp_error error = { { 0 } };
    rp_status status = open_cache(c, a, &cache, &error);
    if (status != RP_OK)
        return fail(c, exit_of(status), error.text);
    const rp_cache_import_options options = { a->trust_vectors };
    char *line = NULL;
    size_t capacity = 0, number = 0, imported = 0, expired = 0, refused = 0;
    ssize_t len;
    while ((len = getline(&line, &capacity, in)) > 0) {
        const rp_str row = rp_str_trimmed((rp_str){ line, (size_t)len });
        number++;
        if (row.len == 0)
            continue;
        status = rp_cache_import_line(cache, row, &options, &error);
        imported += status == RP_OK;
        expired += status == RP_ERR_STALE;
        if (status != RP_OK && status != RP_ERR_STALE && refused++ == 0)
            fprintf(stderr, "reprise %s: line %zu: %s\n", c->name, number, error.text);
    }
    free(line);
    rp_cache_close(cache);
    if (ferror(in))
        return fail(c, RP_EXIT_USAGE, "the file cannot be read");
    printf("{\"imported\":%zu,\"expired\":%zu,\"refused\":%zu}\n", imported, expired, refused);
    return refused ? RP_EXIT_FAILED : RP_EXIT_DONE;
}

/* As import_store: lines that were refused are a failure. */
static int
report_import(const arguments *a, rp_str json)
{
    rp_arena arena;
    rp_json_reader *reader = NULL;
    const rp_json *object = NULL;
    int64_t refused = 1;
    rp_arena_init(&arena, 0);
    if (rp_json_reader_new(&reader) == RP_OK &&
        rp_json_parse(reader, &arena, json, &object, NULL) == RP_OK)
        (void)rp_json_to_int64(rp_json_get(object, "refused"), &refused);
    rp_json_reader_free(reader);
    rp_arena_fini(&arena);
    print_reply(a, json);
    return refused ? RP_EXIT_FAILED : RP_EXIT_DONE;
}

static int
run_import(const call *c, const arguments *a)
{
    FILE *in = stdin;
    if (a->file && strcmp(a->file, "-") != 0 && !(in = fopen(a->file, "r")))
        return fail(c, RP_EXIT_USAGE, "the file cannot be read");
    int exit_status;
    if (a->data) {
        exit_status = import_store(c, a, in);
    } else {
        transfer t;
        start_transfer(&t);
        t.in = in;
        exit_status = talk(c, a, "POST", a->trust_vectors ? "?trust_vectors=true" : "", (rp_str){ 0 }, &t);
        if (exit_status == RP_EXIT_DONE)
            exit_status = t.status == 200 ? report_import(a, rp_buffer_str(&t.body)) : report_refusal(c, &t);
        end_transfer(&t);
    }
    if (in != stdin)
        fclose(in);
    return exit_status;
}

static void
show_progress(void *context, uint64_t done, uint64_t total)
{
    int64_t *start_us = context;
    const int64_t now_us = rp_clock_monotonic_us(&rp_clock_system);
    if (!isatty(STDERR_FILENO) || done == 0)
        return;
    const double left = (double)(now_us - *start_us) / 1e6 / (double)done * (double)(total - done);
    fprintf(stderr, "\r%llu of %llu entries, %.0f s left ", (unsigned long long)done,
            (unsigned long long)total, left);
    if (done == total)
        fputc('\n', stderr);
}

static int
run_reembed(const call *c, const arguments *a)
{
    rp_cache *cache;
    rp_error error = { { 0 } };
    if (!a->data)
        return fail(c, RP_EXIT_USAGE, "give the stopped server's folder: --data DIR");
    rp_status status = open_cache(c, a, &cache, &error);
    if (status == RP_OK) {
        int64_t start_us = rp_clock_monotonic_us(&rp_clock_system);
        status = rp_cache_reembed(cache, show_progress, &start_us, &error);
        rp_cache_close(cache);
    }
    return status == RP_OK ? RP_EXIT_DONE : fail(c, exit_of(status), error.text);
}

static const call calls[] = {
    { "lookup", "ask the cache without asking the service", TAKES_REQUEST, true, run_call },
    { "store", "put an answer into the cache", TAKES_REQUEST | TAKES_REPLY, false, run_call },
    { "explain", "tell why a request hits or misses", TAKES_REQUEST, true, run_call },
    { "feedback", "say whether an answer was right", TAKES_ENTRY, false, run_call },
    { "invalidate", "remove what matches; a dry run unless --confirm", TAKES_SELECTOR, false, run_call },
    { "flush", "remove everything", TAKES_CONFIRM, false, run_call },
    { "stats", "figures of the cache", 0, true, run_call },
    { "export", "entries as JSON lines", TAKES_FILE, true, run_export },
    { "import", "take entries from JSON lines", TAKES_FILE, false, run_import },
    { "reembed", "make the vectors of a store again with another encoder", TAKES_FILE, false, run_reembed },
};

static void
print_help(const call *c)
{
    printf("Usage: reprise %s [options]%s\n\n%s.\n\n"
           "  --admin URL          admin listener of a running server (http://127.0.0.1:8081)\n"
           "  --token TOKEN        its token ($REPRISE_ADMIN_TOKEN, or the file admin.token it made)\n"
           "  --data DIR           instead: a stopped server's folder\n"
           "  --model NAME|DIR     encoder, with --data (all-MiniLM-L6-v2; none: exact tier only)\n"
           "  --tenant NAME        whose entries\n"
           "  --namespace NAME\n"
           "  --json               JSON also on a terminal\n",
           c->name, c->takes & TAKES_FILE ? " [FILE]" : "", c->summary);
    if (c->takes & TAKES_REQUEST)
        puts("  --prompt TEXT        a bare prompt, or\n"
             "  --request FILE       the JSON body of a request, with\n"
             "  --path PATH          its path (/v1/chat/completions)\n"
             "  --category NAME, --user NAME, --max-age SECONDS, --min-similarity COSINE\n"
             "  --policy SPEC        with --data");
    if (c->takes & TAKES_REPLY)
        puts("  --reply TEXT         the answer of a bare prompt, or\n"
             "  --reply-file FILE    the JSON body of the reply\n"
             "  --ttl SECONDS, --tag TAG (may be repeated)");
    if (c->takes & TAKES_ENTRY)
        puts("  --entry ID or --request-id ID\n  --right, --wrong, --reason TEXT");
    if (c->takes & TAKES_SELECTOR)
        puts("  --entry ID, --tag TAG, --of-model GLOB, --older-than SECONDS\n  --confirm");
    if (c->takes & TAKES_CONFIRM)
        puts("  --confirm");
    if (c->run == run_export)
        puts("  --tag TAG, --of-model GLOB, --vectors");
    if (c->run == run_import)
        puts("  --trust-vectors      take vectors of the same fingerprint as they are");
}

enum {
    OPT_ADMIN = 256, OPT_TOKEN, OPT_DATA, OPT_MODEL, OPT_POLICY, OPT_TENANT, OPT_NAMESPACE, OPT_CATEGORY,
    OPT_USER, OPT_PATH, OPT_PROMPT, OPT_REQUEST, OPT_REPLY, OPT_REPLY_FILE, OPT_ENTRY, OPT_REQUEST_ID,
    OPT_TAG, OPT_OF_MODEL, OPT_REASON, OPT_TTL, OPT_OLDER, OPT_MAX_AGE, OPT_MIN_SIMILARITY, OPT_RIGHT,
    OPT_WRONG, OPT_CONFIRM, OPT_VECTORS, OPT_TRUST, OPT_JSON, OPT_HELP,
};

static const struct option options[] = {
    { "admin", 1, NULL, OPT_ADMIN },         { "token", 1, NULL, OPT_TOKEN },
    { "data", 1, NULL, OPT_DATA },           { "model", 1, NULL, OPT_MODEL },
    { "policy", 1, NULL, OPT_POLICY },       { "tenant", 1, NULL, OPT_TENANT },
    { "namespace", 1, NULL, OPT_NAMESPACE }, { "category", 1, NULL, OPT_CATEGORY },
    { "user", 1, NULL, OPT_USER },           { "path", 1, NULL, OPT_PATH },
    { "prompt", 1, NULL, OPT_PROMPT },       { "request", 1, NULL, OPT_REQUEST },
    { "reply", 1, NULL, OPT_REPLY },         { "reply-file", 1, NULL, OPT_REPLY_FILE },
    { "entry", 1, NULL, OPT_ENTRY },         { "request-id", 1, NULL, OPT_REQUEST_ID },
    { "tag", 1, NULL, OPT_TAG },             { "of-model", 1, NULL, OPT_OF_MODEL },
    { "reason", 1, NULL, OPT_REASON },       { "ttl", 1, NULL, OPT_TTL },
    { "older-than", 1, NULL, OPT_OLDER },    { "max-age", 1, NULL, OPT_MAX_AGE },
    { "min-similarity", 1, NULL, OPT_MIN_SIMILARITY }, { "right", 0, NULL, OPT_RIGHT },
    { "wrong", 0, NULL, OPT_WRONG },         { "confirm", 0, NULL, OPT_CONFIRM },
    { "vectors", 0, NULL, OPT_VECTORS },     { "trust-vectors", 0, NULL, OPT_TRUST },
    { "json", 0, NULL, OPT_JSON },           { "help", 0, NULL, OPT_HELP },
    { 0 },
};

/* 0 would be read as "not given": older than nothing is everything. */
static bool
take_seconds(const char *value, uint64_t *out)
{
    return rp_str_to_u64(rp_str_of(value), out) && *out > 0;
}

/* What names whose or which entries; an empty one (a variable of a script that is not set)
 * would mean all of them. */
static bool
take_name(const char *value, const char **out)
{
    *out = value;
    return *value != '\0';
}

static bool
take_cosine(const char *value, double *out)
{
    return rp_str_to_double(rp_str_of(value), out) && *out >= -1 && *out <= 1;
}

/* False: the option's value is not one. */
static bool
take_option(int option, const char *value, arguments *a)
{
    switch (option) {
    case OPT_ADMIN: a->admin = value; return true;
    case OPT_TOKEN: a->token = value; return true;
    case OPT_DATA: return take_name(value, &a->data);
    case OPT_MODEL: a->model = value; return true;
    case OPT_POLICY: a->policy = value; return true;
    case OPT_TENANT: return take_name(value, &a->tenant);
    case OPT_NAMESPACE: return take_name(value, &a->namespace_name);
    case OPT_CATEGORY: a->category = value; return true;
    case OPT_USER: a->user = value; return true;
    case OPT_PATH: a->path = value; return true;
    case OPT_PROMPT: a->prompt = value; return true;
    case OPT_REQUEST: a->request_file = value; return true;
    case OPT_REPLY: a->reply = value; return true;
    case OPT_REPLY_FILE: a->reply_file = value; return true;
    case OPT_ENTRY: return take_name(value, &a->entry);
    case OPT_REQUEST_ID: return take_name(value, &a->request_id);
    case OPT_TAG:
        if (!take_name(value, &a->tag) || a->tag_count == TAGS_MAX)
            return false;
        a->tags[a->tag_count++] = value;
        return true;
    case OPT_OF_MODEL: return take_name(value, &a->of_model);
    case OPT_REASON: a->reason = value; return true;
    case OPT_TTL: return take_seconds(value, &a->ttl_seconds);
    case OPT_OLDER: return take_seconds(value, &a->older_than_seconds);
    case OPT_MAX_AGE: return take_seconds(value, &a->max_age_seconds);
    case OPT_MIN_SIMILARITY: return take_cosine(value, &a->min_similarity);
    case OPT_RIGHT: a->right = true; return true;
    case OPT_WRONG: a->wrong = true; return true;
    case OPT_CONFIRM: a->confirm = true; return true;
    case OPT_VECTORS: a->vectors = true; return true;
    case OPT_TRUST: a->trust_vectors = true; return true;
    default: a->json = true; return true;
    }
}

int
rp_command_client(int argc, char **argv)
{
    const call *c = calls;
    while (strcmp(c->name, argv[0]) != 0)
        c++; /* main.c's table has no other names */
    arguments a = { .admin = "http://127.0.0.1:8081", .model = "all-MiniLM-L6-v2",
                    .min_similarity = NAN };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == OPT_HELP) {
            print_help(c);
            return RP_EXIT_DONE;
        }
        if (option == '?') {
            fprintf(stderr, "Try `reprise %s --help`.\n", c->name);
            return RP_EXIT_USAGE;
        }
        if (!take_option(option, optarg, &a)) {
            fprintf(stderr, "reprise %s: '%s' is no value for that option; see --help\n", c->name, optarg);
            return RP_EXIT_USAGE;
        }
    }
    if (optind < argc && (c->takes & TAKES_FILE))
        a.file = argv[optind++];
    if (optind < argc) {
        fprintf(stderr, "reprise %s: unexpected argument '%s'\n", c->name, argv[optind]);
        return RP_EXIT_USAGE;
    }
    return c->run(c, &a);
}
