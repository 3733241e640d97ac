/* model_config.c - reads a model's JSON files; each may be hostile. */
#include "model/model_config.h"

#include "base/bytes.h"
#include "base/file.h"
#include "json/json.h"

#include <stdio.h>

/* Guesses, far above every published encoder, so that a bad file is refused before
 * anybody multiplies its numbers. */
enum {
    FILE_SIZE_MAX = 1 << 20,
    HEADS_MAX = 256,
    INTERMEDIATE_MAX = 1 << 16,
    VOCABULARY_MAX = 1 << 24,
    POSITIONS_MAX = 1 << 16,
    TYPES_MAX = 16,
    LABELS_MAX = 1024,
    PATH_SIZE = 4096,
};

typedef struct folder_reader {
    const char *folder;
    rp_json_reader *json;
    rp_arena arena;
    rp_buffer file;
    bool prompt_left_out; /* pooling passes over the prompt's tokens */
    rp_error *error;
} folder_reader;

/* A file of the folder as a tree; NULL and RP_OK if it is optional and not there. */
static rp_status
read_json(folder_reader *reader, const char *name, bool optional, const rp_json **out)
{
    char path[PATH_SIZE];
    *out = NULL;
    if (snprintf(path, sizeof path, "%s/%s", reader->folder, name) >= (int)sizeof path)
        return rp_fail(reader->error, RP_ERR_LIMIT, "the path of %s is too long", name);
    if (optional && !rp_file_exists(path))
        return RP_OK;
    rp_buffer_clear(&reader->file);
    rp_status status = rp_file_read(path, FILE_SIZE_MAX, &reader->file, reader->error);
    if (status)
        return status;
    rp_error why = { { 0 } };
    status = rp_json_parse(reader->json, &reader->arena, rp_buffer_str(&reader->file), out, &why);
    if (status)
        return rp_fail(reader->error, status == RP_ERR_NOMEM ? status : RP_ERR_CORRUPT, "%s: %s",
                       path, why.text);
    return RP_OK;
}

static rp_status
read_size(folder_reader *reader, const rp_json *object, const char *name, size_t smallest,
          size_t largest, size_t *out)
{
    int64_t value;
    if (!rp_json_to_int64(rp_json_get(object, name), &value))
        return rp_fail(reader->error, RP_ERR_CORRUPT, "%s/config.json has no integer %s",
                       reader->folder, name);
    if (value < (int64_t)smallest || value > (int64_t)largest)
        return rp_fail(reader->error, RP_ERR_LIMIT, "%s/config.json: %s is %lld, not %zu to %zu",
                       reader->folder, name, (long long)value, smallest, largest);
    *out = (size_t)value;
    return RP_OK;
}

/* A string that must be one value, or absent. */
static rp_status
demand(folder_reader *reader, const rp_json *object, const char *name, const char *wanted)
{
    const rp_json *value = rp_json_get(object, name);
    if (!value || value->type == RP_JSON_NULL ||
        rp_str_equal(rp_json_string(value), rp_str_of(wanted)))
        return RP_OK;
    return rp_fail(reader->error, RP_ERR_UNSUPPORTED,
                   "%s/config.json: %s is not '%s', and nothing else can be computed here",
                   reader->folder, name, wanted);
}

/* What all architectures have. */
static rp_status
read_shape(folder_reader *reader, const rp_json *config, rp_model_config *out)
{
    const struct {
        const char *name;
        size_t smallest, largest, *out;
    } sizes[] = {
        { "hidden_size", 1, RP_DIM_MAX, &out->hidden },
        { "num_hidden_layers", 1, RP_LAYERS_MAX, &out->layers },
        { "num_attention_heads", 1, HEADS_MAX, &out->heads },
        { "intermediate_size", 1, INTERMEDIATE_MAX, &out->intermediate },
        { "vocab_size", 1, VOCABULARY_MAX, &out->vocabulary },
        { "max_position_embeddings", 4, POSITIONS_MAX, &out->positions },
    };
    for (size_t i = 0; i < RP_COUNT(sizes); i++) {
        const rp_status status = read_size(reader, config, sizes[i].name, sizes[i].smallest,
                                           sizes[i].largest, sizes[i].out);
        if (status)
            return status;
    }
    if (out->hidden % out->heads)
        return rp_fail(reader->error, RP_ERR_CORRUPT,
                       "%s/config.json: hidden_size %zu is no multiple of %zu heads",
                       reader->folder, out->hidden, out->heads);
    out->dim = out->hidden;
    return RP_OK;
}

