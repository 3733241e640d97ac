/* adapter.c - reads an adapter's two files; both may be hostile. */
#include "model/adapter.h"

#include "base/bytes.h"
#include "base/file.h"
#include "json/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    CONFIG_SIZE_MAX = 1 << 20,
    TENSORS_MAX = 1 << 14, /* 256 layers of six Linears, twice, and as much again; a guess */
    RANK_MAX = 1 << 12,
    NAME_SIZE = 200,
    PATH_SIZE = 4096,
};

/* What stands between "base_model.model." and a name of the backbone, by who saved it:
 * AutoModel, a model with a head, sentence-transformers. */
static const char *const roots[] = { "", "bert.", "model.", "auto_model.", "0.auto_model." };

struct rp_adapter {
    rp_safetensors *file; /* owned */
    bool *used;           /* owned, of each tensor */
    bool replaces;        /* whole tensors are expected */
    bool rank_stabilised;
    double alpha;
    size_t rank;
    rp_arena arena; /* what `config` lies in */
    const rp_json *targets, *alphas, *ranks; /* of the config; NULL: none */
    /* lora_A of the module that was asked for last, as f32. */
    float *down; /* owned */
    const rp_tensor *down_of;
    uint8_t hash[16];
    char name[256]; /* for error sentences */
};

/* ---- names ---- */

static const rp_tensor *
find(const rp_adapter *adapter, const char *name, const char *suffix)
{
    char full[NAME_SIZE];
    for (size_t i = 0; i < RP_COUNT(roots); i++) {
        const int len =
            snprintf(full, sizeof full, "base_model.model.%s%s%s", roots[i], name, suffix);
        if (len < 0 || (size_t)len >= sizeof full)
            return NULL;
        const rp_tensor *tensor = rp_safetensors_find(adapter->file, rp_str_of(full));
        if (tensor)
            return tensor;
    }
    return NULL;
}

static void
note_used(rp_adapter *adapter, const rp_tensor *tensor)
{
    adapter->used[tensor - rp_safetensors_at(adapter->file, 0)] = true;
}

bool
rp_adapter_changes(const rp_adapter *adapter, const char *module)
{
    return find(adapter, module, ".lora_A.weight") || find(adapter, module, ".lora_B.weight");
}

bool
rp_adapter_replaces_any(const rp_adapter *adapter)
{
    return adapter->replaces;
}

const rp_tensor *
rp_adapter_replacement(rp_adapter *adapter, const char *tensor)
{
    const rp_tensor *found = adapter->replaces ? find(adapter, tensor, "") : NULL;
    if (found)
        note_used(adapter, found);
    return found;
}

/* "query" and "self.query" name encoder.layer.0.attention.self.query. */
static bool
names_module(rp_str pattern, rp_str module)
{
    if (!rp_str_ends_with(module, pattern))
        return false;
    return pattern.len == module.len || module.ptr[module.len - pattern.len - 1] == '.';
}

/* Of rank_pattern or alpha_pattern, for one module. */
static bool
find_pattern(const rp_json *patterns, const char *module, double *out)
{
    for (size_t i = 0; patterns && i < patterns->count; i++)
        if (names_module(patterns->children[i].name, rp_str_of(module)))
            return rp_json_to_double(&patterns->children[i], out);
    return false;
}

/* ---- the change ---- */

static rp_status
check_shapes(const rp_adapter *adapter, const char *module, const rp_tensor *down,
             const rp_tensor *up, size_t rows, size_t depth, rp_error *error)
{
    if (!down || !up)
        return rp_fail(error, RP_ERR_CORRUPT, "%s has only one of lora_A and lora_B for %s",
                       adapter->name, module);
    if (down->dtype == RP_DTYPE_OTHER || up->dtype == RP_DTYPE_OTHER)
        return rp_fail(error, RP_ERR_UNSUPPORTED,
                       "%s: the tensors of %s are not of f32, f16 or bf16", adapter->name, module);
    if (down->rank != 2 || up->rank != 2 || down->shape[1] != depth || up->shape[0] != rows ||
        down->shape[0] != up->shape[1])
        return rp_fail(error, RP_ERR_CORRUPT,
                       "%s: the tensors of %s do not fit a Linear of %zu inputs and %zu outputs",
                       adapter->name, module, depth, rows);
    double rank = (double)adapter->rank;
    (void)find_pattern(adapter->ranks, module, &rank);
    if (down->shape[0] < 1 || down->shape[0] > RANK_MAX || (double)down->shape[0] != rank)
        return rp_fail(error, RP_ERR_CORRUPT,
                       "%s: the tensors of %s have rank %zu, the config says %g", adapter->name,
                       module, down->shape[0], rank);
    return RP_OK;
}

