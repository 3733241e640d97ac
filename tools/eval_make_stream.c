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
         "Makes a stream for `reprise eval stream` from labelled texts. The same seed gives the\n"
         "same bytes.\n\n"
         "  --out FILE         instead of standard output\n"
         "  --kind KIND        what FILE is (table):\n"
         "     table           tab-separated under a header; column `text` is the prompt, all\n"
         "                     others but `split` together are the answer\n"
         "     log             tab-separated, the last column is the text; equal texts (letter\n"
         "                     case aside) share an answer\n"
         "     qa              JSON lines question, answers: who has the same first answer shares it\n"
         "     prompts         JSON lines prompt, source: each is an answer of its own\n"
         "     conversation    JSON lines history, question, rewrite: the rewrite names the answer\n"
         "     pairs           label category text_a text_b: label 1 joins answers\n"
         "  --column NAME|N    where the text is (a name in the header, or a number: --kind log)\n"
         "  --standalone       conversation: ask the rewrite, without history\n"
         "  --keep-equal       keep every equal text, not only the first; a log always does\n"
         "  --order WHICH      file or shuffled (shuffled; log and conversation: file)\n"
         "  --count N          draw N requests instead of each text once\n"
         "  --zipf S           popularity of the answer of rank r is r^-S (1; with --count)\n"
         "  --novel SHARE      of requests whose answer comes once only (0; with --count)\n"
         "  --wrap             every prompt stands inside a long instruction\n"
         "  --cut              the fixed part of the prompts is learned and cut off, as a cache\n"
         "                     with templates would\n"
         "  --trace FILE       times and token counts of a real service: `time` and `cost`\n"
         "  --price IN,OUT     US$ a million tokens (2.5,10; with --trace)\n"
         "  --category NAME    of every request (none; prompts and pairs: their own)\n"
         "  --seed S           (1)\n"
         "  --help");
}

typedef struct make_options {
    rp_make_stream make;
    const char *out;
    bool order_given, draw_given, price_given;
} make_options;

/* "IN,OUT" */
static bool
read_price(const char *text, make_options *o)
{
    rp_str rest = rp_str_of(text);
    const rp_str in = rp_str_split(&rest, ',');
    o->price_given = true;
    return rp_str_to_double(in, &o->make.price_in) && rp_str_to_double(rest, &o->make.price_out) &&
           o->make.price_in >= 0 && o->make.price_in <= 1e6 && o->make.price_out >= 0 &&
           o->make.price_out <= 1e6;
}

static bool
take_option(int option, void *context)
{
    make_options *o = context;
    rp_make_stream *m = &o->make;
    uint64_t count = 0;
    bool good = true;
    switch (option) {
    case 'o': o->out = optarg; break;
    case 'k': return rp_stream_kind_of(rp_str_of(optarg), &m->kind);
    case 'C': m->column = optarg; return *optarg != 0;
    case 'S': m->standalone = true; return true;
    case 't': m->trace = optarg; return true;
    case 'p': return read_price(optarg, o);
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
    case 'w': m->wrap = true; break;
    case 'x': m->cut = true; break;
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
        { "wrap", no_argument, NULL, 'w' },        { "cut", no_argument, NULL, 'x' },
        { "column", required_argument, NULL, 'C' }, { "standalone", no_argument, NULL, 'S' },
        { "trace", required_argument, NULL, 't' }, { "price", required_argument, NULL, 'p' },
        { 0 },
    };
    const rp_eval_parser parser = { "eval make-stream", options, 'h', print_help, take_option, o };
    if (!rp_eval_parse(&parser, argc, argv, exit_status))
        return false;
    const char *wrong = NULL;
    if (argc - optind != 1)
        wrong = "give one file of texts";
    else if (o->draw_given && !o->make.count)
        wrong = "--zipf and --novel need --count";
    else if (o->order_given && o->make.count)
        wrong = "--order and --count exclude each other";
    else if (o->price_given && !o->make.trace)
        wrong = "--price needs --trace";
    else if (o->make.standalone && o->make.kind != RP_STREAM_CONVERSATION)
        wrong = "--standalone is for --kind conversation";
    else if (o->make.column && o->make.kind != RP_STREAM_TABLE && o->make.kind != RP_STREAM_LOG)
        wrong = "--column is for --kind table and log";
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
    make_options o = { .make = { .seed = 1, .zipf = 1, .shuffle = true, .price_in = 2.5,
                                 .price_out = 10 } };
    rp_error error = { { 0 } };
    rp_made_stream made;
    rp_buffer bytes;
    int exit_status;
    if (!parse_arguments(argc, argv, &o, &exit_status))
        return exit_status;
    o.make.keep_equal |= o.make.kind == RP_STREAM_LOG;
    if (o.make.kind == RP_STREAM_LOG || o.make.kind == RP_STREAM_CONVERSATION)
        o.make.shuffle = o.order_given && o.make.shuffle;
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
    if (!status && made.contradicted)
        fprintf(stderr, "%zu pairs with label 0 have texts that pairs with label 1 join\n",
                made.contradicted);
    if (!status && o.make.cut)
        fprintf(stderr, "%zu prompts were cut\n", made.cut);
    return rp_eval_exit_status(status);
}