/* A number in (above, below), or its default if it is absent. */
static rp_status
read_number(folder_reader *reader, const rp_json *object, const char *name, double above,
            double below, double otherwise, double *out)
{
    const rp_json *value = rp_json_get(object, name);
    *out = otherwise;
    if (!value || value->type == RP_JSON_NULL)
        return RP_OK;
    if (!rp_json_to_double(value, out) || !(*out > above && *out < below))
        return rp_fail(reader->error, RP_ERR_CORRUPT, "%s/config.json: %s is no number in (%g, %g)",
                       reader->folder, name, above, below);
    return RP_OK;
}

static rp_status
read_epsilon(folder_reader *reader, const rp_json *config, const char *name, double otherwise,
             rp_model_config *out)
{
    double epsilon;
    const rp_status status = read_number(reader, config, name, 0, 1, otherwise, &epsilon);
    out->epsilon = (float)epsilon;
    return status;
}

static rp_status
read_bert(folder_reader *reader, const rp_json *config, rp_model_config *out)
{
    rp_status status = read_size(reader, config, "type_vocab_size", 1, TYPES_MAX, &out->types);
    if (!status)
        status = read_epsilon(reader, config, "layer_norm_eps", 1e-12, out);
    if (!status)
        status = demand(reader, config, "hidden_act", "gelu");
    return status ? status : demand(reader, config, "position_embedding_type", "absolute");
}

/* ---- ModernBERT ---- */

/* Biases where the published models have none would be silently left out. */
static rp_status
refuse_biases(folder_reader *reader, const rp_json *config)
{
    static const char *const names[] = { "attention_bias", "mlp_bias", "norm_bias",
                                         "classifier_bias" };
    for (size_t i = 0; i < RP_COUNT(names); i++)
        if (rp_json_is_true(rp_json_get(config, names[i])))
            return rp_fail(reader->error, RP_ERR_UNSUPPORTED,
                           "%s/config.json: %s is true, which cannot be computed here",
                           reader->folder, names[i]);
    return RP_OK;
}

/* transformers 5 has the bases of rotary positions by kind of layer; 4 has two numbers. */
static rp_status
read_thetas(folder_reader *reader, const rp_json *config, rp_model_config *out)
{
    static const struct {
        const char *kind, *name;
        double otherwise;
    } rows[] = { { "full_attention", "global_rope_theta", 160000 },
                 { "sliding_attention", "local_rope_theta", 10000 } };
    double *const thetas[] = { &out->theta_global, &out->theta_local };
    const rp_json *kinds = rp_json_get(config, "rope_parameters");
    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        const rp_json *kind = rp_json_get(kinds, rows[i].kind);
        const rp_json *old = rp_json_get(config, rows[i].name);
        /* A local base of null means the global one (transformers 4). */
        const bool same = !kind && i == 1 && old && old->type == RP_JSON_NULL;
        rp_status status = kind ? demand(reader, kind, "rope_type", "default") : RP_OK;
        if (!status)
            status = read_number(reader, kind ? kind : config,
                                 kind ? "rope_theta" : rows[i].name, 1, 1e12,
                                 same ? out->theta_global : rows[i].otherwise, thetas[i]);
        if (status)
            return status;
    }
    return RP_OK;
}