/* lora_A as f32; kept, since the rows of a module come in many pieces. */
static bool
read_down(rp_adapter *adapter, const rp_tensor *down)
{
    if (adapter->down_of == down)
        return true;
    free(adapter->down);
    adapter->down_of = NULL;
    /* Half as many bytes at least are in the file: no overflow. */
    adapter->down = malloc(down->count * sizeof *adapter->down);
    if (!adapter->down)
        return false;
    rp_tensor_read(down, 0, down->count, adapter->down);
    adapter->down_of = down;
    return true;
}

rp_status
rp_adapter_apply(rp_adapter *adapter, const char *module, size_t rows_all, size_t depth, size_t row,
                 size_t count, float *rows, rp_error *error)
{
    const rp_tensor *down = find(adapter, module, ".lora_A.weight");
    const rp_tensor *up = find(adapter, module, ".lora_B.weight");
    if (!down && !up)
        return RP_OK;
    const rp_status status = check_shapes(adapter, module, down, up, rows_all, depth, error);
    if (status)
        return status;
    if (!read_down(adapter, down))
        return rp_fail(error, RP_ERR_NOMEM, "no memory to merge %s", adapter->name);
    note_used(adapter, down);
    note_used(adapter, up);
    const size_t rank = down->shape[0];
    double alpha = adapter->alpha;
    (void)find_pattern(adapter->alphas, module, &alpha);
    const double divisor = adapter->rank_stabilised ? sqrt((double)rank) : (double)rank;
    const float scale = (float)(alpha / divisor);
    for (size_t r = 0; r < count; r++)
        for (size_t k = 0; k < rank; k++) {
            float share;
            rp_tensor_read(up, (row + r) * rank + k, 1, &share);
            share *= scale;
            const float *from = adapter->down + k * depth;
            float *to = rows + r * depth;
            for (size_t i = 0; i < depth; i++)
                to[i] += share * from[i];
        }
    return RP_OK;
}

static rp_status
check_targets(const rp_adapter *adapter, rp_error *error)
{
    const rp_json *targets = adapter->targets;
    for (size_t i = 0; targets && i < targets->count; i++) {
        const rp_str target = rp_json_string(&targets->children[i]);
        bool found = false;
        for (size_t t = 0; !found && t < rp_safetensors_count(adapter->file); t++) {
            rp_str module = rp_safetensors_at(adapter->file, t)->name;
            const rp_str suffix = RP_STR(".lora_A.weight");
            if (rp_str_ends_with(module, suffix)) {
                module.len -= suffix.len;
                found = names_module(target, module);
            }
        }
        if (!found)
            return rp_fail(error, RP_ERR_CORRUPT,
                           "%s: adapter_config.json names target module %zu, which no tensor changes",
                           adapter->name, i);
    }
    return RP_OK;
}

rp_status
rp_adapter_check_used(const rp_adapter *adapter, rp_error *error)
{
    for (size_t i = 0; i < rp_safetensors_count(adapter->file); i++) {
        rp_str name = rp_safetensors_at(adapter->file, i)->name;
        if (adapter->used[i])
            continue;
        for (size_t c = 0; c < name.len; c++)
            if (name.ptr[c] < ' ' || name.ptr[c] > '~')
                name.len = c; /* printable, it is a stranger's */
        return rp_fail(error, RP_ERR_CORRUPT, "%s: tensor '%.*s' has no place in this model",
                       adapter->name, (int)RP_MIN(name.len, 120), name.ptr);
    }
    return check_targets(adapter, error);
}

void
rp_adapter_hash(const rp_adapter *adapter, uint8_t out[16])
{
    memcpy(out, adapter->hash, sizeof adapter->hash);
}

