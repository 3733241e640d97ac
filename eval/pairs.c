/* pairs.c - see pairs.h. */
#include "eval/pairs.h"

#include "base/bytes.h"
#include "evidence/gates.h"

#include <math.h>
#include <stdlib.h>

/* ---- reading --------------------------------------------------------------------------- */

void
rp_pairs_fini(rp_pairs *pairs)
{
    rp_text_set_fini(&pairs->texts);
    rp_text_set_fini(&pairs->categories);
    free(pairs->rows);
    *pairs = (rp_pairs){ 0 };
}

static rp_str
take_line(rp_str *rest)
{
    rp_str line = rp_str_split(rest, '\n');
    if (line.len && line.ptr[line.len - 1] == '\r')
        line.len--;
    return line;
}

static rp_status
add_pair(rp_pairs *pairs, const rp_str fields[4])
{
    if (pairs->count == pairs->capacity) {
        const size_t capacity = pairs->capacity ? 2 * pairs->capacity : 1024;
        rp_pair *rows = realloc(pairs->rows, capacity * sizeof *rows);
        if (!rows)
            return RP_ERR_NOMEM;
        pairs->rows = rows;
        pairs->capacity = capacity;
    }
    rp_pair pair = { .positive = !pairs->graded && fields[0].ptr[0] == '1' };
    if (pairs->graded && !rp_str_to_double(fields[0], &pair.grade))
        return RP_ERR_INVALID; /* read_row has looked */
    rp_status status = rp_text_set_add(&pairs->categories, fields[1], &pair.category);
    if (!status)
        status = rp_text_set_add(&pairs->texts, fields[2], &pair.a);
    if (!status)
        status = rp_text_set_add(&pairs->texts, fields[3], &pair.b);
    if (!status)
        pairs->rows[pairs->count++] = pair;
    return status;
}

static bool
is_grade(rp_str label)
{
    double grade;
    return label.len <= 16 && rp_str_to_double(label, &grade) && fabs(grade) <= 1000;
}

static rp_status
read_row(rp_pairs *pairs, const char *path, size_t number, rp_str line, rp_error *error)
{
    rp_str fields[4];
    size_t count = 1;
    for (size_t i = 0; i < line.len; i++)
        count += line.ptr[i] == '\t';
    if (count != 4)
        return rp_fail(error, RP_ERR_INVALID,
                       "%s:%zu: %zu fields between tabs; wanted 4 (label, category, text_a, text_b)",
                       path, number, line.len ? count : 0);
    for (size_t i = 0; i < 4; i++)
        fields[i] = rp_str_split(&line, '\t');
    const rp_str label = fields[0];
    if (pairs->count == 0)
        pairs->graded = is_grade(label) && memchr(label.ptr, '.', label.len);
    if (pairs->graded && !is_grade(label))
        return rp_fail(error, RP_ERR_INVALID, "%s:%zu: the label is no number among grades", path,
                       number);
    if (!pairs->graded && (label.len != 1 || (label.ptr[0] != '0' && label.ptr[0] != '1')))
        return rp_fail(error, RP_ERR_INVALID,
                       "%s:%zu: the label is neither 0 nor 1 (grades begin with one that has a "
                       "decimal point)", path, number);
    for (size_t i = 2; i < 4; i++)
        if (fields[i].len > RP_TEXT_SIZE_MAX)
            return rp_fail(error, RP_ERR_LIMIT, "%s:%zu: a text is longer than %d bytes", path,
                           number, RP_TEXT_SIZE_MAX);
    const rp_status status = add_pair(pairs, fields);
    if (status)
        return rp_fail(error, status, "%s:%zu: no memory for more pairs", path, number);
    return RP_OK;
}

static uint32_t
root_of(uint32_t *parents, uint32_t at)
{
    while (parents[at] != at)
        at = parents[at] = parents[parents[at]];
    return at;
}

