/* tokenize.c - `reprise tokenize`: the token ids of each text, as a model sees them. */
#include "base/buffer.h"
#include "base/bytes.h"
#include "embed/registry.h"
#include "text/tokenizer.h"
#include "tools/command.h"
#include "tools/input.h"

#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct tokenize_options {
    const char *model;
    rp_input_format format;
} tokenize_options;

static void
print_help(void)
{
    puts("Usage: reprise tokenize [options] [FILE...]\n\n"
         "Prints one JSON array of token ids for each text of the files (standard input if\n"
         "none, or for -), special tokens included, nothing cut or padded.\n\n"
         "  --model NAME|DIR   whose tokenizer.json (all-MiniLM-L6-v2); that file itself will do\n"
         "  --input FORMAT     text: a text a line; jsonl: objects with \"text\"; auto: jsonl if\n"
         "                     the first byte is '{' (auto)\n"
         "  --help");
}

/* False: the exit status is in *exit_status. */
static bool
parse_arguments(int argc, char **argv, tokenize_options *o, int *exit_status)
{
    static const struct option options[] = {
        { "model", required_argument, NULL, 'm' },
        { "input", required_argument, NULL, 'i' },
        { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    int option;
    *exit_status = RP_EXIT_USAGE;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'm': o->model = optarg; break;
        case 'i':
            if (rp_input_format_of(optarg, &o->format))
                break;
            fprintf(stderr, "reprise tokenize: --input is text, jsonl or auto, not '%s'\n", optarg);
            return false;
        case 'h': print_help(); *exit_status = RP_EXIT_DONE; return false;
        default: fputs("Try `reprise tokenize --help`.\n", stderr); return false;
        }
    }
    return true;
}

/* The tokenizer.json of a model, or that file itself. */
static rp_status
find_tokenizer(const char *model, char *out, size_t size, rp_error *error)
{
    char folder[PATH_MAX];
    int len;
    if (rp_str_ends_with(rp_str_of(model), RP_STR(".json"))) {
        len = snprintf(out, size, "%s", model);
    } else {
        const rp_status status = rp_model_resolve(model, folder, sizeof folder, error);
        if (status)
            return status;
        char *slash = strrchr(folder, '/');
        if (rp_str_ends_with(rp_str_of(folder), RP_STR(".safetensors"))) /* beside the weights */
            strcpy(slash ? slash : folder, slash ? "" : ".");
        len = snprintf(out, size, "%s/tokenizer.json", folder);
    }
    return len > 0 && (size_t)len < size ? RP_OK
                                         : rp_fail(error, RP_ERR_LIMIT, "--model is too long a path");
}

/* Room for all ids of one text, kept from text to text. */
typedef struct id_list {
    int32_t *ids; /* owned */
    size_t capacity;
} id_list;

static bool
encode_all(const rp_tokenizer *tokenizer, rp_str text, id_list *list, size_t *count)
{
    *count = rp_tokenizer_encode(tokenizer, text, true, list->ids, list->capacity);
    if (*count <= list->capacity)
        return true;
    if (*count > SIZE_MAX / sizeof(int32_t)) /* RP_TOKENS_NOMEM */
        return false;
    int32_t *grown = realloc(list->ids, *count * sizeof *grown);
    if (!grown)
        return false;
    list->ids = grown;
    list->capacity = *count;
    return rp_tokenizer_encode(tokenizer, text, true, list->ids, list->capacity) == *count;
}

static bool
print_ids(const id_list *list, size_t count, rp_buffer *out)
{
    char number[16];
    rp_buffer_clear(out);
    rp_buffer_append_char(out, '[');
    for (size_t i = 0; i < count; i++) {
        const int len = snprintf(number, sizeof number, i ? ",%d" : "%d", list->ids[i]);
        rp_buffer_append(out, (rp_str){ number, (size_t)len });
    }
    rp_buffer_append(out, RP_STR("]\n"));
    return !rp_buffer_failed(out) && fwrite(out->ptr, 1, out->len, stdout) == out->len;
}

static int
tokenize_file(const rp_tokenizer *tokenizer, const tokenize_options *o, const char *path)
{
    rp_input *input = NULL;
    rp_error error = { { 0 } };
    id_list list = { 0 };
    rp_buffer out;
    rp_buffer_init(&out, 0);
    int exit_status = RP_EXIT_USAGE;
    if (rp_input_open(path, o->format, &input, &error) != RP_OK)
        goto out;
    for (;;) {
        rp_str text;
        bool more;
        size_t count;
        if (rp_input_next(input, &text, &more, &error) != RP_OK)
            goto out;
        if (!more)
            break;
        exit_status = RP_EXIT_FAILED;
        if (!encode_all(tokenizer, text, &list, &count)) {
            rp_fail(&error, RP_ERR_NOMEM, "no memory for the tokens of a text");
            goto out;
        }
        if (!print_ids(&list, count, &out)) {
            rp_fail(&error, RP_ERR_IO, "cannot write the result");
            goto out;
        }
        exit_status = RP_EXIT_USAGE;
    }
    exit_status = RP_EXIT_DONE;
out:
    if (exit_status != RP_EXIT_DONE)
        fprintf(stderr, "reprise tokenize: %s\n", error.text);
    rp_input_close(input);
    rp_buffer_fini(&out);
    free(list.ids);
    return exit_status;
}

int
rp_command_tokenize(int argc, char **argv)
{
    tokenize_options o = { .model = "all-MiniLM-L6-v2", .format = RP_INPUT_AUTO };
    int exit_status;
    if (!parse_arguments(argc, argv, &o, &exit_status))
        return exit_status;
    char path[PATH_MAX];
    rp_error error = { { 0 } };
    rp_tokenizer *tokenizer = NULL;
    if (find_tokenizer(o.model, path, sizeof path, &error) != RP_OK ||
        rp_tokenizer_open(path, &tokenizer, &error) != RP_OK) {
        fprintf(stderr, "reprise tokenize: %s\n", error.text);
        return RP_EXIT_USAGE;
    }
    exit_status = RP_EXIT_DONE;
    if (optind == argc)
        exit_status = tokenize_file(tokenizer, &o, NULL);
    for (int i = optind; i < argc && exit_status == RP_EXIT_DONE; i++)
        exit_status = tokenize_file(tokenizer, &o, argv[i]);
    if (fflush(stdout) != 0 && exit_status == RP_EXIT_DONE)
        exit_status = RP_EXIT_FAILED;
    rp_tokenizer_close(tokenizer);
    return exit_status;
}
