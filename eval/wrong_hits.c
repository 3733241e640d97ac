/* wrong_hits.c - see wrong_hits.h. */
#include "eval/wrong_hits.h"

#include "base/bytes.h"
#include "base/file.h"
#include "eval/results.h"
#include "eval/stream.h"

#include <math.h>

/* Keep `hit` if it belongs among the first; equal similarities in order of appearance. */
static rp_status
offer(rp_wrong_hits *out, const rp_wrong_hit *hit)
{
    size_t at = out->count;
    for (size_t i = 0; i < out->count; i++)
        if (out->hits[i].request == hit->request && out->hits[i].matched == hit->matched)
            return RP_OK;
    while (at && out->hits[at - 1].similarity < hit->similarity)
        at--;
    if (at == RP_WRONG_HITS_MAX)
        return RP_OK;
    rp_wrong_hit kept = *hit;
    kept.policy = rp_arena_copy(&out->arena, hit->policy);
    if (!kept.policy.ptr)
        return RP_ERR_NOMEM;
    out->count += out->count < RP_WRONG_HITS_MAX;
    memmove(out->hits + at + 1, out->hits + at, (out->count - 1 - at) * sizeof *out->hits);
    out->hits[at] = kept;
    return RP_OK;
}

static rp_status
take_decision(rp_wrong_hits *out, const rp_json *json, const char *path, size_t line,
              rp_error *error)
{
    const rp_json *right = rp_json_get(json, "right");
    int64_t request, matched;
    if (!rp_str_equal(rp_result_string(json, "tier"), RP_STR("semantic")))
        return RP_OK;
    out->seen++;
    if (!right || right->type != RP_JSON_BOOL || right->boolean)
        return RP_OK;
    out->wrong++;
    const rp_wrong_hit hit = { .policy = rp_result_string(json, "policy"),
                               .similarity = rp_result_number(json, "similarity") };
    if (!rp_json_to_int64(rp_json_get(json, "i"), &request) || request < 0 ||
        !rp_json_to_int64(rp_json_get(json, "matched_i"), &matched) || matched < 0 ||
        !isfinite(hit.similarity))
        return rp_fail(error, RP_ERR_INVALID, "%s:%zu: a hit without i, matched_i or similarity",
                       path, line);
    rp_wrong_hit numbered = hit;
    numbered.request = (uint64_t)request;
    numbered.matched = (uint64_t)matched;
    const rp_status status = offer(out, &numbered);
    return status ? rp_fail(error, status, "no memory for wrong hits") : RP_OK;
}

static rp_status
read_decisions(const char *path, rp_wrong_hits *out, rp_error *error)
{
    rp_file_map map;
    rp_json_reader *reader;
    rp_arena arena;
    rp_status status = rp_file_map_open(path, &map, error);
    if (status)
        return status == RP_ERR_IO ? RP_ERR_INVALID : status;
    if ((status = rp_json_reader_new(&reader))) {
        rp_file_map_close(&map);
        return rp_fail(error, status, "no memory for a JSON reader");
    }
    rp_arena_init(&arena, 0);
    rp_str rest = { map.ptr, map.len };
    for (size_t line = 1; !status && rest.len; line++) {
        const rp_str text = rp_str_trimmed(rp_str_split(&rest, '\n'));
        const rp_json *json;
        rp_error why = { { 0 } };
        rp_arena_reset(&arena);
        if (!text.len)
            continue;
        if ((status = rp_json_parse(reader, &arena, text, &json, &why)))
            rp_fail(error, status, "%s:%zu: %s", path, line, why.text);
        else
            status = take_decision(out, json, path, line, error);
    }
    rp_arena_fini(&arena);
    rp_json_reader_free(reader);
    rp_file_map_close(&map);
    return status;
}

static rp_status
fill_texts(const char *path, rp_wrong_hits *out, rp_error *error)
{
    rp_stream stream;
    rp_status status = rp_stream_read(path, &stream, error);
    if (status)
        return status;
    for (size_t i = 0; !status && i < out->count; i++) {
        rp_wrong_hit *hit = &out->hits[i];
        if (hit->request >= stream.count || hit->matched >= stream.count) {
            status = rp_fail(error, RP_ERR_INVALID, "%.*s speaks of line %llu, but %s has %zu: these "
                             "are decisions of another stream", RP_FMT(out->decisions),
                             (unsigned long long)RP_MAX(hit->request, hit->matched), path,
                             stream.count);
            break;
        }
        hit->request_text = rp_arena_copy(&out->arena,
                                          stream.texts.texts[stream.rows[hit->request].text]);
        hit->matched_text = rp_arena_copy(&out->arena,
                                          stream.texts.texts[stream.rows[hit->matched].text]);
        if (!hit->request_text.ptr || !hit->matched_text.ptr)
            status = rp_fail(error, RP_ERR_NOMEM, "no memory for texts");
    }
    rp_stream_fini(&stream);
    return status;
}

rp_status
rp_wrong_hits_read(const char *decisions, const char *stream, rp_wrong_hits *out, rp_error *error)
{
    *out = (rp_wrong_hits){ .decisions = rp_str_of(decisions),
                            .stream = rp_str_of(stream ? stream : "") };
    rp_arena_init(&out->arena, 0);
    rp_status status = read_decisions(decisions, out, error);
    if (!status && stream)
        status = fill_texts(stream, out, error);
    if (status)
        rp_wrong_hits_fini(out);
    return status;
}

void
rp_wrong_hits_fini(rp_wrong_hits *wrong)
{
    rp_arena_fini(&wrong->arena);
    wrong->count = 0;
}
