/* data_folder.h - the folder itself: one process in it, its secret, ids as others see them.
 *
 * Threads: immutable after it was opened. */
#ifndef RP_STORE_DATA_FOLDER_H
#define RP_STORE_DATA_FOLDER_H

#include <openssl/aes.h>
#include <reprise/status.h>
#include <reprise/types.h>

typedef struct rp_data_folder {
    int lock_fd; /* -1: not held */
    uint8_t secret[32];
    AES_KEY id_encrypt, id_decrypt;
} rp_data_folder;

/* Make the folder if missing (0700), lock it (shared when read_only) and read or make
 * `secret` (0600). Fails: RP_ERR_BUSY (another process holds it), RP_ERR_IO,
 * RP_ERR_CORRUPT (a secret of another size, or missing beside a store). */
RP_NODISCARD rp_status rp_data_folder_open(rp_data_folder *folder, const char *path,
                                           bool read_only, rp_error *error);
void rp_data_folder_close(rp_data_folder *folder);

void rp_data_folder_id_encode(const rp_data_folder *folder, rp_entry_id id, char out[33]);
bool rp_data_folder_id_decode(const rp_data_folder *folder, rp_str text, rp_entry_id *out);

#endif
