/* weights.c - from the tensors of a file to packed weights in an arena. */
#include "base/bytes.h"
#include "model/model_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20 };

/* ---- the arena ---- */

static void *
take(rp_layout *plan, size_t count, size_t unit)
{
    size_t size;
    if (__builtin_mul_overflow(count, unit, &size) ||
        __builtin_add_overflow(plan->used, size + RP_MODEL_ALIGNMENT, &size)) {
        plan->overflow = true;
        return NULL;
    }
    void *at = plan->base ? plan->base + plan->used : NULL;
    plan->used = size / RP_MODEL_ALIGNMENT * RP_MODEL_ALIGNMENT;
    return at;
}

float *
rp_layout_floats(rp_layout *plan, size_t count)
{
    return take(plan, count, sizeof(float));
}

void
rp_layout_norm(rp_layout *plan, size_t count, bool biased, rp_norm *out)
{
    out->gain = rp_layout_floats(plan, count);
    out->bias = biased ? rp_layout_floats(plan, count) : NULL;
}

void
rp_layout_linear(rp_layout *plan, const rp_kernels *kernels, rp_class class, size_t columns,
                 size_t depth, size_t outliers, rp_weights *out)
{
    const size_t panel = kernels->product[class].panel, padded = rp_padded_columns(columns, panel);
    out->columns = columns;
    out->depth = depth;
    out->values = take(plan, rp_packed_size(class, columns, depth, panel), 1);
    out->bias = rp_layout_floats(plan, padded);
    if (class == RP_CLASS_INT8 || kernels->product[class].whole)
        out->scales = rp_layout_floats(plan, padded);
    if (class != RP_CLASS_INT8)
        return;
    out->sums = rp_layout_floats(plan, padded);
    out->outlier_count = RP_MIN(outliers, depth);
    out->outlier_at = take(plan, outliers, sizeof(uint16_t));
    out->outliers = rp_layout_floats(plan, outliers * padded);
}

/* Huge pages where they can be had: 3 to 20 % on streamed weights, and fewer faults
 * while the arena is filled. */
