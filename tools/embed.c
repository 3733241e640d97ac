/* embed.c - `reprise embed`: the vector of each text, as JSON or as a NumPy file. */
#include "base/bytes.h"
#include "base/buffer.h"
#include "base/npy.h"
#include "embed/registry.h"
#include "tools/command.h"
#include "tools/input.h"

#include <errno.h>
#include <getopt.h>
#include <reprise/embed.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PATH_SIZE = 4096,
    TEXTS_MAX = 256,            /* embedded together */
    GATHERED_MAX = 4 << 20,     /* bytes of them, before they are embedded */
};

typedef struct embed_options {
    const char *model, *output, *tier, *adapter;
    size_t dim, window; /* 0: the model's own */
    rp_input_format input;
    rp_precision precision;
    bool npy;
} embed_options;

typedef struct embed_job {
    const embed_options *options;
    rp_encoder *encoder; /* owned */
    FILE *out;           /* owned unless it is stdout */
    float *vectors;      /* owned, (TEXTS_MAX, dim) */
    rp_buffer texts;     /* the bytes of those gathered */
    size_t ends[TEXTS_MAX], count;
    uint64_t rows, truncated;
    rp_buffer line;
} embed_job;

static void
print_help(void)
{
    puts("Usage: reprise embed [options] [FILE...]\n\n"
         "Prints the unit vector of each text of the files (standard input if none, or for -).\n"
         "A text beyond the model's window is cut, and counted on standard error.\n\n"
         "  --model NAME|DIR    the encoder (all-MiniLM-L6-v2)\n"
         "  --input FORMAT      text: a text a line; jsonl: objects with \"text\"; auto: jsonl if\n"
         "                      the first byte is '{' (auto)\n"
         "  --format FORMAT     jsonl: one array a line; npy: float32, shape (n, dim) (jsonl)\n"
         "  --precision CLASS   f32, bf16, int8 or auto (f32)\n"
         "  --adapter DIR       a PEFT LoRA adapter, merged into the model\n"
         "  --dim N             keep the first N numbers (for models trained so)\n"
         "  --window N          cut texts to N tokens, fewer than the model's own window\n"
         "  --tier NAME         kernels to use: plain, avx2, avx512, neon ... (the best here)\n"
         "  --output FILE       instead of standard output\n"
         "  --help");
}

static bool
read_precision(const char *name, rp_precision *out)
{
    static const char *const names[] = { "auto", "f32", "bf16", "int8" };
    for (size_t i = 0; i < RP_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (rp_precision)i;
            return true;
        }
    return false;
}

static bool
read_count(const char *text, size_t *out)
{
    char *end;
    const unsigned long value = strtoul(text, &end, 10);
    *out = value;
    return *text >= '1' && *text <= '9' && !*end && value <= 1 << 16;
}

