/* fuzz_model_config.c - any bytes as the JSON files of a model's folder: refused, or an encoder
 * whose sizes are sane and belong together.
 *
 * The input is config.json up to its first byte 0, then modules.json, the pooling's
 * config.json and sentence_bert_config.json in the same way. */
#include "base/bytes.h"
#include "model/model_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static char folder[64] = "/tmp/reprise-fuzz-model-XXXXXX";

static void
require(bool fact)
{
    if (!fact)
        abort();
}

static void
remove_folder(void)
{
    char command[96];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    require(system(command) == 0);
}

static void
make_folder(void)
{
    char path[96];
    require(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/1_Pooling", folder);
    require(mkdir(path, 0700) == 0 && atexit(remove_folder) == 0);
}

static void
write_file(const char *name, rp_str bytes)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (!bytes.ptr || !bytes.len) {
        remove(path);
        return;
    }
    FILE *file = fopen(path, "w");
    require(file && fwrite(bytes.ptr, 1, bytes.len, file) == bytes.len && fclose(file) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const char *const names[] = { "config.json", "modules.json", "1_Pooling/config.json",
                                         "sentence_bert_config.json" };
    static bool has_folder;
    if (!has_folder)
        make_folder();
    has_folder = true;
    rp_str rest = { (const char *)bytes, size };
    for (size_t i = 0; i < RP_COUNT(names); i++)
        write_file(names[i], rp_str_split(&rest, '\0'));
    rp_model_config config;
    rp_error error = { { 0 } };
    if (rp_model_config_read(folder, &config, &error) != RP_OK) {
        require(error.text[0] != '\0');
        return 0;
    }
    require(config.hidden > 0 && config.heads > 0 && config.hidden % config.heads == 0);
    require(config.layers > 0 && config.layers <= RP_LAYERS_MAX && config.intermediate > 0);
    require(config.dim > 0 && config.dim <= config.hidden && config.vocabulary > 0);
    require(config.window > 0 && config.window <= config.positions);
    require(memchr(config.prefix, 0, sizeof config.prefix) != NULL);
    return 0;
}