rp_status
rp_model_map_arena(rp_model *model, rp_lay_out *lay_out, void *context, rp_error *error)
{
    rp_layout plan = { 0 };
    lay_out(model, &plan, context);
    model->mapping_size = plan.used + HUGE_PAGE;
    char *mapping = plan.overflow ? MAP_FAILED
                                  : mmap(NULL, model->mapping_size, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for weights of %zu bytes", plan.used);
    model->mapping = mapping;
    model->arena = mapping + (HUGE_PAGE - (uintptr_t)mapping % HUGE_PAGE) % HUGE_PAGE;
    model->arena_size = plan.used;
    (void)madvise(model->arena, model->arena_size, MADV_HUGEPAGE);
    plan = (rp_layout){ .base = model->arena };
    lay_out(model, &plan, context);
    return RP_OK;
}

/* ---- what a layer is made of ---- */

void
rp_plan_part(rp_layer_plan *plan, const char *name, size_t rows, size_t depth, bool biased,
             size_t outliers, rp_weights *into)
{
    rp_layer_part *part = &plan->parts[plan->part_count++];
    *part = (rp_layer_part){ .rows = rows, .depth = depth, .outliers = outliers, .biased = biased,
                             .into = into };
    snprintf(part->name, sizeof part->name, "%s", name);
}

void
rp_plan_norm(rp_layer_plan *plan, const char *name, bool biased, rp_norm *into)
{
    rp_layer_norm *norm = &plan->norms[plan->norm_count++];
    *norm = (rp_layer_norm){ .biased = biased, .into = into };
    snprintf(norm->name, sizeof norm->name, "%s", name);
}

size_t
rp_plan_first_column(const rp_layer_plan *plan, size_t part)
{
    size_t first = 0;
    for (size_t i = 0; i < part; i++)
        if (plan->parts[i].into == plan->parts[part].into)
            first += plan->parts[i].rows;
    return first;
}

/* Norms go where execution meets them, nearly: they are small. */
void
rp_layout_layer(const rp_model *model, const rp_layer_plan *layer, rp_layer_wanted *only,
                const void *context, rp_layout *plan)
{
    for (size_t i = 0; i < layer->part_count; i++) {
        const rp_layer_part *part = &layer->parts[i];
        const bool last = i + 1 == layer->part_count || layer->parts[i + 1].into != part->into;
        if (last && (!only || only(context, layer, part->into)))
            rp_layout_linear(plan, model->kernels, model->class,
                             rp_plan_first_column(layer, i) + part->rows, part->depth,
                             part->outliers, part->into);
    }
    for (size_t i = 0; !only && i < layer->norm_count; i++)
        rp_layout_norm(plan, model->config.hidden, layer->norms[i].biased, layer->norms[i].into);
}

/* ---- reading tensors ---- */

/* A name is of the backbone and gets its prefix, unless it begins with '^'. */
static const rp_tensor *
find_tensor(rp_loader *from, const char *name, char *full, size_t size)
{
    const bool bare = *name == '^';
    snprintf(full, size, "%s%s", bare ? "" : from->prefix, name + bare);
    const rp_tensor *tensor = NULL;
    if (from->adapter)
        tensor = rp_adapter_replacement(from->adapter, name + bare);
    if (!tensor)
        tensor = rp_safetensors_find(rp_weight_file_get(from->model->file), rp_str_of(full));
    return tensor;
}

rp_status
rp_load_find(rp_loader *from, const char *name, size_t rows, size_t columns, const rp_tensor **out)
{
    char full[RP_TENSOR_NAME_SIZE + 40];
    const rp_tensor *tensor = find_tensor(from, name, full, sizeof full);
    if (!tensor)
        return rp_fail(from->error, RP_ERR_CORRUPT, "%s has no tensor %s", from->path, full);
    const bool fits = columns ? tensor->rank == 2 && tensor->shape[0] == rows &&
                                    tensor->shape[1] == columns
                              : tensor->rank == 1 && tensor->shape[0] == rows;
    if (!fits)
        return rp_fail(from->error, RP_ERR_CORRUPT,
                       "%s: the shape of tensor %s is not what config.json says", from->path, full);
    if (tensor->dtype == RP_DTYPE_OTHER)
        return rp_fail(from->error, RP_ERR_UNSUPPORTED,
                       "%s: tensor %s is not of f32, f16 or bf16", from->path, full);
    *out = tensor;
    return RP_OK;
}

rp_status
rp_load_plain(rp_loader *from, const char *name, size_t rows, size_t columns, float *out)
{
    const rp_tensor *tensor;
    const rp_status status = rp_load_find(from, name, rows, columns, &tensor);
    if (status == RP_OK)
        rp_tensor_read(tensor, 0, tensor->count, out);
    return status;
}

rp_status
rp_load_norm(rp_loader *from, const char *name, const rp_norm *out)
{
    char full[RP_TENSOR_NAME_SIZE + 16];
    const size_t C = from->model->config.hidden;
    snprintf(full, sizeof full, "%s.weight", name);
    const rp_status status = rp_load_plain(from, full, C, 0, out->gain);
    if (status || !out->bias)
        return status;
    snprintf(full, sizeof full, "%s.bias", name);
    return rp_load_plain(from, full, C, 0, out->bias);
}

static void
pack(const rp_kernels *kernels, rp_class class, float *rows, size_t count, size_t first,
     const rp_weights *out)
{
    const size_t panel = kernels->product[class].panel;
    void *values = (void *)(uintptr_t)out->values; /* in our own arena */
    if (class == RP_CLASS_F32)
        rp_pack_f32(rows, count, out->depth, first, panel, values);
    else if (kernels->product[class].whole)
        rp_pack_whole(rows, count, first, panel, out);
    else if (class == RP_CLASS_BF16)
        rp_pack_bf16(rows, count, out->depth, first, panel, values);
    else
        rp_pack_int8(rows, count, first, panel, out);
}

rp_status
rp_load_linear(rp_loader *from, const char *name, rp_class class, size_t rows, size_t first,
               bool biased, const rp_weights *out)
{
    const rp_tensor *tensor;
    const size_t panel = from->model->kernels->product[class].panel, depth = out->depth;
    const char *const module = name + (*name == '^');
    char full[RP_TENSOR_NAME_SIZE + 16];
    snprintf(full, sizeof full, "%s.weight", name);
    rp_status status = rp_load_find(from, full, rows, depth, &tensor);
    for (size_t row = 0; !status && row < rows; row += panel) {
        const size_t count = RP_MIN(panel, rows - row);
        rp_tensor_read(tensor, row * depth, count * depth, from->rows);
        if (from->adapter)
            status = rp_adapter_apply(from->adapter, module, rows, depth, row, count, from->rows,
                                      from->error);
        pack(from->model->kernels, class, from->rows, count, first + row, out);
    }
    if (status || !biased)
        return status;
    snprintf(full, sizeof full, "%s.bias", name);
    return rp_load_plain(from, full, rows, 0, (float *)(uintptr_t)out->bias + first);
}

rp_status
rp_load_layer(rp_loader *from, const rp_layer_plan *layer, rp_layer_wanted *only)
{
    rp_status status = RP_OK;
    for (size_t i = 0; !status && i < layer->part_count; i++) {
        const rp_layer_part *part = &layer->parts[i];
        if (!only || only(from->adapter, layer, part->into))
            status = rp_load_linear(from, part->name, from->model->class, part->rows,
                                    rp_plan_first_column(layer, i), part->biased, part->into);
    }
    for (size_t i = 0; !status && !only && i < layer->norm_count; i++)
        status = rp_load_norm(from, layer->norms[i].name, layer->norms[i].into);
    return status;
}
