/* eval_make_stream.c - `reprise eval make-stream`: labelled texts become a stream. */
#include "eval/make_stream.h"
#include "tools/command.h"
#include "tools/eval_tool.h"

#include "base/bytes.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

static void
print_help(void)
{
    puts("Usage: reprise eval make-stream [options] FILE\n\n"
         "Makes a stream for `reprise eval stream` from tab-separated lines. The header names\n"
         "the columns; `text` is the prompt, and all others but `split` together are the\n"
         "answer. The same seed gives the same bytes.\n\n"
         "  --out FILE         instead of standard output\n"
         "  --kind KIND        table, or log: no header, the last column is the text, equal\n"
         "                     texts (letter case aside) share an answer (table)\n"
         "  --keep-equal       keep every equal text, not only the first; a log always does\n"
         "  --order WHICH      file or shuffled (shuffled; a log: file)\n"
         "  --count N          draw N requests instead of each text once\n"
         "  --zipf S           popularity of the answer of rank r is r^-S (1; with --count)\n"
         "  --novel SHARE      of requests whose answer comes once only (0; with --count)\n"
         "  --category NAME    of every request (none)\n"
         "  --seed S           (1)\n"
         "  --help");
}

typedef struct make_options {
    rp_make_stream make;
    const char *out;
    bool order_given, draw_given;
} make_options;

static bool
take_option(int option, void *context)
{
    make_options *o = context;
    rp_make_stream *m = &o->make;
    uint64_t count = 0;
    bool good = true;
    switch (option) {
    case 'o': o->out = optarg; break;
    case 'k':
        m->kind = strcmp(optarg, "log") == 0 ? RP_STREAM_LOG : RP_STREAM_TABLE;
        return m->kind == RP_STREAM_LOG || strcmp(optarg, "table") == 0;
    case 'e': m->keep_equal = true; break;
    case 'r':
        o->order_given = true;
        m->shuffle = strcmp(optarg, "shuffled") == 0;
        return m->shuffle || strcmp(optarg, "file") == 0;
    case 'n':
        good = rp_str_to_u64(rp_str_of(optarg), &count) && count >= 1 && count <= 100000000;
        m->count = (size_t)count;
        break;
    case 'z':
        o->draw_given = true;
        return rp_str_to_double(rp_str_of(optarg), &m->zipf) && m->zipf >= 0 && m->zipf <= 10;
    case 'v':
        o->draw_given = true;
        return rp_str_to_double(rp_str_of(optarg), &m->novel) && m->novel >= 0 && m->novel <= 1;
    case 'c':
        m->category = rp_str_of(optarg);
        return m->category.len <= RP_TAG_SIZE_MAX && rp_utf8_is_valid(m->category);
    case 's': return rp_str_to_u64(rp_str_of(optarg), &m->seed);
    }
    return good;
}

/* False: the exit status is in *exit_status. */
static bool
parse_arguments(int argc, char **argv, make_options *o, int *exit_status)
{
    static const struct option options[] = {
        { "out", required_argument, NULL, 'o' },   { "kind", required_argument, NULL, 'k' },
        { "keep-equal", no_argument, NULL, 'e' },  { "order", required_argument, NULL, 'r' },
        { "count", required_argument, NULL, 'n' }, { "zipf", required_argument, NULL, 'z' },
        { "novel", required_argument, NULL, 'v' }, { "category", required_argument, NULL, 'c' },
        { "seed", required_argument, NULL, 's' },  { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    const rp_eval_parser parser = { "eval make-stream", options, 'h', print_help, take_option, o };
    if (!rp_eval_parse(&parser, argc, argv, exit_status))
        return false;
    const char *wrong = argc - optind != 1                 ? "give one file of texts"
                        : o->draw_given && !o->make.count  ? "--zipf and --novel need --count"
                        : o->order_given && o->make.count  ? "--order and --count exclude each other"
                                                           : NULL;
    if (wrong)
        fprintf(stderr, "reprise eval make-stream: %s\n", wrong);
    *exit_status = RP_EXIT_USAGE;
    return !wrong;
}

static rp_status
write_out(const char *path, rp_str bytes, rp_error *error)
{
    FILE *out = path ? fopen(path, "wb") : stdout;
    if (!out)
        return rp_fail(error, RP_ERR_IO, "cannot write %s: %s", path, strerror(errno));
    const bool written = fwrite(bytes.ptr, 1, bytes.len, out) == bytes.len;
    const bool closed = (path ? fclose(out) : fflush(out)) == 0;
    if (!written || !closed)
        return rp_fail(error, RP_ERR_IO, "cannot write %s", path ? path : "the stream");
    return RP_OK;
}

int
rp_command_eval_make_stream(int argc, char **argv)
{
    make_options o = { .make = { .seed = 1, .zipf = 1, .shuffle = true } };
    rp_error error = { { 0 } };
    rp_made_stream made;
    rp_buffer bytes;
    int exit_status;
    if (!parse_arguments(argc, argv, &o, &exit_status))
        return exit_status;
    if (o.make.kind == RP_STREAM_LOG) {
        o.make.keep_equal = true;
        o.make.shuffle = o.order_given && o.make.shuffle;
    }
    rp_buffer_init(&bytes, 0);
    rp_status status = rp_stream_make(argv[optind], &o.make, &bytes, &made, &error);
    if (!status)
        status = write_out(o.out, rp_buffer_str(&bytes), &error);
    rp_buffer_fini(&bytes);
    if (status)
        fprintf(stderr, "reprise eval make-stream: %s\n", error.text);
    else
        fprintf(stderr, "%zu requests from %zu texts with %zu answers, seed %llu\n", made.requests,
                made.texts, made.answers, (unsigned long long)o.make.seed);
    return rp_eval_exit_status(status);
}