/* Which layers are local: said for each (transformers 5), or all but every n-th. */
static rp_status
read_layer_kinds(folder_reader *reader, const rp_json *config, rp_model_config *out)
{
    const rp_json *kinds = rp_json_get(config, "layer_types");
    size_t every = 3;
    if (kinds && kinds->type == RP_JSON_ARRAY) {
        if (kinds->count != out->layers)
            return rp_fail(reader->error, RP_ERR_CORRUPT,
                           "%s/config.json: %u layer_types for %zu layers", reader->folder,
                           kinds->count, out->layers);
        for (size_t i = 0; i < out->layers; i++) {
            const rp_str kind = rp_json_string(&kinds->children[i]);
            out->local[i] = rp_str_equal(kind, RP_STR("sliding_attention"));
            if (!out->local[i] && !rp_str_equal(kind, RP_STR("full_attention")))
                return rp_fail(reader->error, RP_ERR_UNSUPPORTED,
                               "%s/config.json: layer %zu is neither full_attention nor sliding_attention",
                               reader->folder, i);
        }
        return RP_OK;
    }
    if (rp_json_get(config, "global_attn_every_n_layers")) {
        const rp_status status = read_size(reader, config, "global_attn_every_n_layers", 1,
                                           RP_LAYERS_MAX, &every);
        if (status)
            return status;
    }
    for (size_t i = 0; i < out->layers; i++)
        out->local[i] = i % every != 0;
    return RP_OK;
}

static rp_status
read_modernbert(folder_reader *reader, const rp_json *config, rp_model_config *out)
{
    size_t around = 128;
    rp_status status = refuse_biases(reader, config);
    if (!status && rp_json_get(config, "local_attention"))
        status = read_size(reader, config, "local_attention", 1, POSITIONS_MAX, &around);
    if (!status)
        status = read_epsilon(reader, config, "norm_eps", 1e-5, out);
    if (!status)
        status = read_thetas(reader, config, out);
    if (!status)
        status = read_layer_kinds(reader, config, out);
    if (!status)
        status = demand(reader, config, "hidden_activation", "gelu");
    if (!status)
        status = demand(reader, config, "classifier_activation", "gelu");
    if (!status && out->hidden / out->heads % 2)
        status = rp_fail(reader->error, RP_ERR_CORRUPT,
                         "%s/config.json: heads of %zu numbers cannot be turned in pairs",
                         reader->folder, out->hidden / out->heads);
    const rp_str pooling = rp_json_string(rp_json_get(config, "classifier_pooling"));
    out->head_pooling = rp_str_equal(pooling, RP_STR("mean")) ? RP_POOLING_MEAN : RP_POOLING_CLS;
    out->types = 1; /* there are none: every token's is 0 */
    out->reach = around / 2;
    return status;
}

/* How many labels a model's head has: those it names, else num_labels, else 2 as in
 * transformers. 0: it is no ...ForSequenceClassification. */
static rp_status
read_labels(folder_reader *reader, const rp_json *config, rp_model_config *out)
{
    const rp_json *names = rp_json_get(config, "architectures");
    const rp_json *labels = rp_json_get(config, "id2label");
    const bool has_head = names && names->type == RP_JSON_ARRAY && names->count == 1 &&
                          rp_str_ends_with(rp_json_string(&names->children[0]),
                                           RP_STR("ForSequenceClassification"));
    if (!has_head)
        return RP_OK;
    out->labels = 2;
    if (labels && labels->type == RP_JSON_OBJECT && labels->count >= 1 &&
        labels->count <= LABELS_MAX)
        out->labels = labels->count;
    else if (rp_json_get(config, "num_labels"))
        return read_size(reader, config, "num_labels", 1, LABELS_MAX, &out->labels);
    return RP_OK;
}

