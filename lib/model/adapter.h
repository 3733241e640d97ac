/* adapter.h - LoRA adapters (Hu et al., arXiv:2106.09685) as the PEFT library writes them.
 *
 * A folder with adapter_config.json and adapter_model.safetensors. A Linear W (N, K) of the
 * base model that the file names gets W + scale * B A, with lora_A (r, K), lora_B (N, r) and
 * scale = alpha / r, or alpha / sqrt(r) for rank-stabilised ones (arXiv:2312.03732).
 * Whole tensors (`modules_to_save`, trained biases) replace those of the base.
 * The file is not trusted; every tensor in it must find its place, or it is refused:
 * a change that is silently left out would be another model.
 *
 * Threads: used by one thread at a time (it notes what was used). */
#ifndef RP_MODEL_ADAPTER_H
#define RP_MODEL_ADAPTER_H

#include <reprise/status.h>
#include <reprise/types.h>

#include "model/safetensors.h"

typedef struct rp_adapter rp_adapter;

/* Fails: RP_ERR_NOT_FOUND, RP_ERR_IO, RP_ERR_TRUNCATED, RP_ERR_CORRUPT, RP_ERR_LIMIT,
 * RP_ERR_UNSUPPORTED (another kind than plain LoRA), RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_adapter_open(const char *folder, rp_adapter **out, rp_error *error);
/* The same over bytes; `weights` outlives the result. `name` is for error sentences. */
RP_NODISCARD rp_status rp_adapter_parse(const char *name, rp_str config, rp_str weights,
                                        rp_adapter **out, rp_error *error);
void rp_adapter_close(rp_adapter *adapter); /* NULL is fine */

/* Does it change the Linear of this name ("encoder.layer.0.attention.self.query")? */
bool rp_adapter_changes(const rp_adapter *adapter, const char *module);
/* Does it replace whole tensors? */
bool rp_adapter_replaces_any(const rp_adapter *adapter);
/* The tensor that stands in the place of the base's ("classifier.weight"); NULL: none. */
const rp_tensor *rp_adapter_replacement(rp_adapter *adapter, const char *tensor);

/* Add the change to rows row..row+count-1 of the Linear (count, depth), if there is one.
 * `rows_all` and `depth` are the Linear's shape. Fails: RP_ERR_CORRUPT (another shape),
 * RP_ERR_UNSUPPORTED, RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_adapter_apply(rp_adapter *adapter, const char *module, size_t rows_all,
                                        size_t depth, size_t row, size_t count, float *rows,
                                        rp_error *error);
/* Fails: RP_ERR_CORRUPT with the name of a tensor that nobody asked for, or of a target
 * module that no tensor changes. */
RP_NODISCARD rp_status rp_adapter_check_used(const rp_adapter *adapter, rp_error *error);

/* XXH3-128 over both files. */
void rp_adapter_hash(const rp_adapter *adapter, uint8_t out[16]);

#endif
