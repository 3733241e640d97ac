/* outliers.c - which columns of the activations int8 leaves in f32.
 *
 * A few columns of what a layer norm of a BERT gives out are five to ten times larger
 * than all others, for every text (in all-MiniLM-L6-v2 one holds a quarter of the energy).
 * In steps of 1/255 of a row's range they would leave the others four bits. They are
 * found by running a few tokens through the layers in f32: random ones will do, for the
 * outliers are the same with real questions (measured on 400). Largest first. What leaves
 * GELU is treated the same way. Cosine to f32 on 1,400 questions, mean and worst: layer
 * norms only .99961 / .99755 (eight columns instead of four: no better), with GELU
 * .99973 / .99874. */
#include "base/bytes.h"
#include "model/model_internal.h"

#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { PROBE_SEQUENCES = 4, PROBE_TOKENS = 8 };

void
rp_choose_outliers(const float *x, size_t stride, size_t tokens, const rp_weights *into)
{
    const size_t C = into->depth;
    uint16_t *at = (uint16_t *)(uintptr_t)into->outlier_at; /* in our own arena */
    for (size_t found = 0; found < into->outlier_count; found++) {
        float largest = -1;
        for (size_t c = 0; c < C; c++) {
            bool taken = false;
            for (size_t i = 0; i < found; i++)
                taken = taken || at[i] == c;
            for (size_t t = 0; t < tokens && !taken; t++)
                if (fabsf(x[t * stride + c]) > largest) {
                    largest = fabsf(x[t * stride + c]);
                    at[found] = (uint16_t)c;
                }
        }
    }
}

/* Room for one layer of any index. */
static void
lay_out_probe(rp_model *probe, rp_layout *plan, void *context)
{
    rp_layer_plan layer = { 0 };
    (void)context;
    probe->ops->lay_out(probe, plan);
    /* The last layer: ModernBERT's first has one norm less. */
    probe->ops->describe(probe, probe->config.layers - 1, probe->layers, &layer);
    rp_layout_layer(probe, &layer, NULL, NULL, plan);
}

/* Run the probe's only layer, with the file's layer `index` in it, over work->x. */
static rp_status
probe_layer(rp_loader *from, rp_forward *work, size_t index, rp_layer *into)
{
    rp_layer layer = *from->model->layers; /* describe may take a norm away */
    rp_layer_plan plan = { 0 };
    from->model->ops->describe(from->model, index, &layer, &plan);
    const rp_status status = rp_load_layer(from, &plan, NULL);
    if (status)
        return status;
    work->found = into;
    work->probed = &layer;
    from->model->ops->run_layer(work, &layer);
    work->probed = NULL; /* it lived for this call */
    return RP_OK;
}

rp_status
rp_find_outliers(const rp_loader *main, rp_error *error)
{
    rp_layer layer = { 0 };
    rp_model probe = *main->model;
    rp_loader from = *main;
    int32_t ids[PROBE_SEQUENCES * PROBE_TOKENS];
    uint32_t starts[PROBE_SEQUENCES + 1], state = 1;
    float *scratch = NULL;
    const size_t each = RP_MIN((size_t)PROBE_TOKENS, probe.config.window);
    from.model = &probe;
    probe.class = RP_CLASS_F32;
    probe.layers = &layer;
    probe.mapping = NULL;
    probe.config.labels = 0;
    rp_status status = rp_model_map_arena(&probe, lay_out_probe, NULL, error);
    if (!status)
        status = probe.ops->load(&from);
    for (size_t i = 0; i < RP_COUNT(ids); i++) {
        state = state * 1664525 + 1013904223; /* Numerical Recipes' generator */
        ids[i] = (int32_t)(state % probe.config.vocabulary);
    }
    for (size_t i = 0; i <= PROBE_SEQUENCES; i++)
        starts[i] = (uint32_t)(i * each);
    const rp_token_batch batch = { .ids = ids, .starts = starts, .count = PROBE_SEQUENCES };
    rp_forward work = { .model = &probe, .batch = &batch, .tokens = PROBE_SEQUENCES * each };
    if (!status) {
        scratch = aligned_alloc(RP_MODEL_ALIGNMENT,
                                rp_model_scratch_count(&probe, work.tokens) * sizeof *scratch);
        if (!scratch)
            status = rp_fail(error, RP_ERR_NOMEM, "no memory to try %s", from.path);
    }
    if (!status) {
        rp_forward_split(&work, scratch);
        probe.ops->embed(&work);
    }
    for (size_t i = 0; !status && i < main->model->config.layers; i++)
        status = probe_layer(&from, &work, i, &main->model->layers[i]);
    free(scratch);
    if (probe.mapping)
        munmap(probe.mapping, probe.mapping_size);
    return status;
}