/* Pairs that share a text are one group, through any number of steps. */
static rp_status
fill_groups(rp_pairs *pairs)
{
    const size_t count = pairs->texts.count;
    uint32_t *parents = calloc(count + 1, sizeof *parents), *names = calloc(count + 1, sizeof *names);
    if (parents && names) {
        for (size_t i = 0; i < count; i++)
            parents[i] = (uint32_t)i;
        for (size_t i = 0; i < pairs->count; i++)
            parents[root_of(parents, pairs->rows[i].a)] = root_of(parents, pairs->rows[i].b);
        for (size_t i = 0; i < pairs->count; i++) {
            uint32_t *name = &names[root_of(parents, pairs->rows[i].a)];
            if (!*name)
                *name = (uint32_t)++pairs->group_count;
            pairs->rows[i].group = *name - 1;
        }
    }
    const rp_status status = parents && names ? RP_OK : RP_ERR_NOMEM;
    free(parents);
    free(names);
    return status;
}

static rp_status
read_rows(rp_str rest, const char *path, rp_pairs *out, rp_error *error)
{
    const rp_str header = RP_STR("label\tcategory\ttext_a\ttext_b");
    rp_str first = take_line(&rest);
    if (rp_str_starts_with(first, RP_STR("\xEF\xBB\xBF"))) /* a byte order mark */
        first = (rp_str){ first.ptr + 3, first.len - 3 };
    if (!rp_str_equal(first, header))
        return rp_fail(error, RP_ERR_INVALID,
                       "%s:1: the first line must be label, category, text_a, text_b with tabs "
                       "between them", path);
    rp_status status = RP_OK;
    for (size_t number = 2; !status && rest.len; number++)
        status = read_row(out, path, number, take_line(&rest), error);
    if (!status && out->count == 0)
        status = rp_fail(error, RP_ERR_INVALID, "%s: there are no pairs in it", path);
    if (!status && (status = fill_groups(out)))
        rp_fail(error, status, "%s: no memory for its groups", path);
    return status;
}

rp_status
rp_pairs_read(const char *path, rp_pairs *out, rp_error *error)
{
    rp_file_map map;
    rp_status status = rp_file_map_open(path, &map, error);
    if (status) /* a folder, a device: an input that cannot be used, whatever the system said */
        return status == RP_ERR_IO ? RP_ERR_INVALID : status;
    *out = (rp_pairs){ 0 };
    rp_text_set_init(&out->texts);
    rp_text_set_init(&out->categories);
    status = map.len ? read_rows((rp_str){ map.ptr, map.len }, path, out, error)
                     : rp_fail(error, RP_ERR_INVALID, "%s: the file is empty", path);
    rp_file_map_close(&map);
    if (status)
        rp_pairs_fini(out);
    return status;
}

/* ---- scores ---------------------------------------------------------------------------- */

void
rp_pairs_score(const rp_pairs *pairs, const rp_vectors *vectors, double *scores)
{
    for (size_t i = 0; i < pairs->count; i++)
        scores[i] = rp_vectors_similarity(vectors, pairs->rows[i].a, pairs->rows[i].b);
}

rp_status
rp_pairs_add_gates(const rp_pairs *pairs, double penalty, double *scores, size_t *fired)
{
    const rp_gate_options options = { .enabled = RP_GATES_DEFAULT };
    rp_arena arena;
    rp_status status = RP_OK;
    rp_arena_init(&arena, 0);
    *fired = 0;
    for (size_t i = 0; !status && i < pairs->count; i++) {
        const rp_features *a, *b;
        rp_gate_report report;
        rp_arena_reset(&arena);
        status = rp_features_new(pairs->texts.texts[pairs->rows[i].a], &arena, &a);
        if (!status)
            status = rp_features_new(pairs->texts.texts[pairs->rows[i].b], &arena, &b);
        if (status)
            break;
        rp_gates_compare(a, b, &options, false, &report);
        if (report.fired) {
            scores[i] -= penalty;
            ++*fired;
        }
    }
    rp_arena_fini(&arena);
    return status;
}

rp_status
rp_scores_count(const char *path, size_t *out, rp_error *error)
{
    rp_file_map map;
    const rp_status status = rp_file_map_open(path, &map, error);
    if (status)
        return status;
    *out = 0;
    for (size_t i = 0; i < map.len; i++)
        *out += map.ptr[i] == '\n' || i + 1 == map.len;
    rp_file_map_close(&map);
    return RP_OK;
}