static rp_status
read_architecture(folder_reader *reader, rp_model_config *out)
{
    static const struct {
        const char *type;
        rp_architecture architecture;
        rp_status (*read)(folder_reader *reader, const rp_json *config, rp_model_config *out);
    } known[] = { { "bert", RP_ARCHITECTURE_BERT, read_bert },
                  { "modernbert", RP_ARCHITECTURE_MODERNBERT, read_modernbert } };
    const rp_json *config;
    rp_status status = read_json(reader, "config.json", false, &config);
    if (status)
        return status;
    const rp_str type = rp_json_string(rp_json_get(config, "model_type"));
    for (size_t i = 0; i < RP_COUNT(known); i++) {
        if (!rp_str_equal(type, rp_str_of(known[i].type)))
            continue;
        out->architecture = known[i].architecture;
        status = read_shape(reader, config, out);
        if (!status)
            status = known[i].read(reader, config, out);
        return status ? status : read_labels(reader, config, out);
    }
    return rp_fail(reader->error, RP_ERR_UNSUPPORTED,
                   "%s/config.json: model_type '%.*s' is not one of: bert, modernbert",
                   reader->folder, (int)RP_MIN(type.len, 40), type.ptr ? type.ptr : "");
}

/* Which of the pooling modes is on; more than one would be a longer vector. */
static rp_status
read_pooling(folder_reader *reader, const char *path, rp_model_config *out)
{
    char name[PATH_SIZE];
    const rp_json *config;
    snprintf(name, sizeof name, "%s/config.json", path);
    const rp_status status = read_json(reader, name, false, &config);
    if (status)
        return status;
    size_t modes = 0;
    bool mean = rp_json_is_true(rp_json_get(config, "pooling_mode_mean_tokens"));
    bool cls = rp_json_is_true(rp_json_get(config, "pooling_mode_cls_token"));
    for (size_t i = 0; config->type == RP_JSON_OBJECT && i < config->count; i++)
        modes += rp_str_starts_with(config->children[i].name, RP_STR("pooling_mode_")) &&
                 rp_json_is_true(&config->children[i]);
    const rp_str mode = rp_json_string(rp_json_get(config, "pooling_mode"));
    if (mode.ptr) {
        mean = rp_str_equal(mode, RP_STR("mean"));
        cls = rp_str_equal(mode, RP_STR("cls"));
        modes = 1;
    }
    if (modes != 1 || mean == cls)
        return rp_fail(reader->error, RP_ERR_UNSUPPORTED,
                       "%s/%s: pooling must be mean or cls, and only one of them", reader->folder,
                       name);
    const rp_json *include = rp_json_get(config, "include_prompt");
    reader->prompt_left_out = include && include->type == RP_JSON_BOOL && !rp_json_is_true(include);
    out->pooling = mean ? RP_POOLING_MEAN : RP_POOLING_CLS;
    return RP_OK;
}

/* A path from modules.json goes into the model's folder and nowhere else. */
static bool
is_plain_folder_name(rp_str path)
{
    if (!path.len || path.len > 100 || path.ptr[0] == '.')
        return false;
    for (size_t i = 0; i < path.len; i++)
        if (path.ptr[i] == '/' || path.ptr[i] == '\\' || path.ptr[i] < ' ')
            return false;
    return true;
}

static rp_status
read_module(folder_reader *reader, const rp_json *module, rp_model_config *out)
{
    const rp_str type = rp_json_string(rp_json_get(module, "type"));
    const rp_str path = rp_json_string(rp_json_get(module, "path"));
    /* Vectors have length 1 here whether the model normalises or not: cosine is all
     * that anybody asks. */
    if (rp_str_ends_with(type, RP_STR(".Transformer")) || rp_str_ends_with(type, RP_STR(".Normalize")))
        return RP_OK;
    if (!rp_str_ends_with(type, RP_STR(".Pooling")))
        return rp_fail(reader->error, RP_ERR_UNSUPPORTED,
                       "%s/modules.json asks for a module other than Transformer, Pooling and Normalize",
                       reader->folder);
    if (!is_plain_folder_name(path))
        return rp_fail(reader->error, RP_ERR_CORRUPT,
                       "%s/modules.json: the pooling module's path is no name of a folder here",
                       reader->folder);
    char name[128];
    snprintf(name, sizeof name, "%.*s", RP_FMT(path));
    return read_pooling(reader, name, out);
}

