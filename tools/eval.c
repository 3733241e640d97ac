/* eval.c - `reprise eval WHAT`: finds the evaluation and hands over; and what the
 * evaluations share: encoders, cached vectors, progress. */
#include "tools/eval_tool.h"

#include "base/clock.h"
#include "embed/registry.h"
#include "tools/command.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    rp_command *run;
    const char *summary;
} evals[] = {
    { "pairs", rp_command_eval_pairs, "how well similarity separates labelled pairs" },
    { "stream", rp_command_eval_stream, "what policies do on a stream of requests" },
    { "attack", rp_command_eval_attack, "who is served what an attacker planted" },
    { "make-stream", rp_command_eval_make_stream, "labelled texts become a stream" },
    { "report", rp_command_eval_report, "results become one page" },
    { "record", rp_command_eval_record, "one measurement, kept with what is needed to repeat it" },
};

static void
print_help(FILE *out)
{
    fputs("Usage: reprise eval WHAT [options]\n\n", out);
    for (size_t i = 0; i < sizeof evals / sizeof evals[0]; i++)
        fprintf(out, "  %-12s %s\n", evals[i].name, evals[i].summary);
    fputs("\nEach takes --json and --help; docs/evaluation.md has the formats.\n", out);
}

int
rp_command_eval(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "--help") == 0) {
        print_help(stdout);
        return RP_EXIT_DONE;
    }
    for (size_t i = 0; argc >= 2 && i < sizeof evals / sizeof evals[0]; i++)
        if (strcmp(argv[1], evals[i].name) == 0)
            return evals[i].run(argc - 1, argv + 1);
    if (argc >= 2)
        fprintf(stderr, "reprise eval: there is no '%s'; `reprise eval --help` lists what there is\n",
                argv[1]);
    else
        print_help(stderr);
    return RP_EXIT_USAGE;
}

bool
rp_eval_parse(const rp_eval_parser *parser, int argc, char **argv, int *exit_status)
{
    static char name[64]; /* outlives the call, as argv does */
    int option;
    *exit_status = RP_EXIT_USAGE;
    snprintf(name, sizeof name, "reprise %s", parser->command);
    argv[0] = name; /* getopt begins its sentences with it */
    while ((option = getopt_long(argc, argv, "", parser->options, NULL)) != -1) {
        if (option == parser->help) {
            parser->print_help();
            *exit_status = RP_EXIT_DONE;
            return false;
        }
        if (option == '?') {
            fprintf(stderr, "Try `reprise %s --help`.\n", parser->command);
            return false;
        }
        if (!parser->take(option, parser->context)) {
            fprintf(stderr, "reprise %s: '%s' is no value that this option takes; `reprise %s --help`"
                            " lists them\n", parser->command, optarg ? optarg : "", parser->command);
            return false;
        }
    }
    return true;
}

int
rp_eval_exit_status(rp_status status)
{
    switch (status) {
    case RP_OK:
        return RP_EXIT_DONE;
    case RP_ERR_IO:
    case RP_ERR_NOMEM:
        return RP_EXIT_FAILED;
    default: /* the input's or the command line's fault */
        return RP_EXIT_USAGE;
    }
}

bool
rp_eval_precision_of(const char *name, rp_precision *out)
{
    static const char *const names[] = { "auto", "f32", "bf16", "int8" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (rp_precision)i;
            return true;
        }
    return false;
}

rp_status
rp_eval_open_encoder(const char *model, rp_precision precision, rp_encoder **out, rp_error *error)
{
    char path[4096];
    const rp_encoder_options options = { .precision = precision };
    const rp_status status = rp_model_resolve(model, path, sizeof path, error);
    return status ? status : rp_encoder_open(path, &options, out, error);
}

/* A line that overwrites itself, at most ten times a second, and only for a person. */
static void
show_progress(void *context, size_t done, size_t count)
{
    int64_t *shown_ns = context;
    const int64_t now_ns = rp_monotonic_ns();
    if (!isatty(STDERR_FILENO) || (done < count && now_ns - *shown_ns < 100000000))
        return;
    *shown_ns = now_ns;
    fprintf(stderr, "\rembedding %zu of %zu texts%s", done, count, done < count ? "" : "\r\033[K");
}

static rp_status
make_vectors(const rp_encoder *encoder, const rp_str *texts, size_t count, bool windows,
             const rp_eval_cache *cache, rp_vectors *out, rp_error *error)
{
    char folder[4096];
    int64_t shown_ns = 0;
    rp_vectors_options options = { .cache_folder = cache->folder, .windows = windows,
                                   .progress = show_progress, .context = &shown_ns };
    if (cache->off) {
        options.cache_folder = NULL;
    } else if (!cache->folder) {
        const rp_status status = rp_vectors_folder(folder, sizeof folder, error);
        if (status)
            return status;
        options.cache_folder = folder;
    }
    const rp_status status = rp_vectors_make(encoder, texts, count, &options, out, error);
    if (!status && out->cut_count)
        fprintf(stderr, windows ? "reprise eval: %zu of %zu texts were longer than all windows of "
                                  "%zu tokens: they hit exactly only\n"
                                : "reprise eval: %zu of %zu texts were longer than %zu tokens and "
                                  "were cut\n",
                out->cut_count, count, rp_encoder_window_tokens(encoder));
    return status;
}

rp_status
rp_eval_vectors(const rp_encoder *encoder, const rp_str *texts, size_t count,
                const rp_eval_cache *cache, rp_vectors *out, rp_error *error)
{
    return make_vectors(encoder, texts, count, false, cache, out, error);
}

rp_status
rp_eval_windows(const rp_encoder *encoder, const rp_str *texts, size_t count,
                const rp_eval_cache *cache, rp_vectors *out, rp_error *error)
{
    return make_vectors(encoder, texts, count, true, cache, out, error);
}
