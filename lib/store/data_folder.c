/* data_folder.c - see data_folder.h.
 *
 * An id shown outside is one AES-128 block (FIPS 197) of the id and eight zero bytes:
 * it tells nothing about how many entries there are, and a made-up one decodes to zeros
 * with probability 2^-64, so ids cannot be guessed or walked. The AES_* functions are
 * deprecated in OpenSSL 3 in favour of EVP; as with SHA-256 (base/hash.c) one call on
 * 16 bytes does not pay for a context. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "store/data_folder.h"
#include "base/bytes.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static rp_status
lock_folder(rp_data_folder *folder, const char *path, bool read_only, rp_error *error)
{
    char lock_path[PATH_MAX];
    if ((size_t)snprintf(lock_path, sizeof lock_path, "%s/lock", path) >= sizeof lock_path)
        return rp_fail(error, RP_ERR_INVALID, "path too long: %s", path);
    int fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 && read_only)
        fd = open(lock_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return rp_fail(error, errno == ENOENT ? RP_ERR_NOT_FOUND : RP_ERR_IO, "cannot open %s: %s",
                       lock_path, strerror(errno));
    if (flock(fd, (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
        const bool busy = errno == EWOULDBLOCK;
        const rp_status status = busy
            ? rp_fail(error, RP_ERR_BUSY, "another process uses %s", path)
            : rp_fail(error, RP_ERR_IO, "cannot lock %s: %s", lock_path, strerror(errno));
        close(fd);
        return status;
    }
    folder->lock_fd = fd;
    return RP_OK;
}

static rp_status
make_secret(rp_data_folder *folder, const char *path, const char *secret_path, rp_error *error)
{
    char data_path[PATH_MAX];
    snprintf(data_path, sizeof data_path, "%s/data.mdb", path);
    /* Tenants, users and credentials are known to a store only by hashes under the
     * secret. With another one every entry would be out of reach, silently. */
    if (rp_file_exists(data_path))
        return rp_fail(error, RP_ERR_CORRUPT,
                       "%s is missing beside data.mdb; restore it, or remove both to start anew",
                       secret_path);
    const rp_status status = rp_random_secret(folder->secret, sizeof folder->secret);
    if (status != RP_OK)
        return rp_fail(error, status, "the system gives no random bytes");
    return rp_file_replace(secret_path, (rp_str){ (char *)folder->secret, sizeof folder->secret },
                           0600, error);
}

static rp_status
read_secret(rp_data_folder *folder, const char *path, bool read_only, rp_error *error)
{
    char secret_path[PATH_MAX];
    if ((size_t)snprintf(secret_path, sizeof secret_path, "%s/secret", path) >= sizeof secret_path)
        return rp_fail(error, RP_ERR_INVALID, "path too long: %s", path);
    rp_buffer bytes;
    rp_buffer_init(&bytes, 0);
    rp_status status = rp_file_read(secret_path, 4096, &bytes, error);
    if (status == RP_ERR_NOT_FOUND && !read_only) {
        rp_buffer_fini(&bytes);
        return make_secret(folder, path, secret_path, error);
    }
    if (status == RP_OK && bytes.len != sizeof folder->secret)
        status = rp_fail(error, RP_ERR_CORRUPT, "%s has %zu bytes, not %zu", secret_path, bytes.len,
                         sizeof folder->secret);
    struct stat info;
    if (status == RP_OK && !read_only && stat(secret_path, &info) == 0 && info.st_mode & 077 &&
        chmod(secret_path, 0600) != 0)
        status = rp_fail(error, RP_ERR_IO, "%s can be read by others, and its mode cannot be changed",
                         secret_path);
    if (status == RP_OK)
        memcpy(folder->secret, bytes.ptr, sizeof folder->secret);
    if (bytes.len)
        OPENSSL_cleanse(bytes.ptr, bytes.len);
    rp_buffer_fini(&bytes);
    return status;
}

rp_status
rp_data_folder_open(rp_data_folder *folder, const char *path, bool read_only, rp_error *error)
{
    *folder = (rp_data_folder){ .lock_fd = -1 };
    rp_status status = read_only ? RP_OK : rp_folder_make(path, 0700, error);
    if (status == RP_OK)
        status = lock_folder(folder, path, read_only, error);
    if (status == RP_OK)
        status = read_secret(folder, path, read_only, error);
    if (status != RP_OK) {
        rp_data_folder_close(folder);
        return status;
    }
    uint8_t key[32];
    rp_hmac_sha256((rp_str){ (char *)folder->secret, sizeof folder->secret },
                   RP_STR("reprise entry id"), key);
    AES_set_encrypt_key(key, 128, &folder->id_encrypt);
    AES_set_decrypt_key(key, 128, &folder->id_decrypt);
    OPENSSL_cleanse(key, sizeof key);
    return RP_OK;
}

void
rp_data_folder_close(rp_data_folder *folder)
{
    if (folder->lock_fd >= 0)
        close(folder->lock_fd); /* gives the lock back */
    OPENSSL_cleanse(folder, sizeof *folder);
    folder->lock_fd = -1;
}

void
rp_data_folder_id_encode(const rp_data_folder *folder, rp_entry_id id, char out[33])
{
    uint8_t block[16] = { 0 };
    rp_store_le64(block, id);
    AES_encrypt(block, block, &folder->id_encrypt);
    rp_hex_encode(block, sizeof block, out);
}

bool
rp_data_folder_id_decode(const rp_data_folder *folder, rp_str text, rp_entry_id *out)
{
    static const uint8_t zeros[8];
    uint8_t block[16];
    if (text.len != 32 || !rp_hex_decode(text, block, sizeof block))
        return false;
    AES_decrypt(block, block, &folder->id_decrypt);
    const rp_entry_id id = rp_load_le64(block);
    if (!rp_equal_constant_time(block + 8, zeros, sizeof zeros) || id == 0)
        return false;
    *out = id;
    return true;
}
