/* results.c - see results.h. */
#include "eval/results.h"

#include "base/bytes.h"
#include "base/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { ARENA_SIZE_MAX = 1 << 30 };

void
rp_results_init(rp_results *results)
{
    *results = (rp_results){ 0 };
    rp_arena_init(&results->arena, ARENA_SIZE_MAX);
}

void
rp_results_fini(rp_results *results)
{
    free(results->rows);
    free(results->runs);
    rp_arena_fini(&results->arena);
}

double
rp_result_number(const rp_json *row, const char *name)
{
    double value;
    return rp_json_to_double(rp_json_get(row, name), &value) ? value : (double)NAN;
}

rp_str
rp_result_string(const rp_json *row, const char *name)
{
    const rp_str text = rp_json_string(rp_json_get(row, name));
    return text.ptr ? text : (rp_str){ "", 0 };
}

void
rp_result_interval(const rp_json *row, const char *name, double *low, double *high)
{
    char member[80];
    snprintf(member, sizeof member, "%s_95", name);
    const rp_json *pair = rp_json_get(row, member);
    *low = *high = (double)NAN;
    if (!pair || pair->type != RP_JSON_ARRAY || pair->count != 2 ||
        !rp_json_to_double(&pair->children[0], low) ||
        !rp_json_to_double(&pair->children[1], high) || *low > *high)
        *low = *high = (double)NAN;
}

static bool
has(const rp_json *row, const char *name)
{
    return rp_json_get(row, name) != NULL;
}

static rp_result_kind
kind_of(const rp_json *row)
{
    if (has(row, "record") && (has(row, "asr") || has(row, "mean_similarity") || has(row, "auc") ||
                               has(row, "refused_rate") || has(row, "benign_pairs")))
        return RP_RESULT_ATTACK;
    if (has(row, "policy") && has(row, "thresholds"))
        return RP_RESULT_SWEEP;
    if (has(row, "policy") && has(row, "frontiers"))
        return RP_RESULT_FRONTIER;
    if (has(row, "policy") && has(row, "error_mean") && has(row, "error_worst"))
        return RP_RESULT_BOUND;
    if (has(row, "policy") && has(row, "hit_rate") && has(row, "requests"))
        return RP_RESULT_POLICY;
    if (has(row, "p_chr_auc") && has(row, "auc"))
        return RP_RESULT_PAIRS;
    if (has(row, "class") && has(row, "tokens") && has(row, "ms"))
        return RP_RESULT_EMBED;
    if (has(row, "count") && has(row, "search_us") && has(row, "recall_at_1"))
        return RP_RESULT_SEARCH;
    return RP_RESULT_OTHER;
}

/* Room for one more; NULL if there is none. */
static void *
grow(void *rows, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return rows;
    const size_t wanted = *capacity ? 2 * *capacity : 64;
    void *grown = realloc(rows, wanted * size);
    if (grown)
        *capacity = wanted;
    return grown;
}

static rp_status
add_row(rp_results *results, const rp_json *json, rp_error *error)
{
    rp_result_run *run = &results->runs[results->run_count - 1];
    const rp_json *about = rp_json_get(json, "about");
    if (about && about->type == RP_JSON_OBJECT && !run->about && !run->known && !run->unknown) {
        run->about = about;
        return RP_OK;
    }
    const rp_result_kind kind = kind_of(json);
    *(kind == RP_RESULT_OTHER ? &run->unknown : &run->known) += 1;
    if (kind == RP_RESULT_OTHER)
        return RP_OK;
    if (results->row_count == RP_RESULT_ROWS_MAX)
        return rp_fail(error, RP_ERR_LIMIT, "more than %d results are too many for one report",
                       RP_RESULT_ROWS_MAX);
    rp_result_row *rows = grow(results->rows, results->row_count, &results->row_capacity,
                               sizeof *rows);
    if (!rows)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for more results");
    results->rows = rows;
    rows[results->row_count++] = (rp_result_row){ kind, (uint32_t)(results->run_count - 1), json };
    results->counts[kind]++;
    return RP_OK;
}

static rp_status
add_run(rp_results *results, const char *name, rp_error *error)
{
    rp_result_run *runs = grow(results->runs, results->run_count, &results->run_capacity,
                               sizeof *runs);
    const rp_str path = rp_arena_copy(&results->arena, rp_str_of(name));
    if (runs)
        results->runs = runs;
    if (!runs || !path.ptr)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for one more file of results");
    runs[results->run_count++] = (rp_result_run){ .path = path };
    return RP_OK;
}

static rp_status
parse_lines(rp_results *results, rp_json_reader *reader, const char *name, rp_str rest,
            rp_error *error)
{
    rp_status status = RP_OK;
    for (size_t line = 1; !status && rest.len; line++) {
        const rp_str text = rp_str_trimmed(rp_str_split(&rest, '\n'));
        const rp_json *json;
        rp_error why = { { 0 } };
        if (!text.len)
            continue;
        status = rp_json_parse(reader, &results->arena, text, &json, &why);
        if (status)
            return rp_fail(error, status, "%s:%zu: %s", name, line, why.text);
        if (json->type != RP_JSON_OBJECT)
            return rp_fail(error, RP_ERR_INVALID, "%s:%zu: this is no JSON object", name, line);
        status = add_row(results, json, error);
    }
    return status;
}

rp_status
rp_results_parse(rp_results *results, const char *name, rp_str text, rp_error *error)
{
    rp_json_reader *reader;
    rp_status status = add_run(results, name, error);
    if (status)
        return status;
    if ((status = rp_json_reader_new(&reader)))
        return rp_fail(error, status, "no memory for a JSON reader");
    status = parse_lines(results, reader, name, text, error);
    rp_json_reader_free(reader);
    const rp_result_run *run = &results->runs[results->run_count - 1];
    /* A recorded command that prints nothing (make-stream) is still worth telling of. */
    if (!status && !run->known && !(run->about && !run->unknown))
        status = rp_fail(error, RP_ERR_INVALID,
                         "%s: no result of eval pairs, eval stream, eval attack, bench embed or "
                         "bench search (with --json) is in it", name);
    return status;
}

rp_status
rp_results_read(rp_results *results, const char *path, rp_error *error)
{
    rp_file_map map;
    rp_status status = rp_file_map_open(path, &map, error);
    if (status) /* a folder, a device: an input that cannot be used */
        return status == RP_ERR_IO ? RP_ERR_INVALID : status;
    status = rp_results_parse(results, path, (rp_str){ map.ptr, map.len }, error);
    rp_file_map_close(&map);
    return status;
}
