/* fuzz_adapter.c - any bytes as the two files of an adapter: refused, or merged without a
 * crash into rows of some Linear that the file names.
 *
 * The input is adapter_config.json up to its first byte 0, then adapter_model.safetensors. */
#include "base/bytes.h"
#include "model/adapter.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { ROWS = 24, DEPTH = 24 };

/* Of "base_model.model.NAME.lora_A.weight"; false: the tensor is named otherwise. */
static bool
cut_module(rp_str tensor, char *out, size_t size)
{
    const rp_str head = RP_STR("base_model.model."), tail = RP_STR(".lora_A.weight");
    if (!rp_str_starts_with(tensor, head) || !rp_str_ends_with(tensor, tail) ||
        tensor.len <= head.len + tail.len || tensor.len - head.len - tail.len >= size)
        return false;
    const size_t len = tensor.len - head.len - tail.len;
    memcpy(out, tensor.ptr + head.len, len);
    out[len] = 0;
    return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const uint8_t *border = memchr(bytes, 0, size);
    if (!border)
        return 0;
    const rp_str config = { (const char *)bytes, (size_t)(border - bytes) };
    const rp_str weights = { (const char *)border + 1, size - config.len - 1 };
    rp_adapter *adapter = NULL;
    rp_safetensors *file = NULL;
    rp_error error = { { 0 } };
    if (rp_adapter_parse("a", config, weights, &adapter, &error) != RP_OK)
        return 0;
    if (rp_safetensors_parse(weights, &file, &error) != RP_OK)
        abort(); /* the adapter has just read it */
    float rows[ROWS * DEPTH] = { 0 };
    for (size_t i = 0; i < rp_safetensors_count(file); i++) {
        char module[160];
        if (!cut_module(rp_safetensors_at(file, i)->name, module, sizeof module))
            continue;
        (void)rp_adapter_changes(adapter, module);
        (void)rp_adapter_replacement(adapter, module);
        if (rp_adapter_apply(adapter, module, ROWS, DEPTH, 0, ROWS / 2, rows, &error) == RP_OK &&
            rp_adapter_apply(adapter, module, ROWS, DEPTH, ROWS / 2, ROWS / 2, rows, &error) != RP_OK)
            abort();
    }
    (void)!rp_adapter_check_used(adapter, &error);
    rp_safetensors_close(file);
    rp_adapter_close(adapter);
    return 0;
}
