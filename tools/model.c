/* model.c - `reprise model pull|list|info|verify`: get and check encoders. */
#include "base/buffer.h"
#include "base/bytes.h"
#include "embed/registry.h"
#include "json/json.h"
#include "tools/command.h"

#include <getopt.h>
#include <reprise/embed.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_SIZE = 4096 };

static void
print_help(FILE *out)
{
    fputs("Usage: reprise model pull NAME     get a model and check it\n"
          "       reprise model list          the models known by name, and what lies here\n"
          "       reprise model info MODEL    what a model is; MODEL is a name, folder or .safetensors\n"
          "       reprise model verify NAME   check size and SHA-256 of every file\n\n"
          "  --json   one JSON object instead of text (list, info)\n"
          "  --help\n\n"
          "Models lie in $REPRISE_MODELS, else $XDG_DATA_HOME/reprise/models, else\n"
          "~/.local/share/reprise/models.\n",
          out);
}

static int
fail(int exit_status, const rp_error *error)
{
    fprintf(stderr, "reprise model: %s\n", error->text);
    return exit_status;
}

static const rp_model_source *
find_source(const char *name)
{
    const rp_model_source *source = rp_model_source_find(name);
    if (!source)
        fprintf(stderr, "reprise model: '%s' is no model known by name; `reprise model list` shows "
                        "them\n", name);
    return source;
}

/* ---- pull ---- */

static void
show_progress(void *context, const char *what, uint64_t done, uint64_t total)
{
    int *shown = context;
    const int percent = total ? (int)(done * 100 / total) : 100;
    if (percent == *shown && done < total)
        return;
    *shown = percent;
    fprintf(stderr, "\r%-36s %3d %%%s", what, percent, done >= total ? "\n" : "");
}

static int
pull(const char *name)
{
    char folder[PATH_SIZE];
    rp_error error = { { 0 } };
    int shown = -1;
    const rp_model_source *source = find_source(name);
    if (!source)
        return RP_EXIT_USAGE;
    if (rp_models_folder(folder, sizeof folder, &error) != RP_OK ||
        rp_model_pull(source, folder, isatty(STDERR_FILENO) ? show_progress : NULL, &shown,
                      &error) != RP_OK)
        return fail(RP_EXIT_FAILED, &error);
    printf("%s/%s\n", folder, source->name);
    return RP_EXIT_DONE;
}

/* ---- list ---- */

static bool
is_here(const rp_model_source *source)
{
    char path[PATH_SIZE];
    return rp_model_resolve(source->name, path, sizeof path, NULL) == RP_OK;
}

static uint64_t
sum_sizes(const rp_model_source *source)
{
    uint64_t size = 0;
    for (size_t i = 0; i < source->file_count; i++)
        size += source->files[i].size;
    return size;
}

static int
list(bool json)
{
    const rp_model_source *sources;
    const size_t count = rp_model_sources(&sources);
    rp_buffer out;
    rp_json_writer writer;
    rp_buffer_init(&out, 0);
    rp_json_writer_init(&writer, &out);
    rp_json_open(&writer, '[');
    for (size_t i = 0; i < count; i++) {
        const rp_model_source *source = &sources[i];
        rp_json_open(&writer, '{');
        rp_json_key(&writer, "name");
        rp_json_put_cstring(&writer, source->name);
        rp_json_key(&writer, "here");
        rp_json_put_bool(&writer, is_here(source));
        rp_json_key(&writer, "size_bytes");
        rp_json_put_uint(&writer, sum_sizes(source));
        rp_json_key(&writer, "licence");
        rp_json_put_cstring(&writer, source->licence);
        rp_json_key(&writer, "hub");
        rp_json_put_cstring(&writer, source->hub);
        rp_json_key(&writer, "pypi");
        rp_json_put_cstring(&writer, source->pypi);
        rp_json_close(&writer, '}');
        if (!json)
            printf("%-20s %-4s %5.1f MB  %-11s %s\n", source->name, is_here(source) ? "here" : "-",
                   (double)sum_sizes(source) / 1e6, source->licence, source->summary);
    }
    rp_json_close(&writer, ']');
    if (json)
        printf("%.*s\n", RP_FMT(rp_buffer_str(&out)));
    rp_buffer_fini(&out);
    return RP_EXIT_DONE;
}