rp_status
rp_scores_read(const char *path, size_t count, size_t *line, double *scores, rp_error *error)
{
    rp_file_map map;
    rp_status status = rp_file_map_open(path, &map, error);
    if (status)
        return status;
    rp_str rest = { map.ptr, map.len };
    for (size_t i = 0; i < *line && rest.len; i++)
        take_line(&rest);
    for (size_t i = 0; !status && i < count; i++) {
        if (rest.len == 0)
            status = rp_fail(error, RP_ERR_INVALID, "%s: it ends after %zu scores; more pairs follow",
                             path, *line + i);
        else if (!rp_str_to_double(rp_str_trimmed(take_line(&rest)), &scores[i]))
            status = rp_fail(error, RP_ERR_INVALID, "%s:%zu: this is no number", path, *line + i + 1);
    }
    *line += count;
    rp_file_map_close(&map);
    return status;
}

/* ---- measuring --------------------------------------------------------------------------- */

typedef struct anchor {
    double sums[2];
    uint32_t counts[2];
} anchor;

/* Over text_a's that have pairs of both labels; all rows or those of one category. */
static rp_status
fill_margin(const rp_pairs *pairs, const double *scores, int64_t category, rp_pairs_result *out)
{
    anchor *anchors = calloc(pairs->texts.count + 1, sizeof *anchors);
    if (!anchors)
        return RP_ERR_NOMEM;
    for (size_t i = 0; i < pairs->count; i++) {
        const rp_pair *pair = &pairs->rows[i];
        if (category >= 0 && pair->category != category)
            continue;
        anchors[pair->a].sums[pair->positive] += scores[i];
        anchors[pair->a].counts[pair->positive]++;
    }
    double sum = 0;
    for (size_t i = 0; i < pairs->texts.count; i++) {
        const anchor *at = &anchors[i];
        if (!at->counts[0] || !at->counts[1])
            continue;
        sum += at->sums[1] / at->counts[1] - at->sums[0] / at->counts[0];
        out->triplets++;
    }
    out->margin = out->triplets ? sum / (double)out->triplets : NAN;
    free(anchors);
    return RP_OK;
}

/* category -1: all. */
static rp_status
measure_grades(const rp_pairs *pairs, const double *scores, int64_t category, unsigned replicates,
               uint64_t seed, rp_pairs_result *out)
{
    rp_graded *rows = calloc(pairs->count + 1, sizeof *rows);
    size_t count = 0;
    if (!rows)
        return RP_ERR_NOMEM;
    for (size_t i = 0; i < pairs->count; i++)
        if (category < 0 || pairs->rows[i].category == category)
            rows[count++] = (rp_graded){ scores[i], pairs->rows[i].grade, 1, pairs->rows[i].group };
    out->graded = true;
    out->has_bootstrap = replicates > 0;
    rp_pair_metrics_of(NULL, 0, &out->metrics);
    out->metrics.n = (double)count;
    out->margin = NAN;
    const rp_status status =
        rp_correlate(rows, count, pairs->group_count, replicates, seed, &out->correlation);
    free(rows);
    return status;
}

/* category -1: all. */
static rp_status
measure_rows(const rp_pairs *pairs, const double *scores, int64_t category, unsigned replicates,
             uint64_t seed, rp_scored *rows, rp_pairs_result *out)
{
    size_t count = 0;
    for (size_t i = 0; i < pairs->count; i++)
        if (category < 0 || pairs->rows[i].category == category)
            rows[count++] = (rp_scored){ scores[i], 1, pairs->rows[i].group, pairs->rows[i].positive };
    rp_scored_sort(rows, count);
    rp_pair_metrics_of(rows, count, &out->metrics);
    rp_status status = fill_margin(pairs, scores, category, out);
    /* Group numbers are the file's; a category draws among all and misses those it has not. */
    if (!status && replicates) {
        out->has_bootstrap = true;
        status = rp_bootstrap_pairs(rows, count, pairs->group_count, replicates, seed, 0.95,
                                    &out->bootstrap);
    }
    return status;
}

