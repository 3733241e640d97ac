/* eval_attack.c - `reprise eval attack`: plants entries, and counts whom they are served. */
#include "eval/attack.h"
#include "tools/command.h"
#include "tools/eval_tool.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "json/json.h"
#include <reprise/policy.h>

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const usual_policies[] = {
    "exact",
    "static:min_similarity=0.60", /* GPTCache's default: .8 on its own scale */
    "static:min_similarity=0.70",
    "static:min_similarity=0.80", /* GPT Semantic Cache's default */
    "static:min_similarity=0.85",
    "static:min_similarity=0.90",
    "static:min_similarity=0.95", /* ours */
    "verified",
    "verified-plus",
    "adaptive",
    "calibrated",
};

typedef struct attack_options {
    const char *model;
    const char *benign[RP_BENIGN_FILES_MAX];
    size_t benign_count;
    const char *policies[RP_ATTACK_POLICIES_MAX];
    size_t policy_count;
    rp_eval_cache cache;
    rp_precision precision;
    uint64_t targets, pairs, steps, candidates, seed;
    double false_positives;
    bool published, json;
    /* progress */
    const char *what;
    int64_t began_ns, shown_ns;
    size_t began_at;
} attack_options;

static void
print_help(void)
{
    puts("Usage: reprise eval attack [options] POISONING\n\n"
         "Plants entries against the questions of POISONING (JSON lines with \"question\",\n"
         "\"incorrect_answer\" and \"adv_texts\") and counts the victims who are served them, for\n"
         "each policy and defence; and what the defences take from benign prompts. Kinds of\n"
         "attack, defences and the members of --json: eval/attack.h, docs/evaluation.md.\n\n"
         "  --benign FILE        labelled pairs or a stream; may be repeated; needed\n"
         "  --policy SPEC        may be repeated (exact, static at .60 to .95, verified,\n"
         "                       verified-plus, adaptive, calibrated)\n"
         "  --targets N          victims drawn from POISONING (100)\n"
         "  --pairs N            benign pairs drawn from each FILE (500)\n"
         "  --steps N            rounds of the hill climb (16)\n"
         "  --candidates N       keys tried in a round for each attack, 1 to 256 (16)\n"
         "  --false-positives P  of benign pairs, at which thresholds are chosen (0.05)\n"
         "  --published          also deletion-gain as published: up to 144 vectors a key\n"
         "  --seed S             of all draws (1)\n"
         "  --model NAME|DIR     the encoder (all-MiniLM-L6-v2)\n"
         "  --precision CLASS    f32, bf16, int8 or auto (f32)\n"
         "  --cache DIR          where vectors and climbs are kept, so that an interrupted run\n"
         "                       goes on where it was (~/.cache/reprise/vectors)\n"
         "  --no-cache           keep none\n"
         "  --json               one object a line\n"
         "  --help");
}

static bool
read_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    return rp_str_to_u64(rp_str_of(text), out) && *out >= min && *out <= max;
}

static bool
add_policy(attack_options *o, const char *spec)
{
    if (o->policy_count == RP_ATTACK_POLICIES_MAX)
        return false;
    o->policies[o->policy_count++] = spec;
    return true;
}

static bool
take_option(int option, attack_options *o)
{
    switch (option) {
    case 'b':
        if (o->benign_count == RP_BENIGN_FILES_MAX)
            return false;
        o->benign[o->benign_count++] = optarg;
        return true;
    case 'P': return add_policy(o, optarg);
    case 't': return read_number(optarg, 1, RP_TARGETS_MAX, &o->targets);
    case 'N': return read_number(optarg, 1, RP_TARGETS_MAX, &o->pairs);
    case 's': return read_number(optarg, 0, RP_CLIMB_STEPS_MAX, &o->steps);
    case 'k': return read_number(optarg, 1, 256, &o->candidates);
    case 'f':
        return rp_str_to_double(rp_str_of(optarg), &o->false_positives) &&
               o->false_positives > 0 && o->false_positives < 1;
    case 'u': o->published = true; return true;
    case 'S': return read_number(optarg, 0, UINT64_MAX, &o->seed);
    case 'm': o->model = optarg; return true;
    case 'p': return rp_eval_precision_of(optarg, &o->precision);
    case 'c': o->cache.folder = optarg; return true;
    case 'n': o->cache.off = true; return true;
    case 'j': o->json = true; return true;
    }
    return false;
}

