/* json_internal.h - what json.cpp and json.c share. See json.h. */
#ifndef RP_JSON_JSON_INTERNAL_H
#define RP_JSON_JSON_INTERNAL_H

#include "json/json.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Does a name occur twice among these members? O(n log n) compares whatever the
 * names are. Fails: RP_ERR_EXISTS (yes), RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_json_check_names(const rp_json *members, uint32_t count);

/* simdjson refuses a number without saying why. RP_ERR_INVALID if some number of the
 * document breaks the grammar of RFC 8259; RP_ERR_UNSUPPORTED if all keep it, so that
 * one of them is only too large for us. */
rp_status rp_json_explain_number(rp_str document);

/* Write another escape over each of a surrogate (\uD800 to \uDFFF) within the strings of a
 * document. Returns how many there were. */
size_t rp_json_mask_surrogates(char *document, size_t size);

enum { RP_JSON_DOUBLE_SIZE = 32 };
/* The shortest digits that read back as `value` (finite), in any locale. Returns how
 * many bytes were written to `out`. */
size_t rp_json_format_double(double value, char out[RP_JSON_DOUBLE_SIZE]);

#ifdef __cplusplus
}
#endif
#endif