/* ---- the configuration ---- */

static bool
is_off(const rp_json *value)
{
    return !value || value->type == RP_JSON_NULL ||
           (value->type == RP_JSON_ARRAY && value->count == 0) ||
           (value->type == RP_JSON_OBJECT && value->count == 0) ||
           (value->type != RP_JSON_ARRAY && value->type != RP_JSON_OBJECT &&
            value->type != RP_JSON_STRING && !rp_json_is_true(value));
}

/* Options that change what is computed, or change the base's weights first. */
static rp_status
refuse_others(const rp_adapter *adapter, const rp_json *config, rp_error *error)
{
    static const char *const others[] = { "use_dora",        "layer_replication", "lora_bias",
                                          "megatron_config", "trainable_token_indices",
                                          "use_qalora",      "alora_invocation_tokens",
                                          "target_parameters", "arrow_config" };
    const rp_str kind = rp_json_string(rp_json_get(config, "peft_type"));
    if (!rp_str_equal(kind, RP_STR("LORA")))
        return rp_fail(error, RP_ERR_UNSUPPORTED, "%s: peft_type is not LORA", adapter->name);
    for (size_t i = 0; i < RP_COUNT(others); i++)
        if (!is_off(rp_json_get(config, others[i])))
            return rp_fail(error, RP_ERR_UNSUPPORTED, "%s: adapters with %s cannot be merged here",
                           adapter->name, others[i]);
    /* Some ways to begin training (PiSSA, OLoRA, CorDA, LoftQ) change the base itself. */
    const rp_str begin = rp_json_string(rp_json_get(config, "init_lora_weights"));
    if (begin.ptr && !rp_str_equal(begin, RP_STR("gaussian")) &&
        !rp_str_equal(begin, RP_STR("orthogonal")) && !rp_str_equal(begin, RP_STR("eva")))
        return rp_fail(error, RP_ERR_UNSUPPORTED,
                       "%s: init_lora_weights is a way to begin that changes the base model",
                       adapter->name);
    return RP_OK;
}

static rp_status
read_config(rp_adapter *adapter, const rp_json *config, rp_error *error)
{
    int64_t rank;
    if (config->type != RP_JSON_OBJECT)
        return rp_fail(error, RP_ERR_CORRUPT, "%s: adapter_config.json is no object",
                       adapter->name);
    const rp_status status = refuse_others(adapter, config, error);
    if (status)
        return status;
    if (!rp_json_to_int64(rp_json_get(config, "r"), &rank) || rank < 1 || rank > RANK_MAX)
        return rp_fail(error, RP_ERR_CORRUPT, "%s: adapter_config.json has no rank r of 1 to %d",
                       adapter->name, RANK_MAX);
    if (!rp_json_to_double(rp_json_get(config, "lora_alpha"), &adapter->alpha) ||
        !(fabs(adapter->alpha) < 1e6))
        return rp_fail(error, RP_ERR_CORRUPT, "%s: adapter_config.json has no sensible lora_alpha",
                       adapter->name);
    adapter->rank = (size_t)rank;
    adapter->rank_stabilised = rp_json_is_true(rp_json_get(config, "use_rslora"));
    /* fan_in_fan_out speaks of base layers that keep their weights transposed. Linears, all
     * that we read, do not, and PEFT then ignores it; so do we. */
    const rp_json *bias = rp_json_get(config, "bias");
    adapter->replaces = !is_off(rp_json_get(config, "modules_to_save")) ||
                        (bias && bias->type == RP_JSON_STRING &&
                         !rp_str_equal(rp_json_string(bias), RP_STR("none")));
    const rp_json *targets = rp_json_get(config, "target_modules");
    if (targets && targets->type == RP_JSON_ARRAY)
        adapter->targets = targets; /* else a pattern; the tensors say what it matched */
    const rp_json *ranks = rp_json_get(config, "rank_pattern");
    const rp_json *alphas = rp_json_get(config, "alpha_pattern");
    adapter->ranks = ranks && ranks->type == RP_JSON_OBJECT ? ranks : NULL;
    adapter->alphas = alphas && alphas->type == RP_JSON_OBJECT ? alphas : NULL;
    return RP_OK;
}