/* False: the exit status is in *exit_status. */
static bool
parse_arguments(int argc, char **argv, embed_options *o, int *exit_status)
{
    static const struct option options[] = {
        { "model", required_argument, NULL, 'm' },  { "input", required_argument, NULL, 'i' },
        { "format", required_argument, NULL, 'f' }, { "precision", required_argument, NULL, 'p' },
        { "tier", required_argument, NULL, 't' },   { "output", required_argument, NULL, 'o' },
        { "adapter", required_argument, NULL, 'a' }, { "dim", required_argument, NULL, 'd' },
        { "window", required_argument, NULL, 'w' },  { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    int option;
    *exit_status = RP_EXIT_USAGE;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        bool good = true;
        switch (option) {
        case 'm': o->model = optarg; break;
        case 't': o->tier = optarg; break;
        case 'a': o->adapter = optarg; break;
        case 'd': good = read_count(optarg, &o->dim); break;
        case 'w': good = read_count(optarg, &o->window); break;
        case 'o': o->output = optarg; break;
        case 'i': good = rp_input_format_of(optarg, &o->input); break;
        case 'p': good = read_precision(optarg, &o->precision); break;
        case 'f':
            o->npy = strcmp(optarg, "npy") == 0;
            good = o->npy || strcmp(optarg, "jsonl") == 0;
            break;
        case 'h': print_help(); *exit_status = RP_EXIT_DONE; return false;
        default: fputs("Try `reprise embed --help`.\n", stderr); return false;
        }
        if (!good) {
            fprintf(stderr, "reprise embed: '%s' is no value that this option takes; "
                            "`reprise embed --help` lists them\n", optarg);
            return false;
        }
    }
    return true;
}

static rp_status
write_out(embed_job *job, const void *bytes, size_t size, rp_error *error)
{
    if (fwrite(bytes, 1, size, job->out) == size)
        return RP_OK;
    return rp_fail(error, RP_ERR_IO, "cannot write the result: %s", strerror(errno));
}

/* Nine digits read back as the same float. */
static rp_status
write_line(embed_job *job, const float *vector, size_t dim, rp_error *error)
{
    rp_buffer_clear(&job->line);
    for (size_t i = 0; i < dim; i++) {
        char number[32];
        const int len = snprintf(number, sizeof number, "%c%.9g", i ? ',' : '[', (double)vector[i]);
        rp_buffer_append(&job->line, (rp_str){ number, (size_t)len });
    }
    rp_buffer_append(&job->line, RP_STR("]\n"));
    if (rp_buffer_failed(&job->line))
        return rp_fail(error, RP_ERR_NOMEM, "no memory for a line of output");
    return write_out(job, job->line.ptr, job->line.len, error);
}

static rp_status
embed_gathered(embed_job *job, rp_error *error)
{
    rp_str texts[TEXTS_MAX];
    bool truncated[TEXTS_MAX];
    const size_t dim = rp_encoder_dim(job->encoder);
    size_t start = 0;
    for (size_t i = 0; i < job->count; i++) {
        texts[i] = (rp_str){ job->texts.ptr + start, job->ends[i] - start };
        start = job->ends[i];
    }
    rp_status status = rp_encoder_embed(job->encoder, texts, job->count, job->vectors, truncated,
                                        error);
    if (!status && job->options->npy)
        status = write_out(job, job->vectors, job->count * dim * sizeof(float), error);
    for (size_t i = 0; !status && i < job->count; i++) {
        job->truncated += truncated[i];
        if (!job->options->npy)
            status = write_line(job, job->vectors + i * dim, dim, error);
    }
    job->rows += job->count;
    job->count = 0;
    rp_buffer_clear(&job->texts);
    return status;
}

static rp_status
embed_file(embed_job *job, const char *path, rp_error *error)
{
    rp_input *input = NULL;
    rp_status status = rp_input_open(path, job->options->input, &input, error);
    for (bool more = true; !status && more;) {
        rp_str text;
        status = rp_input_next(input, &text, &more, error);
        if (status || !more)
            break;
        rp_buffer_append(&job->texts, text);
        if (rp_buffer_failed(&job->texts))
            status = rp_fail(error, RP_ERR_NOMEM, "no memory for a text");
        job->ends[job->count++] = job->texts.len;
        if (!status && (job->count == TEXTS_MAX || job->texts.len >= GATHERED_MAX))
            status = embed_gathered(job, error);
    }
    rp_input_close(input);
    return status;
}

/* The number of rows stands in the header and is known only at the end, so the vectors
 * wait in a temporary file: the output may be a pipe. */
static rp_status
write_header(embed_job *job, size_t rows, rp_error *error)
{
    rp_buffer header;
    rp_buffer_init(&header, 0);
    rp_npy_write_header(rows, rp_encoder_dim(job->encoder), &header);
    const rp_status status = rp_buffer_failed(&header)
                                 ? rp_fail(error, RP_ERR_NOMEM, "no memory for a header")
                                 : write_out(job, header.ptr, header.len, error);
    rp_buffer_fini(&header);
    return status;
}

static rp_status
copy_values(embed_job *job, FILE *from, rp_error *error)
{
    char piece[1 << 16];
    rewind(from);
    for (size_t size; (size = fread(piece, 1, sizeof piece, from)) > 0;) {
        const rp_status status = write_out(job, piece, size, error);
        if (status)
            return status;
    }
    return ferror(from) ? rp_fail(error, RP_ERR_IO, "cannot read back the result") : RP_OK;
}

static rp_status
embed_files(embed_job *job, int count, char **paths, rp_error *error)
{
    rp_status status = RP_OK;
    if (!count)
        status = embed_file(job, NULL, error);
    for (int i = 0; !status && i < count; i++)
        status = embed_file(job, paths[i], error);
    return !status && job->count ? embed_gathered(job, error) : status;
}

static rp_status
embed_all(embed_job *job, int count, char **paths, rp_error *error)
{
    if (!job->options->npy)
        return embed_files(job, count, paths, error);
    FILE *const out = job->out, *const values = tmpfile();
    if (!values)
        return rp_fail(error, RP_ERR_IO, "no temporary file for the vectors: %s", strerror(errno));
    job->out = values;
    rp_status status = embed_files(job, count, paths, error);
    job->out = out;
    if (!status)
        status = write_header(job, (size_t)job->rows, error);
    if (!status)
        status = copy_values(job, values, error);
    fclose(values);
    return status;
}

static rp_status
open_job(embed_job *job, rp_error *error)
{
    char path[PATH_SIZE];
    const rp_encoder_options options = { .precision = job->options->precision,
                                         .tier = job->options->tier,
                                         .adapter = job->options->adapter,
                                         .dim = job->options->dim,
                                         .window = job->options->window };
    rp_status status = rp_model_resolve(job->options->model, path, sizeof path, error);
    if (!status)
        status = rp_encoder_open(path, &options, &job->encoder, error);
    if (status)
        return status;
    job->vectors = calloc(TEXTS_MAX * rp_encoder_dim(job->encoder), sizeof *job->vectors);
    if (!job->vectors)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for vectors");
    job->out = job->options->output ? fopen(job->options->output, "wb") : stdout;
    if (!job->out)
        return rp_fail(error, RP_ERR_IO, "cannot write %s: %s", job->options->output,
                       strerror(errno));
    return RP_OK;
}

/* What is the input's or the command line's fault is 2, the rest is 1. */
static int
exit_status_of(rp_status status)
{
    switch (status) {
    case RP_OK:
        return RP_EXIT_DONE;
    case RP_ERR_IO:
    case RP_ERR_NOMEM:
        return RP_EXIT_FAILED;
    default:
        return RP_EXIT_USAGE;
    }
}

int
rp_command_embed(int argc, char **argv)
{
    embed_options o = { .model = "all-MiniLM-L6-v2", .precision = RP_PRECISION_F32 };
    int exit_status;
    if (!parse_arguments(argc, argv, &o, &exit_status))
        return exit_status;
    rp_error error = { { 0 } };
    static embed_job job;
    job.options = &o;
    rp_buffer_init(&job.texts, 0);
    rp_buffer_init(&job.line, 0);
    rp_status status = open_job(&job, &error);
    if (!status)
        status = embed_all(&job, argc - optind, argv + optind, &error);
    if (job.out && (job.out == stdout ? fflush(stdout) : fclose(job.out)) != 0 && !status)
        status = rp_fail(&error, RP_ERR_IO, "cannot write the result: %s", strerror(errno));
    if (status)
        fprintf(stderr, "reprise embed: %s\n", error.text);
    if (job.truncated)
        fprintf(stderr, "reprise embed: %llu of %llu texts were longer than %zu tokens and were cut\n",
                (unsigned long long)job.truncated, (unsigned long long)job.rows,
                rp_encoder_window_tokens(job.encoder));
    free(job.vectors);
    rp_encoder_close(job.encoder);
    rp_buffer_fini(&job.texts);
    rp_buffer_fini(&job.line);
    return exit_status_of(status);
}