/* False: the exit status is in *exit_status. */
static bool
parse_arguments(int argc, char **argv, attack_options *o, int *exit_status)
{
    static const struct option options[] = {
        { "benign", required_argument, NULL, 'b' },    { "policy", required_argument, NULL, 'P' },
        { "targets", required_argument, NULL, 't' },   { "pairs", required_argument, NULL, 'N' },
        { "steps", required_argument, NULL, 's' },     { "candidates", required_argument, NULL, 'k' },
        { "false-positives", required_argument, NULL, 'f' },
        { "published", no_argument, NULL, 'u' },       { "seed", required_argument, NULL, 'S' },
        { "model", required_argument, NULL, 'm' },     { "precision", required_argument, NULL, 'p' },
        { "cache", required_argument, NULL, 'c' },     { "no-cache", no_argument, NULL, 'n' },
        { "json", no_argument, NULL, 'j' },            { "help", no_argument, NULL, 'h' },
        { 0 },
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
            fputs("Try `reprise eval attack --help`.\n", stderr);
            return false;
        }
        if (!take_option(option, o)) {
            fprintf(stderr, "reprise eval attack: '%s' is no value that this option takes; "
                            "`reprise eval attack --help` lists them\n", optarg);
            return false;
        }
    }
    if (optind + 1 != argc || o->benign_count == 0) {
        fputs("reprise eval attack: give one file of questions to poison and at least one --benign "
              "FILE\n", stderr);
        return false;
    }
    return true;
}

/* ---- progress ------------------------------------------------------------------------------- */

