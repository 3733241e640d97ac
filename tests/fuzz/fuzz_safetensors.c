/* fuzz_safetensors.c - any bytes as a weight file: refused, or readable to the last number. */
#include "model/safetensors.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    rp_safetensors *file = NULL;
    rp_error error = { { 0 } };
    if (rp_safetensors_parse((rp_str){ (const char *)bytes, size }, &file, &error) != RP_OK)
        return 0;
    for (size_t i = 0; i < rp_safetensors_count(file); i++) {
        const rp_tensor *tensor = rp_safetensors_at(file, i);
        if (rp_safetensors_find(file, tensor->name) != tensor)
            abort();
        for (size_t at = 0; tensor->dtype != RP_DTYPE_OTHER && at < tensor->count; at++) {
            float number;
            rp_tensor_read(tensor, at, 1, &number);
        }
    }
    rp_safetensors_close(file);
    return 0;
}
