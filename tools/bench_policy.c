/* bench_policy.c - `reprise bench policy`: what a decision costs beside the embedding.
 *
 * Gates: one new prompt is analysed and compared with three candidates, as the driver
 * does at most. Policies: a decision over three candidates, and the learning from an
 * outcome (refits included), on a made stream whose truth depends on similarity. CPU
 * times of one thread, the least of several rounds. */
#include "tools/command.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/random.h"
#include "evidence/gates.h"
#include "json/json.h"

#include <getopt.h>
#include <math.h>
#include <reprise/policy.h>
#include <stdio.h>
#include <stdlib.h>

extern const char demo_questions[];

enum { QUESTIONS_MAX = 64, CANDIDATES = 3, ROUNDS = 7, STEPS = 20000, ENTRIES = 500 };

typedef struct policy_row {
    const char *name;
    double decide_us, observe_us, bytes_per_entry;
} policy_row;

static size_t
list_questions(rp_str out[QUESTIONS_MAX])
{
    size_t count = 0;
    rp_str rest = rp_str_of(demo_questions);
    while (rest.len && count < QUESTIONS_MAX) {
        const rp_str line = rp_str_trimmed(rp_str_split(&rest, '\n'));
        if (line.len && line.ptr[0] != '#')
            out[count++] = line;
    }
    return count;
}

/* Analyse a prompt and its three candidates, compare: microseconds a decision. */
static double
measure_gates(double *volatility_us)
{
    rp_str texts[QUESTIONS_MAX];
    const size_t count = list_questions(texts);
    const rp_gate_options options = { .enabled = RP_GATES_DEFAULT };
    rp_arena arena;
    double best = INFINITY;
    *volatility_us = INFINITY;
    rp_arena_init(&arena, 0);
    unsigned fired = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int64_t start = rp_thread_cpu_ns();
        for (size_t i = 0; i < count; i++) {
            const rp_features *new_prompt, *stored;
            rp_gate_report report;
            rp_arena_reset(&arena);
            if (rp_features_new(texts[i], &arena, &new_prompt) != RP_OK)
                continue;
            for (size_t j = 1; j <= CANDIDATES; j++)
                if (rp_features_new(texts[(i + j) % count], &arena, &stored) == RP_OK) {
                    rp_gates_compare(new_prompt, stored, &options, false, &report);
                    fired += report.fired != 0;
                }
        }
        best = fmin(best, (double)(rp_thread_cpu_ns() - start) / 1e3 / (double)count);
        start = rp_thread_cpu_ns();
        for (size_t i = 0; i < count; i++)
            fired += rp_prompt_volatility(texts[i]).personal;
        *volatility_us = fmin(*volatility_us, (double)(rp_thread_cpu_ns() - start) / 1e3 / (double)count);
    }
    rp_arena_fini(&arena);
    if (fired == UINT32_MAX)
        puts(""); /* what was computed is used */
    return best;
}

/* One request of the made stream: three candidates of which the first is right with a
 * probability that rises with its similarity. */
static void
draw_request(rp_random *random, rp_candidate candidates[CANDIDATES], bool *right)
{
    float similarity = 1 - (float)fabs(rp_random_normal(random)) * 0.1f;
    for (int i = 0; i < CANDIDATES; i++) {
        candidates[i] = (rp_candidate){ .id = 1 + rp_random_below(random, ENTRIES),
                                        .similarity = similarity,
                                        .alignment = 0.7f,
                                        .verifier = NAN,
                                        .judge = RP_JUDGE_UNASKED };
        similarity -= 0.02f;
    }
    *right = rp_random_uniform(random) < 1 / (1 + exp(-40 * ((double)candidates[0].similarity - 0.9)));
}

