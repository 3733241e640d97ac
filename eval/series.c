/* series.c - see series.h. */
#include "eval/series.h"

#include "base/bytes.h"
#include "eval/metrics.h"
#include "eval/text_set.h"

#include <math.h>
#include <stdlib.h>

static const char *const families[RP_STYLES] = {
    "exact", "static", "dual", "verified", "verified-plus", "calibrated", "adaptive", "judge",
    "cascade", "krites", "verified-*", "others",
};

const char *
rp_series_family(unsigned style)
{
    return families[style % RP_STYLES];
}

static unsigned
style_of(rp_str policy)
{
    const rp_str name = rp_str_split(&policy, ':');
    for (unsigned i = 0; i < RP_STYLES - 2; i++)
        if (rp_str_equal(name, rp_str_of(families[i])))
            return i;
    return rp_str_starts_with(name, RP_STR("verified-")) ? RP_STYLES - 2 : RP_STYLES - 1;
}

/* ---- names ------------------------------------------------------------------------------------ */

rp_str
rp_series_file_name(rp_str path)
{
    rp_str name = path;
    while (path.len)
        name = rp_str_split(&path, '/');
    static const char *const endings[] = { ".jsonl", ".json" };
    for (size_t i = 0; i < RP_COUNT(endings); i++)
        if (rp_str_ends_with(name, rp_str_of(endings[i])))
            name.len -= strlen(endings[i]);
    return name;
}

/* A row of an older program does not say its file: the file of results stands for it. */
static rp_str
file_of(const rp_results *results, const rp_result_row *row)
{
    const rp_str file = rp_result_string(row->json, "file");
    return file.len ? file : results->runs[row->run].path;
}

static rp_status
add_stream(rp_series_set *set, rp_str file, double requests, uint32_t *out)
{
    size_t at = 0;
    while (at < set->stream_count && !rp_str_equal(set->streams[at].file, file))
        at++;
    if (at == RP_STREAMS_MAX)
        return RP_ERR_LIMIT;
    if (at == set->stream_count) {
        const rp_str name = rp_series_file_name(file);
        bool taken = name.len == 0;
        for (size_t i = 0; i < at; i++)
            taken |= rp_str_equal(set->streams[i].name, name);
        set->streams[set->stream_count++] = (rp_stream_name){ .file = file,
                                                              .name = taken ? file : name };
    }
    if (requests > set->streams[at].requests)
        set->streams[at].requests = requests;
    *out = (uint32_t)at;
    return RP_OK;
}

/* "static:min_similarity=.95" reads as "static .95". */
static void
put_spec(rp_buffer *out, rp_str spec)
{
    static const char key[] = "min_similarity=";
    const rp_str name = rp_str_split(&spec, ':');
    rp_buffer_append(out, name);
    while (spec.len) {
        rp_str part = rp_str_split(&spec, ',');
        if (rp_str_starts_with(part, RP_STR(key)))
            part = (rp_str){ part.ptr + sizeof key - 1, part.len - (sizeof key - 1) };
        rp_buffer_append_char(out, ' ');
        rp_buffer_append(out, part);
    }
}

/* Settings beyond gates and labels that an operator would call another experiment. */
static const char *const settings[] = {
    "capacity", "evict", "warm", "ttl", "label_delay", "judge_error", "template",
};

static void
put_settings(rp_buffer *out, const rp_json *row)
{
    for (size_t i = 0; i < RP_COUNT(settings); i++) {
        const rp_json *value = rp_json_get(row, settings[i]);
        double number;
        if (!value || value->type == RP_JSON_NULL || value->type == RP_JSON_ARRAY ||
            value->type == RP_JSON_OBJECT || (rp_json_to_double(value, &number) && number == 0))
            continue;
        rp_buffer_append_char(out, ' ');
        rp_buffer_append(out, rp_str_of(settings[i]));
        rp_buffer_append_char(out, ' ');
        if (value->type == RP_JSON_STRING)
            rp_buffer_append(out, value->string);
        else
            rp_json_write(value, out);
    }
}

/* ---- putting together ---------------------------------------------------------------------------- */

/* Of `eval stream` where nobody names another. */
static const double usual_bound = 0.01;

static rp_str
or_else(rp_str text, const char *usual)
{
    return text.len ? text : rp_str_of(usual);
}

