/* model_files.h - what encoders and cross-encoders are both made of: a folder's model and
 * tokenizer, what tells them from others, and the memory that they run in.
 *
 * Threads: files are immutable after opening; a pool locks inside. */
#ifndef RP_EMBED_MODEL_FILES_H
#define RP_EMBED_MODEL_FILES_H

#include "model/encoder_model.h"
#include "text/tokenizer.h"

#include <pthread.h>
#include <reprise/embed.h>

typedef struct rp_model_files {
    rp_model *model;         /* owned */
    rp_tokenizer *tokenizer; /* owned */
    rp_precision precision;  /* never AUTO */
    uint8_t tokenizer_hash[32];
    char name[256]; /* of the folder */
} rp_model_files;

/* `path` is a folder or a .safetensors file. `head`: the model must have a head of one or two
 * labels; else whatever head it has is left alone. Fails as rp_encoder_open does; *out is
 * then as it was. */
RP_NODISCARD rp_status rp_model_files_open(const char *path, const rp_encoder_options *options,
                                           bool head, rp_model_files *out, rp_error *error);
void rp_model_files_close(rp_model_files *files); /* zeroed ones are fine */
/* As rp_encoder_fingerprint says. */
void rp_model_files_fingerprint(const rp_model_files *files, char out[33]);

/* Room for one batch under construction, and what the model needs to run it. */
typedef struct rp_room {
    struct rp_room *next;
    int32_t *body;    /* (body_max): ids of one text, or two, without special tokens */
    size_t body_max;
    int32_t *ids;     /* (tokens_max) */
    uint8_t *types;   /* (tokens_max) */
    uint32_t *starts; /* (tokens_max + 1) */
    float **out;      /* (tokens_max) */
    size_t count;     /* sequences gathered */
    float *work;
} rp_room;

/* Keeps as many rooms as have ever been in use at a time, so that a request allocates nothing
 * once the server is warm. Set model, tokens_max and body_max before the first is borrowed. */
typedef struct rp_room_pool {
    pthread_mutex_t lock; /* guards `idle`; a leaf */
    rp_room *idle;        /* owned */
    const rp_model *model;
    size_t tokens_max, body_max;
} rp_room_pool;

void rp_room_pool_init(rp_room_pool *pool);
void rp_room_pool_fini(rp_room_pool *pool);
rp_room *rp_room_borrow(rp_room_pool *pool); /* NULL: no memory */
void rp_room_return(rp_room_pool *pool, rp_room *room);

#endif
