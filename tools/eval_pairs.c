/* eval_pairs.c - `reprise eval pairs`: metrics of labelled pairs, per encoder, file and
 * category. */
#include "eval/pairs.h"
#include "tools/command.h"
#include "tools/eval_tool.h"

#include "base/bytes.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MODELS_MAX = 16, REPLICATES_MAX = 100000 };

typedef struct pairs_options {
    const char *models[MODELS_MAX];    /* encoders, or files of scores */
    bool is_scores[MODELS_MAX];
    size_t model_count;
    const char *scores_out;
    rp_eval_cache cache;
    rp_precision precision;
    double gate_penalty; /* NaN: no gates */
    unsigned replicates;
    uint64_t seed;
    bool json;
} pairs_options;

static void
print_help(void)
{
    puts("Usage: reprise eval pairs [options] FILE...\n\n"
         "Measures how well similarity separates pairs with one answer (label 1) from pairs\n"
         "without. FILE has tab-separated lines under the header\n"
         "label, category, text_a, text_b.\n\n"
         "  --model NAME|DIR     an encoder; may be repeated (all-MiniLM-L6-v2)\n"
         "  --scores-in FILE     scores of another system, one a line, over all FILEs in their\n"
         "                       order; may be repeated\n"
         "  --scores-out FILE    write the scores that way (one encoder only)\n"
         "  --gates[=PENALTY]    take PENALTY off the score where a lexical gate fires (1)\n"
         "  --bootstrap N        95 % intervals from N draws over groups of pairs that share texts\n"
         "  --seed S             of the draws (1)\n"
         "  --precision CLASS    f32, bf16, int8 or auto (f32)\n"
         "  --cache DIR          where vectors are kept (~/.cache/reprise/vectors)\n"
         "  --no-cache           keep none\n"
         "  --json               one object a file and category\n"
         "  --help");
}

static bool
add_model(pairs_options *o, const char *name, bool is_scores)
{
    if (o->model_count == MODELS_MAX)
        return false;
    o->is_scores[o->model_count] = is_scores;
    o->models[o->model_count++] = name;
    return true;
}

static bool
read_count(const char *text, uint64_t max, uint64_t *out)
{
    return rp_str_to_u64(rp_str_of(text), out) && *out <= max;
}

static bool
take_option(int option, pairs_options *o)
{
    uint64_t count = 0;
    bool good = true;
    switch (option) {
    case 'm': return add_model(o, optarg, false);
    case 'i': return add_model(o, optarg, true);
    case 'o': o->scores_out = optarg; break;
    case 'c': o->cache.folder = optarg; break;
    case 'n': o->cache.off = true; break;
    case 'j': o->json = true; break;
    case 'p': return rp_eval_precision_of(optarg, &o->precision);
    case 's': return read_count(optarg, UINT64_MAX, &o->seed);
    case 'b':
        good = read_count(optarg, REPLICATES_MAX, &count);
        o->replicates = (unsigned)count;
        break;
    case 'g':
        o->gate_penalty = 1;
        good = !optarg || (rp_str_to_double(rp_str_of(optarg), &o->gate_penalty) &&
                           o->gate_penalty >= 0 && o->gate_penalty <= 2);
        break;
    }
    return good;
}

/* False: the exit status is in *exit_status. */
static bool
parse_arguments(int argc, char **argv, pairs_options *o, int *exit_status)
{
    static const struct option options[] = {
        { "model", required_argument, NULL, 'm' },      { "scores-in", required_argument, NULL, 'i' },
        { "scores-out", required_argument, NULL, 'o' }, { "gates", optional_argument, NULL, 'g' },
        { "bootstrap", required_argument, NULL, 'b' },  { "seed", required_argument, NULL, 's' },
        { "precision", required_argument, NULL, 'p' },  { "cache", required_argument, NULL, 'c' },
        { "no-cache", no_argument, NULL, 'n' },         { "json", no_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' },             { 0 },
    };
    int option;
    *exit_status = RP_EXIT_USAGE;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'h') {
            print_help();
            *exit_status = RP_EXIT_DONE;
            return false;
        }
        if (option == '?') {
            fputs("Try `reprise eval pairs --help`.\n", stderr);
            return false;
        }
        if (!take_option(option, o)) {
            fprintf(stderr, "reprise eval pairs: '%s' is no value that this option takes; "
                            "`reprise eval pairs --help` lists them\n", optarg);
            return false;
        }
    }
    if (optind == argc) {
        fputs("reprise eval pairs: give at least one file of pairs\n", stderr);
        return false;
    }
    if (o->model_count == 0)
        add_model(o, "all-MiniLM-L6-v2", false);
    if (o->scores_out && (o->model_count > 1 || o->is_scores[0])) {
        fputs("reprise eval pairs: --scores-out wants exactly one encoder\n", stderr);
        return false;
    }
    return true;
}