static rp_status
fill_names(rp_series_set *set, rp_series *s)
{
    const rp_str title = rp_result_string(s->first, "title");
    const double bound = rp_result_number(s->first, "error_max");
    rp_buffer text;
    rp_buffer_init(&text, 0);
    if (title.len)
        rp_buffer_append(&text, title);
    else
        put_spec(&text, s->policy);
    if (bound > 0 && fabs(bound - usual_bound) > 1e-12)
        rp_buffer_printf(&text, ", bound %.4g %%", 100 * bound);
    /* A system of the field has the gates that it has. */
    if (!title.len && rp_str_equal(s->gates, RP_STR("off")))
        rp_buffer_append(&text, RP_STR(", no gates"));
    else if (!title.len && !rp_str_equal(s->gates, RP_STR("on")))
        rp_buffer_printf(&text, ", %.*s gates", RP_FMT(s->gates));
    if (!rp_str_equal(s->labels, RP_STR("miss")))
        rp_buffer_printf(&text, ", labels %.*s", RP_FMT(s->labels));
    s->label = rp_arena_copy(&set->arena, rp_buffer_str(&text));
    const bool failed = rp_buffer_failed(&text) || !s->label.ptr;
    rp_buffer_fini(&text);
    return failed ? RP_ERR_NOMEM : RP_OK;
}

/* The members that make two rows orders of one series. */
static void
put_key(rp_buffer *key, const rp_json *row, uint32_t stream)
{
    static const char *const members[] = { "policy", "gates", "labels", "order", "category" };
    rp_buffer_clear(key);
    rp_buffer_append_le32(key, stream);
    for (size_t i = 0; i < RP_COUNT(members); i++) {
        const rp_str value = rp_result_string(row, members[i]);
        rp_buffer_append_le64(key, value.len);
        rp_buffer_append(key, value);
    }
    rp_buffer_printf(key, "%.9g", rp_result_number(row, "error_max"));
    put_settings(key, row);
}

static rp_status
start_series(rp_series_set *set, const rp_json *row, uint32_t stream)
{
    rp_series *s = &set->series[set->count++];
    rp_buffer setting;
    rp_buffer_init(&setting, 0);
    put_settings(&setting, row);
    *s = (rp_series){ .stream = stream, .policy = rp_result_string(row, "policy"),
                      .gates = or_else(rp_result_string(row, "gates"), "on"),
                      .labels = or_else(rp_result_string(row, "labels"), "miss"),
                      .order = or_else(rp_result_string(row, "order"), "file"),
                      .category = or_else(rp_result_string(row, "category"), "*"),
                      .first = row };
    s->setting = rp_arena_copy(&set->arena, rp_str_trimmed(rp_buffer_str(&setting)));
    s->style = style_of(s->policy);
    const bool failed = rp_buffer_failed(&setting) || !s->setting.ptr;
    rp_buffer_fini(&setting);
    return failed ? RP_ERR_NOMEM : fill_names(set, s);
}

/* Sum and range; divided by the orders at the end. */
static void
add_figure(rp_figure *figure, double value, size_t orders)
{
    figure->value = orders ? figure->value + value : value;
    figure->low = orders && figure->low < value ? figure->low : value;
    figure->high = orders && figure->high > value ? figure->high : value;
}

static double
share(double part, double whole)
{
    return whole > 0 ? part / whole : (double)NAN;
}

/* A program that has no account of its own still gives the two sums. */
static double
reduction_of(const rp_json *row)
{
    const double said = rp_result_number(rp_json_get(row, "cost"), "reduction");
    return isfinite(said) ? said
                          : share(rp_result_number(row, "cost_saved"),
                                  rp_result_number(row, "cost_all"));
}

static void
add_order(rp_series *s, const rp_json *row)
{
    const double n = rp_result_number(row, "requests");
    const double exact = rp_result_number(row, "exact_hits");
    const double exact_wrong = rp_result_number(row, "exact_wrong");
    const double hits = rp_result_number(row, "hits"), wrong = rp_result_number(row, "wrong_hits");
    s->requests += n;
    s->exact_hits += exact;
    s->exact_wrong += exact_wrong;
    s->hits += hits;
    s->wrong_hits += wrong;
    add_figure(&s->hit_rate, share(hits, n), s->orders);
    add_figure(&s->error, share(wrong, n), s->orders);
    add_figure(&s->hit_error, share(wrong, hits), s->orders);
    add_figure(&s->chr, share(hits + exact, n), s->orders);
    add_figure(&s->rer, share(wrong + exact_wrong, n), s->orders);
    add_figure(&s->reduction, reduction_of(row), s->orders);
    add_figure(&s->p99_cut, rp_result_number(rp_json_get(row, "latency"), "p99_reduction"),
               s->orders);
    s->orders++;
}