static rp_status
parse_config(rp_adapter *adapter, rp_str bytes, rp_error *error)
{
    rp_json_reader *reader = NULL;
    const rp_json *config;
    rp_error why = { { 0 } };
    rp_status status = rp_json_reader_new(&reader);
    if (status)
        return rp_fail(error, status, "no memory to read %s", adapter->name);
    status = rp_json_parse(reader, &adapter->arena, bytes, &config, &why);
    if (status)
        status = rp_fail(error, status == RP_ERR_NOMEM ? status : RP_ERR_CORRUPT,
                         "%s/adapter_config.json: %s", adapter->name, why.text);
    else
        status = read_config(adapter, config, error);
    rp_json_reader_free(reader);
    return status;
}

/* ---- opening ---- */

static rp_adapter *
make(const char *name)
{
    rp_adapter *adapter = calloc(1, sizeof *adapter);
    if (!adapter)
        return NULL;
    rp_arena_init(&adapter->arena, (size_t)64 << 20);
    snprintf(adapter->name, sizeof adapter->name, "%s", name);
    return adapter;
}

static void
hash_files(rp_adapter *adapter, rp_str config)
{
    const rp_str weights = rp_safetensors_bytes(adapter->file);
    const uint64_t size = config.len; /* so that no byte moves from one file to the other */
    XXH3_state_t *state = XXH3_createState();
    XXH128_canonical_t canonical = { { 0 } };
    if (state) {
        XXH3_128bits_reset(state);
        XXH3_128bits_update(state, &size, sizeof size);
        XXH3_128bits_update(state, config.ptr, config.len);
        XXH3_128bits_update(state, weights.ptr, weights.len);
        XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
        XXH3_freeState(state);
    }
    memcpy(adapter->hash, canonical.digest, sizeof adapter->hash);
}

/* With the file open: the rest. */
static rp_status
finish(rp_adapter *adapter, rp_str config, rp_error *error)
{
    const size_t count = rp_safetensors_count(adapter->file);
    if (count > TENSORS_MAX)
        return rp_fail(error, RP_ERR_LIMIT, "%s has %zu tensors; the limit is %d", adapter->name,
                       count, TENSORS_MAX);
    if (!count)
        return rp_fail(error, RP_ERR_CORRUPT, "%s has no tensors", adapter->name);
    adapter->used = calloc(count, sizeof *adapter->used);
    if (!adapter->used)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for an adapter");
    hash_files(adapter, config);
    return parse_config(adapter, config, error);
}

rp_status
rp_adapter_parse(const char *name, rp_str config, rp_str weights, rp_adapter **out, rp_error *error)
{
    rp_adapter *adapter = make(name);
    if (!adapter)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for an adapter");
    rp_status status = rp_safetensors_parse(weights, &adapter->file, error);
    if (!status)
        status = finish(adapter, config, error);
    if (status) {
        rp_adapter_close(adapter);
        return status;
    }
    *out = adapter;
    return RP_OK;
}

rp_status
rp_adapter_open(const char *folder, rp_adapter **out, rp_error *error)
{
    char path[PATH_SIZE];
    rp_buffer config;
    if (strlen(folder) + 32 > sizeof path)
        return rp_fail(error, RP_ERR_LIMIT, "an adapter's path of %zu bytes", strlen(folder));
    rp_adapter *adapter = make(folder);
    if (!adapter)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for an adapter");
    rp_buffer_init(&config, CONFIG_SIZE_MAX);
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    rp_status status = rp_file_read(path, CONFIG_SIZE_MAX, &config, error);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    if (!status)
        status = rp_safetensors_open(path, &adapter->file, error);
    if (!status)
        status = finish(adapter, rp_buffer_str(&config), error);
    rp_buffer_fini(&config);
    if (status) {
        rp_adapter_close(adapter);
        return status;
    }
    *out = adapter;
    return RP_OK;
}

void
rp_adapter_close(rp_adapter *adapter)
{
    if (!adapter)
        return;
    rp_safetensors_close(adapter->file);
    rp_arena_fini(&adapter->arena);
    free(adapter->used);
    free(adapter->down);
    free(adapter);
}
