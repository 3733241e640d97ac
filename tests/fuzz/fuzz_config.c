/* fuzz_config.c - any bytes as a configuration: understood or refused, never worse;
 * and what is understood can be printed. */
#include "server/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const rp_config *config = NULL;
    rp_error error = { { 0 } };
    if (rp_config_parse((rp_str){ (const char *)bytes, size }, "fuzz", NULL, &config, &error) !=
        RP_OK)
        return 0;
    rp_buffer out;
    rp_buffer_init(&out, 0);
    rp_config_print(config, &out);
    rp_buffer_fini(&out);
    rp_config_unref(config);
    return 0;
}