/* A count that a hostile file may have made anything. */
static uint64_t
count_of(double value)
{
    return value >= 0 && value < 9e15 ? (uint64_t)value : 0;
}

static rp_figure
binomial(double part, double whole, bool exact)
{
    const uint64_t k = count_of(part), n = count_of(whole);
    rp_figure figure = { share(part, whole), (double)NAN, (double)NAN };
    if (!n || k > n)
        return figure;
    const rp_interval interval = exact ? rp_clopper_pearson(k, n, 0.95) : rp_wilson(k, n, 0.95);
    figure.low = interval.low;
    figure.high = interval.high;
    return figure;
}

static void
finish(rp_series *s)
{
    rp_figure *const figures[] = { &s->hit_rate, &s->error, &s->hit_error, &s->chr, &s->rer,
                                   &s->reduction, &s->p99_cut };
    for (size_t i = 0; i < RP_COUNT(figures); i++) {
        figures[i]->value /= (double)s->orders;
        if (s->orders == 1)
            figures[i]->low = figures[i]->high = (double)NAN;
    }
    /* Of hits: an order without hits has no such share, so the sums decide. */
    s->hit_error = binomial(s->wrong_hits, s->hits, true);
    if (s->orders > 1)
        return;
    s->hit_rate = binomial(s->hits, s->requests, false);
    s->error = binomial(s->wrong_hits, s->requests, true);
    s->chr = binomial(s->hits + s->exact_hits, s->requests, false);
    s->rer = binomial(s->wrong_hits + s->exact_wrong, s->requests, true);
}

static rp_status
add_row(const rp_results *results, const rp_result_row *row, rp_text_set *keys, rp_buffer *key,
        rp_series_set *set)
{
    uint32_t stream, at;
    rp_status status = add_stream(set, file_of(results, row),
                                  rp_result_number(row->json, "requests"), &stream);
    if (status)
        return status;
    if (row->kind == RP_RESULT_SWEEP) {
        set->sweeps[set->sweep_count++] = (rp_sweep_row){
            stream, or_else(rp_result_string(row->json, "gates"), "on"), row->json };
        return RP_OK;
    }
    put_key(key, row->json, stream);
    status = rp_buffer_failed(key) ? RP_ERR_NOMEM
                                   : rp_text_set_add(keys, rp_buffer_str(key), &at);
    if (!status && at == set->count)
        status = start_series(set, row->json, stream);
    if (!status)
        add_order(&set->series[at], row->json);
    return status;
}

static rp_status
add_rows(const rp_results *results, rp_series_set *set)
{
    rp_text_set keys;
    rp_buffer key;
    rp_text_set_init(&keys);
    rp_buffer_init(&key, 0);
    rp_status status = RP_OK;
    for (size_t i = 0; !status && i < results->row_count; i++)
        if (results->rows[i].kind == RP_RESULT_POLICY || results->rows[i].kind == RP_RESULT_SWEEP)
            status = add_row(results, &results->rows[i], &keys, &key, set);
    rp_text_set_fini(&keys);
    rp_buffer_fini(&key);
    return status;
}

rp_status
rp_series_build(const rp_results *results, rp_series_set *out)
{
    rp_series_set set = { 0 };
    rp_arena_init(&set.arena, 0);
    set.series = calloc(results->row_count + 1, sizeof *set.series);
    set.sweeps = calloc(results->row_count + 1, sizeof *set.sweeps);
    set.streams = calloc(RP_STREAMS_MAX, sizeof *set.streams);
    rp_status status = set.series && set.sweeps && set.streams ? add_rows(results, &set)
                                                               : RP_ERR_NOMEM;
    for (size_t i = 0; i < set.count; i++) {
        rp_series *s = &set.series[i];
        finish(s);
        if (!set.streams[s->stream].first && rp_str_equal(s->category, RP_STR("*")))
            set.streams[s->stream].first = s;
    }
    *out = set;
    if (status)
        rp_series_fini(out);
    return status;
}

void
rp_series_fini(rp_series_set *set)
{
    free(set->series);
    free(set->streams);
    free(set->sweeps);
    rp_arena_fini(&set->arena);
    *set = (rp_series_set){ 0 };
}
