/* fuzz_import.c - any bytes as a line of an import: taken whole, or refused without a trace.
 *
 * Into one cache without an encoder, in a folder that goes at the end. What was taken must be
 * exported as a line that is taken again. */
#include <reprise/cache.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static char folder[64] = "/tmp/reprise-fuzz-import-XXXXXX";
static rp_cache *cache;

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
    rp_cache_close(cache);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    require(system(command) == 0);
}

static void
open_cache(void)
{
    const rp_cache_options options = { .folder = folder, .disk_max = 64 << 20, .memory_max = 16 << 20,
                                       .share_max = 1, .ttl_seconds = RP_TTL_FOREVER, .seed = 1 };
    require(mkdtemp(folder) != NULL && rp_cache_open(&options, &cache, NULL) == RP_OK);
    require(atexit(remove_folder) == 0);
}

static bool
import_again(void *context, rp_str line)
{
    const rp_status status = rp_cache_import_line(cache, line, NULL, NULL);
    require(status == RP_OK || status == RP_ERR_STALE); /* it may have expired meanwhile */
    ++*(size_t *)context;
    return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (!cache)
        open_cache();
    rp_cache_stats before, after;
    size_t exported = 0, again = 0, removed;
    rp_error error = { { 0 } };
    rp_cache_stats_get(cache, &before);
    const rp_status status =
        rp_cache_import_line(cache, (rp_str){ (const char *)bytes, size }, NULL, &error);
    rp_cache_stats_get(cache, &after);
    if (status != RP_OK) {
        require(error.text[0] != '\0' && after.entries == before.entries);
        return 0;
    }
    require(rp_cache_export(cache, &(rp_cache_export_options){ 0 }, import_again, &again, &exported,
                            NULL) == RP_OK);
    require(again == exported && exported <= 1);
    require(rp_cache_flush(cache, (rp_str){ 0 }, &removed, NULL) == RP_OK);
    return 0;
}