rp_status
rp_pairs_measure(const rp_pairs *pairs, const double *scores, unsigned replicates, uint64_t seed,
                 rp_pairs_result **out, size_t *count)
{
    const size_t categories = pairs->categories.count > 1 ? pairs->categories.count : 0;
    rp_pairs_result *results = calloc(1 + categories, sizeof *results);
    rp_scored *rows = calloc(pairs->count + 1, sizeof *rows);
    rp_status status = results && rows ? RP_OK : RP_ERR_NOMEM;
    for (size_t i = 0; !status && i < 1 + categories; i++) {
        results[i].category = i ? pairs->categories.texts[i - 1] : RP_STR("*");
        status = pairs->graded
                     ? measure_grades(pairs, scores, (int64_t)i - 1, replicates, seed, &results[i])
                     : measure_rows(pairs, scores, (int64_t)i - 1, replicates, seed, rows, &results[i]);
    }
    free(rows);
    if (status) {
        free(results);
        return status;
    }
    *out = results;
    *count = 1 + categories;
    return RP_OK;
}

static void
put_interval(rp_json_writer *writer, const char *name, rp_interval interval)
{
    rp_json_key(writer, name);
    rp_json_open(writer, '[');
    rp_json_put_double(writer, interval.low);
    rp_json_put_double(writer, interval.high);
    rp_json_close(writer, ']');
}

static void
put_correlation(rp_json_writer *writer, const rp_pairs_result *result)
{
    const rp_correlation *c = &result->correlation;
    rp_json_key(writer, "pearson");
    rp_json_put_double(writer, c->pearson);
    rp_json_key(writer, "spearman");
    rp_json_put_double(writer, c->spearman);
    if (!result->has_bootstrap)
        return;
    put_interval(writer, "pearson_95", c->pearson_95);
    put_interval(writer, "spearman_95", c->spearman_95);
}

void
rp_pairs_result_write(const rp_pairs_result *result, const char *model, const char *file,
                      rp_buffer *out)
{
    const rp_pair_metrics *m = &result->metrics;
    const struct {
        const char *name;
        double value;
    } numbers[] = {
        { "auc", m->auc }, { "ap", m->ap }, { "f1", m->f1 }, { "threshold", m->threshold },
        { "precision", m->precision }, { "recall", m->recall },
        { "recall_far_1", m->recall_far_1 }, { "recall_far_5", m->recall_far_5 },
        { "p_chr_auc", m->p_chr_auc }, { "mean_positive", m->mean_positive },
        { "mean_negative", m->mean_negative }, { "vchr", m->vchr }, { "orr", m->orr },
        { "gap_structural", m->gap_structural }, { "gap_useful", m->gap_useful },
        { "margin", result->margin },
    };
    rp_json_writer writer;
    rp_json_writer_init(&writer, out);
    rp_json_open(&writer, '{');
    rp_json_key(&writer, "model");
    rp_json_put_cstring(&writer, model);
    rp_json_key(&writer, "file");
    rp_json_put_cstring(&writer, file);
    rp_json_key(&writer, "category");
    rp_json_put_string(&writer, result->category);
    rp_json_key(&writer, "n");
    rp_json_put_uint(&writer, (uint64_t)m->n);
    if (result->graded) {
        put_correlation(&writer, result);
        rp_json_close(&writer, '}');
        return;
    }
    rp_json_key(&writer, "positives");
    rp_json_put_uint(&writer, (uint64_t)m->positives);
    for (size_t i = 0; i < RP_COUNT(numbers); i++) {
        rp_json_key(&writer, numbers[i].name);
        rp_json_put_double(&writer, numbers[i].value);
    }
    rp_json_key(&writer, "triplets");
    rp_json_put_uint(&writer, result->triplets);
    if (result->has_bootstrap) {
        put_interval(&writer, "auc_95", result->bootstrap.auc);
        put_interval(&writer, "ap_95", result->bootstrap.ap);
        put_interval(&writer, "f1_95", result->bootstrap.f1);
        put_interval(&writer, "p_chr_auc_95", result->bootstrap.p_chr_auc);
    }
    rp_json_close(&writer, '}');
}