/* A line that overwrites itself: what, how far, and when it will be done at this pace. */
static void
show_progress(void *context, const char *what, size_t done, size_t count)
{
    attack_options *o = context;
    const int64_t now_ns = rp_monotonic_ns();
    if (!isatty(STDERR_FILENO))
        return;
    if (o->what != what) {
        o->what = what;
        o->began_ns = now_ns;
        o->began_at = done;
        o->shown_ns = 0;
    }
    if (done >= count) {
        fputs("\r\033[K", stderr);
        return;
    }
    if (o->shown_ns && now_ns - o->shown_ns < 100000000)
        return;
    o->shown_ns = now_ns;
    const double seconds = (double)(now_ns - o->began_ns) / 1e9;
    const size_t since = done - o->began_at;
    fprintf(stderr, "\r%s: %zu of %zu", what, done, count);
    if (since)
        fprintf(stderr, ", %.0f s to go", seconds / (double)since * (double)(count - done));
    fputs("\033[K", stderr);
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static void
put_text(rp_json_writer *writer, const char *key, const char *value)
{
    rp_json_key(writer, key);
    rp_json_put_cstring(writer, value);
}

static void
put_uint(rp_json_writer *writer, const char *key, uint64_t value)
{
    rp_json_key(writer, key);
    rp_json_put_uint(writer, value);
}

static void
put_double(rp_json_writer *writer, const char *key, double value)
{
    rp_json_key(writer, key);
    rp_json_put_double(writer, value);
}

static double
share_of(uint64_t part, uint64_t whole)
{
    return whole ? (double)part / (double)whole : (double)NAN;
}

/* KEY, PREFIX_low, PREFIX_high */
static void
put_share(rp_json_writer *writer, const char *key, const char *prefix, uint64_t part, uint64_t whole)
{
    char name[64];
    const rp_interval interval = rp_clopper_pearson(part, whole, 0.95);
    put_double(writer, key, share_of(part, whole));
    snprintf(name, sizeof name, "%s_low", prefix);
    put_double(writer, name, whole ? interval.low : (double)NAN);
    snprintf(name, sizeof name, "%s_high", prefix);
    put_double(writer, name, whole ? interval.high : (double)NAN);
}

static void
open_record(rp_buffer *line, rp_json_writer *writer, const char *record)
{
    rp_buffer_init(line, 0);
    rp_json_writer_init(writer, line);
    rp_json_open(writer, '{');
    put_text(writer, "record", record);
}

static void
close_record(rp_buffer *line, rp_json_writer *writer)
{
    rp_json_close(writer, '}');
    rp_buffer_append_char(line, '\n');
    fwrite(line->ptr, 1, line->len, stdout);
    rp_buffer_fini(line);
}

static void
print_run_json(const attack_options *o, const rp_encoder *encoder, const rp_attack_set *set)
{
    rp_buffer line;
    rp_json_writer writer;
    open_record(&line, &writer, "run");
    put_text(&writer, "model", o->model);
    rp_json_key(&writer, "fingerprint");
    rp_json_put_string(&writer, rp_encoder_fingerprint(encoder));
    put_uint(&writer, "seed", o->seed);
    put_uint(&writer, "targets", set->victim_count);
    put_uint(&writer, "steps", o->steps);
    put_uint(&writer, "candidates", o->candidates);
    put_double(&writer, "false_positives", o->false_positives);
    put_uint(&writer, "benign_pairs", set->pair_count);
    put_uint(&writer, "benign_files", set->file_count);
    put_uint(&writer, "attacks", set->attack_count);
    close_record(&line, &writer);
}

static void
print_strengths_json(const rp_attack_result *result)
{
    for (size_t i = 0; i < result->strength_count; i++) {
        const rp_strength_row *row = &result->strengths[i];
        rp_buffer line;
        rp_json_writer writer;
        open_record(&line, &writer, "strength");
        put_text(&writer, "kind", row->kind);
        put_uint(&writer, "attempts", row->attempts);
        put_double(&writer, "mean_similarity", row->mean_similarity);
        put_uint(&writer, "at_70", row->at_70);
        put_uint(&writer, "at_80", row->at_80);
        put_uint(&writer, "at_90", row->at_90);
        put_uint(&writer, "at_95", row->at_95);
        close_record(&line, &writer);
    }
}

static void
print_detections_json(const rp_attack_result *result)
{
    for (size_t i = 0; i < result->detection_count; i++) {
        const rp_detection_row *row = &result->detections[i];
        rp_buffer line;
        rp_json_writer writer;
        open_record(&line, &writer, "detection");
        put_text(&writer, "score", row->score);
        put_text(&writer, "kind", row->kind);
        put_double(&writer, "min_similarity", row->min_similarity);
        put_uint(&writer, "attacks", row->attacks);
        put_uint(&writer, "benign", row->benign);
        put_double(&writer, "auc", row->auc);
        put_double(&writer, "auc_low", row->auc_95.low);
        put_double(&writer, "auc_high", row->auc_95.high);
        put_uint(&writer, "blocked", row->blocked);
        put_share(&writer, "blocked_rate", "blocked", row->blocked, row->attacks);
        put_uint(&writer, "false_positives", row->false_positives);
        put_share(&writer, "false_positive_rate", "false_positive", row->false_positives,
                  row->benign);
        put_double(&writer, "threshold_first", row->thresholds[0]);
        put_double(&writer, "threshold_second", row->thresholds[1]);
        close_record(&line, &writer);
    }
}

static void
print_attacks_json(const rp_attack_result *result)
{
    for (size_t i = 0; i < result->attack_count; i++) {
        const rp_attack_row *row = &result->attacks[i];
        rp_buffer line;
        rp_json_writer writer;
        open_record(&line, &writer, "attack");
        put_text(&writer, "kind", row->kind);
        put_text(&writer, "policy", row->policy);
        put_text(&writer, "defence", row->defence);
        rp_json_key(&writer, "primed");
        rp_json_put_bool(&writer, row->primed);
        put_uint(&writer, "attempts", row->attempts);
        put_uint(&writer, "successes", row->successes);
        put_share(&writer, "asr", "asr", row->successes, row->attempts);
        close_record(&line, &writer);
    }
}

static void
print_benign_json(const rp_attack_result *result)
{
    for (size_t i = 0; i < result->benign_count; i++) {
        const rp_benign_row *row = &result->benign[i];
        rp_buffer line;
        rp_json_writer writer;
        open_record(&line, &writer, "benign");
        put_text(&writer, "file", row->file);
        put_text(&writer, "policy", row->policy);
        put_text(&writer, "defence", row->defence);
        put_uint(&writer, "questions", row->questions);
        put_uint(&writer, "hits", row->hits);
        put_uint(&writer, "right_hits", row->right_hits);
        put_uint(&writer, "refused_right", row->refused_right);
        put_uint(&writer, "of_right", row->of_right);
        put_share(&writer, "refused_rate", "refused", row->refused_right, row->of_right);
        close_record(&line, &writer);
    }
}

/* ---- text ----------------------------------------------------------------------------------- */

static void
print_share(uint64_t part, uint64_t whole)
{
    const rp_interval interval = rp_clopper_pearson(part, whole, 0.95);
    if (whole)
        printf("%5.1f [%4.1f, %5.1f]", 100 * share_of(part, whole), 100 * interval.low,
               100 * interval.high);
    else
        printf("%5s %13s", "-", "");
}

static void
print_strengths(const rp_attack_result *result)
{
    printf("\n%-16s %8s  %7s  %s\n", "attack", "attempts", "cosine",
           "% at cosine >= .70   .80   .90   .95");
    for (size_t i = 0; i < result->strength_count; i++) {
        const rp_strength_row *row = &result->strengths[i];
        const double n = (double)row->attempts / 100;
        if (row->attempts)
            printf("%-16s %8llu  %7.3f  %17.1f %5.1f %5.1f %5.1f\n", row->kind,
                   (unsigned long long)row->attempts, row->mean_similarity, (double)row->at_70 / n,
                   (double)row->at_80 / n, (double)row->at_90 / n, (double)row->at_95 / n);
    }
}

static void
print_detections(const rp_attack_result *result)
{
    printf("\n%-14s %-16s %6s %7s %7s  %-22s  %-20s  %s\n", "score", "attack", "cosine", "attacks",
           "benign", "AUC [95 %]", "blocked % [95 %]", "false positives % [95 %]");
    for (size_t i = 0; i < result->detection_count; i++) {
        const rp_detection_row *row = &result->detections[i];
        printf("%-14s %-16s %6.2f %7llu %7llu  ", row->score, row->kind, row->min_similarity,
               (unsigned long long)row->attacks, (unsigned long long)row->benign);
        if (isnan(row->auc))
            printf("%-22s  ", "-");
        else
            printf("%.4f [%.4f, %.4f]  ", row->auc, row->auc_95.low, row->auc_95.high);
        print_share(row->blocked, row->attacks);
        fputs("  ", stdout);
        print_share(row->false_positives, row->benign);
        putchar('\n');
    }
}

/* The row of this kind, policy and defence, primed or not; NULL: not measured. */
static const rp_attack_row *
find_attack(const rp_attack_result *result, const char *policy, const char *kind,
            const char *defence, bool primed)
{
    for (size_t i = 0; i < result->attack_count; i++) {
        const rp_attack_row *row = &result->attacks[i];
        if (row->policy == policy && row->primed == primed && strcmp(row->kind, kind) == 0 &&
            strcmp(row->defence, defence) == 0)
            return row;
    }
    return NULL;
}

static void
print_attack_line(const rp_attack_result *result, const char *policy, const char *kind, bool primed)
{
    uint64_t attempts = 0;
    printf("  %-16s %-7s", kind, primed ? "primed" : "");
    for (rp_defence defence = 0; defence < RP_DEFENCE_COUNT; defence++) {
        const rp_attack_row *row =
            find_attack(result, policy, kind, rp_defence_name(defence), primed);
        if (!row || row->attempts == 0) {
            printf(" %20s", "-");
            continue;
        }
        const rp_interval interval = rp_clopper_pearson(row->successes, row->attempts, 0.95);
        attempts = row->attempts;
        printf(" %5.1f [%4.1f, %5.1f]", 100 * share_of(row->successes, row->attempts),
               100 * interval.low, 100 * interval.high);
    }
    printf("  of %llu\n", (unsigned long long)attempts);
}

/* A table for each policy: a line a kind of attack, a column a defence. */
static void
print_attacks(const attack_options *o, const rp_attack_result *result)
{
    for (size_t p = 0; p < o->policy_count; p++) {
        const char *policy = o->policies[p];
        printf("\n%s: attacks that succeed, %% [95 %%]\n  %24s", policy, "");
        for (rp_defence defence = 0; defence < RP_DEFENCE_COUNT; defence++)
            printf(" %20s", rp_defence_name(defence));
        putchar('\n');
        for (int primed = 0; primed < 2; primed++) {
            if (!find_attack(result, policy, "all-collision", "none", primed))
                continue;
            for (rp_attack_kind kind = 0; kind < RP_ATTACK_KIND_COUNT; kind++)
                print_attack_line(result, policy, rp_attack_kind_name(kind), primed);
            print_attack_line(result, policy, "all-collision", primed);
            print_attack_line(result, policy, "all-poisoning", primed);
        }
    }
}

static void
print_benign(const rp_attack_result *result)
{
    printf("\n%-30s %-14s %-24s %9s %7s %7s  %s\n", "benign: policy", "defence", "file", "questions",
           "hits", "right", "right hits refused % [95 %]");
    for (size_t i = 0; i < result->benign_count; i++) {
        const rp_benign_row *row = &result->benign[i];
        const char *slash = strrchr(row->file, '/');
        printf("%-30s %-14s %-24.24s %9llu %7llu %7llu  ", row->policy, row->defence,
               slash ? slash + 1 : row->file, (unsigned long long)row->questions,
               (unsigned long long)row->hits, (unsigned long long)row->right_hits);
        print_share(row->refused_right, row->of_right);
        printf(" of %llu\n", (unsigned long long)row->of_right);
    }
}

static void
print_result(const attack_options *o, const rp_encoder *encoder, const rp_attack_set *set,
             const rp_attack_result *result)
{
    if (o->json) {
        print_run_json(o, encoder, set);
        print_strengths_json(result);
        print_detections_json(result);
        print_attacks_json(result);
        print_benign_json(result);
        return;
    }
    printf("%s: %zu victims, %zu attacks, %zu benign pairs of %zu files, seed %llu\n", o->model,
           set->victim_count, set->attack_count, set->pair_count, set->file_count,
           (unsigned long long)o->seed);
    print_strengths(result);
    print_detections(result);
    print_attacks(o, result);
    print_benign(result);
}

/* ---- running -------------------------------------------------------------------------------- */

/* A SPEC that cannot be used is said before minutes are spent. */
static rp_status
check_policies(const attack_options *o, rp_error *error)
{
    rp_status status = RP_OK;
    for (size_t i = 0; !status && i < o->policy_count; i++) {
        rp_policy *policy;
        status = rp_policy_new(rp_str_of(o->policies[i]), NAN, &policy, error);
        if (!status)
            rp_policy_free(policy);
    }
    return status;
}

static rp_status
read_inputs(const attack_options *o, const char *path, rp_attack_set *set, rp_error *error)
{
    rp_status status = rp_attack_read_victims(set, path, o->targets, o->seed, error);
    for (size_t i = 0; !status && i < o->benign_count; i++)
        status = rp_attack_read_benign(set, o->benign[i], o->pairs, o->seed, error);
    return status ? status : rp_attack_make(set, o->seed, error);
}

static rp_status
attack_encoder(attack_options *o, const rp_encoder *encoder, rp_attack_set *set, rp_error *error)
{
    char folder[4096];
    const char *kept = o->cache.off ? NULL : o->cache.folder;
    if (!o->cache.off && !kept) {
        const rp_status status = rp_vectors_folder(folder, sizeof folder, error);
        if (status)
            return status;
        kept = folder;
    }
    const rp_climb_options climb = { .steps = o->steps, .candidates = o->candidates,
                                     .seed = o->seed, .folder = kept, .progress = show_progress,
                                     .context = o };
    const rp_attack_options options = { .policies = o->policies, .policy_count = o->policy_count,
                                        .false_positives = o->false_positives,
                                        .published = o->published, .seed = o->seed,
                                        .cache_folder = kept, .progress = show_progress,
                                        .context = o };
    rp_attack_result result;
    rp_status status = rp_attack_climb(set, encoder, &climb, error);
    if (!status)
        status = rp_attack_measure(set, encoder, &options, &result, error);
    if (status)
        return status;
    print_result(o, encoder, set, &result);
    rp_attack_result_fini(&result);
    return RP_OK;
}

static rp_status
run_attack(attack_options *o, const char *path, rp_error *error)
{
    rp_attack_set set;
    rp_encoder *encoder = NULL;
    rp_attack_set_init(&set);
    rp_status status = check_policies(o, error);
    if (!status)
        status = read_inputs(o, path, &set, error);
    if (!status)
        status = rp_eval_open_encoder(o->model, o->precision, &encoder, error);
    if (!status)
        status = attack_encoder(o, encoder, &set, error);
    rp_encoder_close(encoder);
    rp_attack_set_fini(&set);
    return status;
}

int
rp_command_eval_attack(int argc, char **argv)
{
    attack_options o = { .model = "all-MiniLM-L6-v2", .precision = RP_PRECISION_F32, .seed = 1,
                         .targets = 100, .pairs = 500, .steps = 16, .candidates = 16,
                         .false_positives = 0.05 };
    rp_error error = { { 0 } };
    int exit_status;
    if (!parse_arguments(argc, argv, &o, &exit_status))
        return exit_status;
    for (size_t i = 0; o.policy_count == 0 && i < RP_COUNT(usual_policies); i++)
        o.policies[i] = usual_policies[i];
    o.policy_count = o.policy_count ? o.policy_count : RP_COUNT(usual_policies);
    rp_status status = run_attack(&o, argv[optind], &error);
    if ((fflush(stdout) || ferror(stdout)) && !status)
        status = rp_fail(&error, RP_ERR_IO, "cannot write the result");
    if (status)
        fprintf(stderr, "reprise eval attack: %s\n", error.text);
    return rp_eval_exit_status(status);
}