/* One encoder, or one file of scores, on its way through the files. */
typedef struct pair_scorer {
    const char *name;
    rp_encoder *encoder; /* owned; NULL: scores come from the file `name` */
    size_t line;         /* of that file */
} pair_scorer;

static rp_status
score_file(const pairs_options *o, pair_scorer *scorer, const rp_pairs *pairs, double *scores,
           rp_error *error)
{
    if (!scorer->encoder)
        return rp_scores_read(scorer->name, pairs->count, &scorer->line, scores, error);
    rp_vectors vectors;
    rp_status status = rp_eval_vectors(scorer->encoder, pairs->texts.texts, pairs->texts.count,
                                       &o->cache, &vectors, error);
    if (status)
        return status;
    rp_pairs_score(pairs, &vectors, scores);
    rp_vectors_fini(&vectors);
    return RP_OK;
}

static const char *
base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static void
print_grades(const pairs_options *o, const char *model, const char *file,
             const rp_pairs_result *results, size_t count)
{
    printf("\n%s, %s%s (graded)\n%-34s %7s  %8s %8s\n", base_name(file), model,
           isnan(o->gate_penalty) ? "" : " with gates", "category", "n", "Pearson", "Spearman");
    for (size_t i = 0; i < count; i++) {
        const rp_correlation *c = &results[i].correlation;
        printf("%-34.*s %7.0f  %8.3f %8.3f\n",
               (int)RP_MIN(results[i].category.len, (size_t)34), results[i].category.ptr,
               results[i].metrics.n, c->pearson, c->spearman);
        if (results[i].has_bootstrap)
            printf("%-34s %7s  Pearson %.3f-%.3f  Spearman %.3f-%.3f\n", "", "95 %:",
                   c->pearson_95.low, c->pearson_95.high, c->spearman_95.low, c->spearman_95.high);
    }
    fflush(stdout);
}

static void
print_rows(const pairs_options *o, const char *model, const char *file,
           const rp_pairs_result *results, size_t count)
{
    if (!o->json && count && results[0].graded) {
        print_grades(o, model, file, results, count);
        return;
    }
    if (!o->json)
        printf("\n%s, %s%s\n%-34s %7s %7s  %5s %5s  %5s @ %-6s %5s %5s  %5s %5s  %5s  %6s %6s\n",
               base_name(file), model, isnan(o->gate_penalty) ? "" : " with gates", "category", "n",
               "positiv", "AUC", "AP", "F1", "thresh", "prec", "rec", "r@1%", "r@5%", "P-CHR",
               "mean+", "mean-");
    for (size_t i = 0; i < count; i++) {
        const rp_pair_metrics *m = &results[i].metrics;
        if (o->json) {
            rp_buffer line;
            rp_buffer_init(&line, 0);
            rp_pairs_result_write(&results[i], model, file, &line);
            rp_buffer_append_char(&line, '\n');
            fwrite(line.ptr, 1, line.len, stdout);
            rp_buffer_fini(&line);
            continue;
        }
        printf("%-34.*s %7.0f %7.0f  %5.3f %5.3f  %5.3f @ %-6.3f %5.3f %5.3f  %5.3f %5.3f  %5.3f  "
               "%6.3f %6.3f\n",
               (int)RP_MIN(results[i].category.len, (size_t)34), results[i].category.ptr, m->n,
               m->positives, m->auc, m->ap, m->f1, m->threshold, m->precision, m->recall,
               m->recall_far_1, m->recall_far_5, m->p_chr_auc, m->mean_positive, m->mean_negative);
        if (results[i].has_bootstrap)
            printf("%-34s %15s  AUC %.3f-%.3f  AP %.3f-%.3f  F1 %.3f-%.3f  P-CHR %.3f-%.3f\n", "",
                   "95 %:", results[i].bootstrap.auc.low, results[i].bootstrap.auc.high,
                   results[i].bootstrap.ap.low, results[i].bootstrap.ap.high,
                   results[i].bootstrap.f1.low, results[i].bootstrap.f1.high,
                   results[i].bootstrap.p_chr_auc.low, results[i].bootstrap.p_chr_auc.high);
    }
    fflush(stdout);
}