static rp_status
read_modules(folder_reader *reader, rp_model_config *out)
{
    const rp_json *modules;
    out->pooling = RP_POOLING_MEAN; /* what sentence-transformers does without modules.json */
    rp_status status = read_json(reader, "modules.json", true, &modules);
    if (status || !modules)
        return status;
    if (modules->type != RP_JSON_ARRAY)
        return rp_fail(reader->error, RP_ERR_CORRUPT, "%s/modules.json is no array",
                       reader->folder);
    for (size_t i = 0; !status && i < modules->count; i++)
        status = read_module(reader, &modules->children[i], out);
    return status;
}

/* Without max_seq_length, sentence-transformers uses all positions. */
static rp_status
read_window(folder_reader *reader, rp_model_config *out)
{
    const rp_json *config;
    const rp_status status = read_json(reader, "sentence_bert_config.json", true, &config);
    out->window = out->positions;
    if (status || !config)
        return status;
    const rp_json *value = rp_json_get(config, "max_seq_length");
    int64_t window = (int64_t)out->positions;
    if (value && value->type != RP_JSON_NULL &&
        (!rp_json_to_int64(value, &window) || window < 4))
        return rp_fail(reader->error, RP_ERR_CORRUPT,
                       "%s/sentence_bert_config.json: max_seq_length is no number of tokens",
                       reader->folder);
    if (rp_json_is_true(rp_json_get(config, "do_lower_case")))
        return rp_fail(reader->error, RP_ERR_UNSUPPORTED,
                       "%s/sentence_bert_config.json: do_lower_case is left to the tokenizer here",
                       reader->folder);
    out->window = RP_MIN((size_t)window, out->positions);
    return RP_OK;
}

/* The text that the model's makers want before each prompt, if they name a default. */
static rp_status
read_prefix(folder_reader *reader, rp_model_config *out)
{
    const rp_json *config;
    const rp_status status =
        read_json(reader, "config_sentence_transformers.json", true, &config);
    out->prefix[0] = 0;
    if (status || !config)
        return status;
    const rp_str name = rp_json_string(rp_json_get(config, "default_prompt_name"));
    const rp_json *prompts = rp_json_get(config, "prompts");
    if (!name.ptr || !prompts || prompts->type != RP_JSON_OBJECT)
        return RP_OK;
    for (size_t i = 0; i < prompts->count; i++) {
        if (!rp_str_equal(prompts->children[i].name, name))
            continue;
        const rp_str text = rp_json_string(&prompts->children[i]);
        if (!text.ptr || text.len >= sizeof out->prefix || memchr(text.ptr, 0, text.len))
            return rp_fail(reader->error, RP_ERR_LIMIT,
                           "%s/config_sentence_transformers.json: the default prompt is longer than %zu bytes",
                           reader->folder, sizeof out->prefix - 1);
        memcpy(out->prefix, text.ptr, text.len);
        out->prefix[text.len] = 0;
    }
    if (*out->prefix && reader->prompt_left_out && out->pooling == RP_POOLING_MEAN)
        return rp_fail(reader->error, RP_ERR_UNSUPPORTED,
                       "%s: pooling leaves the prompt's tokens out, which cannot be done here",
                       reader->folder);
    return RP_OK;
}

rp_status
rp_model_config_read(const char *folder, rp_model_config *out, rp_error *error)
{
    folder_reader reader = { .folder = folder, .error = error };
    rp_status status = rp_json_reader_new(&reader.json);
    if (status)
        return rp_fail(error, status, "no memory to read %s", folder);
    rp_arena_init(&reader.arena, (size_t)64 << 20);
    rp_buffer_init(&reader.file, FILE_SIZE_MAX);
    rp_model_config config = { 0 };
    status = read_architecture(&reader, &config);
    if (!status)
        status = read_modules(&reader, &config);
    if (!status)
        status = read_window(&reader, &config);
    if (!status)
        status = read_prefix(&reader, &config);
    if (!status)
        *out = config;
    rp_buffer_fini(&reader.file);
    rp_arena_fini(&reader.arena);
    rp_json_reader_free(reader.json);
    return status;
}
