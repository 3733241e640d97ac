/* eval_report.c - `reprise eval report`: results in, one page and one JSON document out. */
#include "eval/report.h"
#include "tools/command.h"
#include "tools/eval_tool.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DECISIONS_MAX = 16 };

typedef struct report_arguments {
    const char *out, *json_out, *policy;
    const char *decisions[DECISIONS_MAX], *streams[DECISIONS_MAX];
    size_t decision_count;
    bool show_texts;
} report_arguments;

static void
print_help(void)
{
    puts("Usage: reprise eval report [options] RESULT...\n\n"
         "Makes one HTML page, which needs nothing else, of what `eval pairs`, `eval stream`,\n"
         "`eval attack`, `bench embed` and `bench search` printed with --json. `eval record` keeps\n"
         "their commands, data and machine with them; charts without data are left out.\n\n"
         "  --out FILE        the page (report.html)\n"
         "  --json-out FILE   the same numbers\n"
         "  --policy SPEC     policy or baseline that the summary is about (the shipped default)\n"
         "  --decisions FILE  of `eval stream --decisions-out`: list the worst wrong hits; may be\n"
         "                    repeated\n"
         "  --stream FILE     the stream of the last --decisions\n"
         "  --show-texts      show prompts of these streams; without it no prompt is shown\n"
         "  --help");
}

static bool
take_option(int option, report_arguments *a)
{
    switch (option) {
    case 'o': a->out = optarg; return true;
    case 'j': a->json_out = optarg; return true;
    case 'p': a->policy = optarg; return true;
    case 't': a->show_texts = true; return true;
    case 'd':
        if (a->decision_count == DECISIONS_MAX)
            return false;
        a->decisions[a->decision_count++] = optarg;
        return true;
    case 's':
        if (!a->decision_count || a->streams[a->decision_count - 1])
            return false;
        a->streams[a->decision_count - 1] = optarg;
        return true;
    }
    return false;
}

/* False: the exit status is in *exit_status. */
static bool
parse_arguments(int argc, char **argv, report_arguments *a, int *exit_status)
{
    static const struct option options[] = {
        { "out", required_argument, NULL, 'o' },       { "json-out", required_argument, NULL, 'j' },
        { "policy", required_argument, NULL, 'p' },    { "decisions", required_argument, NULL, 'd' },
        { "stream", required_argument, NULL, 's' },    { "show-texts", no_argument, NULL, 't' },
        { "help", no_argument, NULL, 'h' },            { 0 },
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
            fputs("Try `reprise eval report --help`.\n", stderr);
            return false;
        }
        if (!take_option(option, a)) {
            fprintf(stderr, "reprise eval report: --%s %s: at most %d files of decisions, and each "
                            "--stream behind its --decisions\n",
                    option == 'd' ? "decisions" : "stream", optarg, DECISIONS_MAX);
            return false;
        }
    }
    if (optind == argc)
        fputs("reprise eval report: give at least one file of results\n", stderr);
    return optind < argc;
}

static void
say_unknown(const rp_results *results)
{
    for (size_t i = 0; i < results->run_count; i++)
        if (results->runs[i].unknown)
            fprintf(stderr, "reprise eval report: %.*s: %zu lines were of no kind that a report "
                            "shows\n", RP_FMT(results->runs[i].path), results->runs[i].unknown);
}

static rp_status
write_files(const report_arguments *a, const rp_results *results, const rp_wrong_hits *wrong,
            const char *command, rp_error *error)
{
    const rp_report_options options = {
        .policy = a->policy, .commit = rp_commit, .command = command,
        .now = rp_clock_wall_us(&rp_clock_system), .wrong = wrong,
        .wrong_count = a->decision_count, .show_texts = a->show_texts };
    rp_buffer html, json;
    rp_buffer_init(&html, 0);
    rp_buffer_init(&json, 0);
    rp_status status = rp_report_write(results, &options, &html, &json, error);
    if (!status)
        status = rp_file_replace(a->out, rp_buffer_str(&html), 0644, error);
    if (!status && a->json_out)
        status = rp_file_replace(a->json_out, rp_buffer_str(&json), 0644, error);
    rp_buffer_fini(&html);
    rp_buffer_fini(&json);
    return status;
}

static rp_status
report(const report_arguments *a, int count, char **paths, const char *command, rp_error *error)
{
    static rp_wrong_hits wrong[DECISIONS_MAX];
    rp_results results;
    size_t read = 0;
    rp_status status = RP_OK;
    rp_results_init(&results);
    for (int i = 0; !status && i < count; i++)
        status = rp_results_read(&results, paths[i], error);
    for (size_t i = 0; !status && i < a->decision_count; i++) {
        status = rp_wrong_hits_read(a->decisions[i], a->show_texts ? a->streams[i] : NULL, &wrong[i],
                                    error);
        read += !status;
    }
    if (!status) {
        say_unknown(&results);
        status = write_files(a, &results, wrong, command, error);
    }
    for (size_t i = 0; i < read; i++)
        rp_wrong_hits_fini(&wrong[i]);
    rp_results_fini(&results);
    return status;
}

int
rp_command_eval_report(int argc, char **argv)
{
    report_arguments a = { .out = "report.html" };
    rp_error error = { { 0 } };
    rp_buffer command;
    int exit_status;
    /* Before getopt puts the arguments in another order. */
    rp_buffer_init(&command, 0);
    rp_buffer_append(&command, RP_STR("reprise eval report"));
    for (int i = 1; i < argc; i++)
        rp_buffer_printf(&command, " %s", argv[i]);
    rp_buffer_append_char(&command, 0);
    if (!parse_arguments(argc, argv, &a, &exit_status)) {
        rp_buffer_fini(&command);
        return exit_status;
    }
    const rp_status status = report(&a, argc - optind, argv + optind,
                                    command.ptr ? command.ptr : "", &error);
    rp_buffer_fini(&command);
    if (status)
        fprintf(stderr, "reprise eval report: %s\n", error.text);
    return rp_eval_exit_status(status);
}
