/* yaml.h - the part of YAML that a configuration needs, as a tree with positions.
 *
 * libyaml reads; we refuse what makes files surprising: anchors, aliases, tags,
 * several documents, duplicate keys, keys that are not plain text. "${NAME}" in a
 * value is replaced by an environment variable after the structure has been read,
 * so that a secret can never change the structure; an unset one is an error.
 *
 * Memory:  the tree lies in the arena.
 * Threads: pure, but for the environment. */
#ifndef RP_SERVER_YAML_H
#define RP_SERVER_YAML_H

#include "base/arena.h"
#include <reprise/status.h>

typedef enum rp_yaml_type { RP_YAML_SCALAR, RP_YAML_LIST, RP_YAML_MAP } rp_yaml_type;

typedef struct rp_yaml rp_yaml;
struct rp_yaml {
    rp_yaml_type type;
    rp_str key;  /* within the parent map; else empty */
    rp_str text; /* of a scalar, after substitution; zero-terminated */
    bool quoted;
    bool from_environment; /* a secret perhaps: never quoted in a sentence */
    size_t line, column;         /* of the value, from 1 */
    size_t key_line, key_column; /* of the key, from 1 */
    const rp_yaml *first, *next; /* children; siblings */
};

/* Parse one document; an empty one is an empty map. `name` stands for the file in
 * sentences. Fails: RP_ERR_INVALID ("NAME:LINE:COLUMN: ..."), RP_ERR_LIMIT (deeper
 * than 16, more than 10,000 values), RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_yaml_parse(rp_str bytes, const char *name, rp_arena *arena,
                                     const rp_yaml **out, rp_error *error);

#endif