static bool
measure_policy(const char *name, policy_row *row)
{
    rp_policy *policy;
    rp_error error = { { 0 } };
    *row = (policy_row){ name, INFINITY, INFINITY, 0 };
    if (rp_policy_new(rp_str_of(name), 0.01, &policy, &error) != RP_OK &&
        rp_policy_new(rp_str_of(name), (double)NAN, &policy, &error) != RP_OK)
        return false;
    rp_random random;
    rp_random_init(&random, 1);
    /* Learn first, so that decisions are those of a policy in use. */
    int64_t observe_ns = 0, decide_ns = 0;
    size_t observed = 0, decided = 0, small = 0;
    for (int step = 0; step < STEPS; step++) {
        rp_candidate candidates[CANDIDATES];
        rp_decision decision;
        bool right;
        draw_request(&random, candidates, &right);
        const rp_question question = { .stratum = 1, .now = 1700000000000000 + step, .candidates = candidates,
                                       .count = CANDIDATES, .min_similarity = -1, .error_max = 1 };
        int64_t start = rp_thread_cpu_ns();
        rp_policy_decide(policy, &question, rp_random_uniform(&random), &decision);
        decide_ns += rp_thread_cpu_ns() - start;
        decided++;
        if (decision.verdict == RP_HIT && step % 10)
            continue;
        const rp_outcome outcome = { .stratum = 1, .time = question.now, .candidate = candidates[0],
                                     .similarity_second = candidates[1].similarity, .right = right,
                                     .served = decision.verdict == RP_HIT,
                                     .source = decision.verdict == RP_HIT ? RP_OUTCOME_AUDIT : RP_OUTCOME_MISS,
                                     .probability = decision.verdict == RP_HIT ? 0.1 : 1,
                                     .agreement = decision.agreement,
                                     .entry = 1 + rp_random_below(&random, ENTRIES) };
        start = rp_thread_cpu_ns();
        rp_policy_observe(policy, &outcome);
        observe_ns += rp_thread_cpu_ns() - start;
        observed++;
        if (observed == 1)
            small = rp_policy_size_bytes(policy); /* what a stratum costs, whatever it holds */
    }
    const double clock_us = 0.02; /* what reading the clock itself costs, about */
    row->decide_us = fmax(0, (double)decide_ns / 1e3 / (double)decided - clock_us);
    row->observe_us = observed ? fmax(0, (double)observe_ns / 1e3 / (double)observed - clock_us) : 0;
    row->bytes_per_entry = (double)(rp_policy_size_bytes(policy) - small) / ENTRIES;
    rp_policy_free(policy);
    return true;
}

static void
print_json(double gates_us, double volatility_us, const policy_row *rows, size_t count)
{
    rp_buffer out;
    rp_json_writer w;
    rp_buffer_init(&out, 0);
    rp_json_writer_init(&w, &out);
    rp_json_open(&w, '{');
    rp_json_key(&w, "gates_us");
    rp_json_put_double(&w, gates_us);
    rp_json_key(&w, "volatility_us");
    rp_json_put_double(&w, volatility_us);
    rp_json_key(&w, "policies");
    rp_json_open(&w, '[');
    for (size_t i = 0; i < count; i++) {
        rp_json_open(&w, '{');
        rp_json_key(&w, "policy");
        rp_json_put_cstring(&w, rows[i].name);
        rp_json_key(&w, "decide_us");
        rp_json_put_double(&w, rows[i].decide_us);
        rp_json_key(&w, "observe_us");
        rp_json_put_double(&w, rows[i].observe_us);
        rp_json_key(&w, "bytes_per_entry");
        rp_json_put_double(&w, rows[i].bytes_per_entry);
        rp_json_close(&w, '}');
    }
    rp_json_close(&w, ']');
    rp_json_close(&w, '}');
    printf("%.*s\n", RP_FMT(rp_buffer_str(&out)));
    rp_buffer_fini(&out);
}

int
rp_command_bench_policy(int argc, char **argv)
{
    static const struct option options[] = { { "json", no_argument, NULL, 'j' },
                                             { "help", no_argument, NULL, 'h' }, { 0 } };
    bool json = false;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'h') {
            puts("Usage: reprise bench policy [--json]\n\n"
                 "What gates, decisions and learning cost, in CPU microseconds of one thread.");
            return RP_EXIT_DONE;
        }
        if (option != 'j')
            return RP_EXIT_USAGE;
        json = true;
    }
    double volatility_us;
    const double gates_us = measure_gates(&volatility_us);
    policy_row rows[32];
    size_t count = 0;
    const char *name;
    for (size_t at = 0; (name = rp_policy_list(at, NULL)) && count < RP_COUNT(rows); at++)
        count += measure_policy(name, &rows[count]);
    if (json) {
        print_json(gates_us, volatility_us, rows, count);
        return RP_EXIT_DONE;
    }
    printf("gates: a new prompt and three candidates analysed and compared  %8.1f us\n"
           "personal and temporal words of a prompt                         %8.1f us\n\n"
           "%-30s %10s %10s %14s\n", gates_us, volatility_us, "policy", "decide us", "observe us",
           "bytes an entry");
    for (size_t i = 0; i < count; i++)
        printf("%-30s %10.2f %10.2f %14.0f\n", rows[i].name, rows[i].decide_us, rows[i].observe_us,
               rows[i].bytes_per_entry);
    return RP_EXIT_DONE;
}