static rp_status
measure_file(const pairs_options *o, pair_scorer *scorer, const char *path, FILE *scores_out,
             rp_error *error)
{
    rp_pairs pairs;
    rp_pairs_result *results = NULL;
    size_t count = 0, fired = 0;
    rp_status status = rp_pairs_read(path, &pairs, error);
    if (status)
        return status;
    double *scores = calloc(pairs.count, sizeof *scores);
    status = scores ? score_file(o, scorer, &pairs, scores, error)
                    : rp_fail(error, RP_ERR_NOMEM, "%s: no memory for its scores", path);
    if (!status && !isnan(o->gate_penalty) &&
        (status = rp_pairs_add_gates(&pairs, o->gate_penalty, scores, &fired)))
        rp_fail(error, status, "%s: no memory for its gates", path);
    for (size_t i = 0; !status && scores_out && i < pairs.count; i++)
        fprintf(scores_out, "%.9g\n", scores[i]);
    if (!status &&
        (status = rp_pairs_measure(&pairs, scores, o->replicates, o->seed, &results, &count)))
        rp_fail(error, status, "%s: no memory for its results", path);
    if (!status)
        print_rows(o, scorer->encoder ? scorer->name : base_name(scorer->name), path, results,
                   count);
    free(results);
    free(scores);
    rp_pairs_fini(&pairs);
    return status;
}

static rp_status
measure_files(const pairs_options *o, size_t at, int count, char **paths, FILE *scores_out,
              rp_error *error)
{
    pair_scorer scorer = { .name = o->models[at] };
    rp_status status = RP_OK;
    if (!o->is_scores[at])
        status = rp_eval_open_encoder(o->models[at], o->precision, &scorer.encoder, error);
    for (int i = 0; !status && i < count; i++)
        status = measure_file(o, &scorer, paths[i], scores_out, error);
    size_t lines = 0;
    if (!status && o->is_scores[at])
        status = rp_scores_count(o->models[at], &lines, error);
    if (!status && lines > scorer.line && o->is_scores[at])
        status = rp_fail(error, RP_ERR_INVALID, "%s has %zu scores for %zu pairs", o->models[at],
                         lines, scorer.line);
    rp_encoder_close(scorer.encoder);
    return status;
}

int
rp_command_eval_pairs(int argc, char **argv)
{
    pairs_options o = { .precision = RP_PRECISION_F32, .gate_penalty = NAN, .seed = 1 };
    rp_error error = { { 0 } };
    int exit_status;
    if (!parse_arguments(argc, argv, &o, &exit_status))
        return exit_status;
    FILE *scores_out = NULL;
    rp_status status = RP_OK;
    if (o.scores_out && !(scores_out = fopen(o.scores_out, "wb")))
        /* The command line named it, and nothing was measured yet. */
        status = rp_fail(&error, RP_ERR_INVALID, "cannot write %s: %s", o.scores_out,
                         strerror(errno));
    for (size_t i = 0; !status && i < o.model_count; i++)
        status = measure_files(&o, i, argc - optind, argv + optind, scores_out, &error);
    if (scores_out && (ferror(scores_out) | fclose(scores_out)) && !status)
        status = rp_fail(&error, RP_ERR_IO, "cannot write %s", o.scores_out);
    if ((fflush(stdout) || ferror(stdout)) && !status)
        status = rp_fail(&error, RP_ERR_IO, "cannot write the result");
    if (status)
        fprintf(stderr, "reprise eval pairs: %s\n", error.text);
    return rp_eval_exit_status(status);
}