/* ---- info ---- */

static const char *
name_precision(rp_precision precision)
{
    static const char *const names[] = { "auto", "f32", "bf16", "int8" };
    return names[precision];
}

static void
print_info(const rp_encoder *encoder, const char *path, bool json)
{
    rp_buffer out;
    rp_json_writer w;
    rp_buffer_init(&out, 0);
    rp_json_writer_init(&w, &out);
    rp_json_open(&w, '{');
    rp_json_key(&w, "name");
    rp_json_put_string(&w, rp_encoder_name(encoder));
    rp_json_key(&w, "path");
    rp_json_put_cstring(&w, path);
    rp_json_key(&w, "dim");
    rp_json_put_uint(&w, rp_encoder_dim(encoder));
    rp_json_key(&w, "window_tokens");
    rp_json_put_uint(&w, rp_encoder_window_tokens(encoder));
    rp_json_key(&w, "precision");
    rp_json_put_cstring(&w, name_precision(rp_encoder_precision(encoder)));
    rp_json_key(&w, "tier");
    rp_json_put_string(&w, rp_encoder_tier(encoder));
    rp_json_key(&w, "fingerprint");
    rp_json_put_string(&w, rp_encoder_fingerprint(encoder));
    rp_json_key(&w, "size_bytes");
    rp_json_put_uint(&w, rp_encoder_size_bytes(encoder));
    rp_json_close(&w, '}');
    if (json)
        printf("%.*s\n", RP_FMT(rp_buffer_str(&out)));
    else
        printf("name         %.*s\npath         %s\nvectors      %zu numbers, %s\n"
               "window       %zu tokens\nkernels      %.*s\nfingerprint  %.*s\nmemory       %.1f MB\n",
               RP_FMT(rp_encoder_name(encoder)), path, rp_encoder_dim(encoder),
               name_precision(rp_encoder_precision(encoder)), rp_encoder_window_tokens(encoder),
               RP_FMT(rp_encoder_tier(encoder)), RP_FMT(rp_encoder_fingerprint(encoder)),
               (double)rp_encoder_size_bytes(encoder) / 1e6);
    rp_buffer_fini(&out);
}

static int
info(const char *model, bool json)
{
    char path[PATH_SIZE];
    rp_error error = { { 0 } };
    rp_encoder *encoder = NULL;
    if (rp_model_resolve(model, path, sizeof path, &error) != RP_OK ||
        rp_encoder_open(path, NULL, &encoder, &error) != RP_OK)
        return fail(RP_EXIT_USAGE, &error);
    const rp_status status = rp_encoder_self_test(encoder, &error);
    print_info(encoder, path, json);
    rp_encoder_close(encoder);
    return status ? fail(RP_EXIT_FAILED, &error) : RP_EXIT_DONE;
}

/* ---- verify ---- */

static int
verify(const char *name)
{
    char folder[PATH_SIZE];
    rp_error error = { { 0 } };
    const rp_model_source *source = find_source(name);
    if (!source)
        return RP_EXIT_USAGE;
    if (rp_model_resolve(name, folder, sizeof folder, &error) != RP_OK ||
        rp_model_verify(source, folder, &error) != RP_OK)
        return fail(RP_EXIT_FAILED, &error);
    printf("%s: %zu files are what they should be\n", folder, source->file_count);
    return RP_EXIT_DONE;
}

int
rp_command_model(int argc, char **argv)
{
    static const struct option options[] = {
        { "json", no_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    bool json = false;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'j') {
            json = true;
        } else if (option == 'h') {
            print_help(stdout);
            return RP_EXIT_DONE;
        } else {
            fputs("Try `reprise model --help`.\n", stderr);
            return RP_EXIT_USAGE;
        }
    }
    const char *what = optind < argc ? argv[optind] : "";
    const char *name = optind + 1 < argc ? argv[optind + 1] : NULL;
    if (strcmp(what, "list") == 0 && argc - optind == 1)
        return list(json);
    if (argc - optind == 2 && strcmp(what, "pull") == 0)
        return pull(name);
    if (argc - optind == 2 && strcmp(what, "info") == 0)
        return info(name, json);
    if (argc - optind == 2 && strcmp(what, "verify") == 0)
        return verify(name);
    print_help(stderr);
    return RP_EXIT_USAGE;
}
