/* test_config.c - a configuration is either understood whole or refused with the
 * place and the reason.
 *
 * What could go wrong: a wrong key or type is taken silently, a position is off, a
 * secret is printed, an environment variable changes the structure, a flag loses
 * against the file. Rows of bad files are compared with the exact start of their
 * sentence; what --check prints is parsed again and must print the same. */
#include "cache/lookup.h"
#include "server/config.h"
#include "test_support.h"

#include <math.h>

static const rp_config *
parse(const char *yaml, const rp_config_flags *flags)
{
    const rp_config *config = NULL;
    rp_error error = { { 0 } };
    const size_t len = strlen(yaml);
    const rp_status status =
        rp_config_parse((rp_str){ rp_test_guarded(yaml, len), len }, "f.yaml", flags, &config, &error);
    if (status != RP_OK)
        print_error("%s\n", error.text);
    assert_int_equal(status, RP_OK);
    return config;
}

static const char example[] =
    "listen: 127.0.0.1:9000\n"
    "admin:  { listen: 127.0.0.1:9001, token: ${RP_TEST_TOKEN} }\n"
    "data:   /var/lib/reprise\n"
    "memory_max: 2GiB\n"
    "vectors: disk\n"
    "lookup_deadline: 50ms\n"
    "encoder: { model: all-MiniLM-L6-v2, adapter: none, threads: auto }\n"
    "upstreams:\n"
    "  - { name: openai, url: https://api.openai.com/v1/, protocols: [openai], first_byte_timeout: 600s }\n"
    "tenants:\n"
    "  - { name: support, keys: [ ${RP_TEST_KEY} ], upstream: openai, upstream_key: 'x${RP_TEST_TOKEN}y' }\n"
    "routes:\n"
    "  - match: { model: \"gpt-4o*\" }\n"
    "    cache: { tiers: [exact], error_max: 0.01, min_similarity: 0.80, ttl: 24h, mode: shadow, collision_check: admission }\n";

static void
test_the_documented_example_is_understood(void **state)
{
    (void)state;
    setenv("RP_TEST_TOKEN", "tok]en: {", 1); /* must not change the structure */
    setenv("RP_TEST_KEY", "sk-support-1", 1);
    const rp_config *config = parse(example, NULL);
    assert_string_equal(config->listen, "127.0.0.1:9000");
    assert_string_equal(config->admin_token, "tok]en: {");
    assert_true(config->memory_max == 2ull << 30);
    assert_true(config->vectors_on_disk);
    assert_int_equal(config->lookup_deadline_us, 50000);
    assert_null(config->encoder_adapter);
    assert_int_equal(config->pool_threads, 0);
    assert_string_equal(config->upstreams[0].url, "https://api.openai.com");
    assert_int_equal(config->upstreams[0].protocols, RP_PROTOCOL_OPENAI);
    assert_string_equal(config->tenants[0].keys[0], "sk-support-1");
    assert_string_equal(config->tenants[0].upstream_key, "xtok]en: {y");
    assert_int_equal(config->tenants[0].upstream, 0);
    assert_int_equal(config->route_count, 2);
    const rp_str none = { NULL, 0 };
    const rp_route_config *route =
        rp_config_route(config, RP_STR("/v1/chat/completions"), RP_STR("gpt-4o-mini"), none, none, NULL, NULL);
    assert_ptr_equal(route, &config->routes[0]);
    assert_true(route->exact && !route->semantic && route->mode == RP_MODE_SHADOW);
    assert_int_equal(route->collision_check, RP_COLLISION_CHECK_ADMISSION);
    assert_true(fabs(route->min_similarity - 0.8) < 1e-12);
    route = rp_config_route(config, RP_STR("/v1/chat/completions"), RP_STR("gpt-3.5"), none, none, NULL, NULL);
    assert_string_equal(route->name, "default");
    assert_true(route->mode == RP_MODE_SERVE && route->semantic);
    assert_int_equal(route->collision_check, RP_COLLISION_CHECK_HITS);
    rp_config_unref(config);
}

static void
test_what_check_prints_is_a_configuration_without_secrets(void **state)
{
    (void)state;
    setenv("RP_TEST_TOKEN", "token-secret", 1);
    setenv("RP_TEST_KEY", "sk-support-1", 1);
    const rp_config *config = parse(example, NULL);
    rp_buffer once, twice;
    rp_buffer_init(&once, 0);
    rp_buffer_init(&twice, 0);
    rp_config_print(config, &once);
    rp_buffer_append_char(&once, '\0');
    assert_null(strstr(once.ptr, "secret"));
    assert_null(strstr(once.ptr, "sk-support"));
    rp_config_unref(config);
    /* Its masked keys are too short to be keys: give them back their length. */
    for (char *at = once.ptr; (at = strstr(at, "keys: [\"***\"]")); at++)
        memcpy(at, "anonymous: 1 ", 13);
    char *line = strstr(once.ptr, "anonymous: 1 ");
    assert_non_null(line);
    memset(line, ' ', 13);
    line = strstr(once.ptr, "anonymous: false");
    memcpy(line, "anonymous: true ", 16);
    config = parse(once.ptr, NULL);
    rp_config_print(config, &twice);
    assert_non_null(strstr(twice.ptr, "mode: shadow"));
    rp_config_unref(config);
    rp_buffer_fini(&once);
    rp_buffer_fini(&twice);
}

static void
test_what_check_prints_can_be_read_again_whatever_its_texts_hold(void **state)
{
    (void)state;
    setenv("RP_TEST_TOKEN", "token-secret", 1);
    static const char yaml[] =
        "tls: { certificate: 'a\"b', key: 'c\\d' }\n"
        "admin: { tls: { certificate: e, key: \"f\\ng\" } }\n"
        "cors: { origin: 'h\"i' }\n"
        "upstreams: [ { url: 'http://[::1]:8080/v1' }, { name: b, url: 'https://b.example/v1/' } ]\n"
        "routes: [ { match: { header: { name: x-team, value: '${RP_TEST_TOKEN}' } } },\n"
        "          { match: { header: { name: x-team, value: 'a b' } } } ]\n";
    const rp_config *config = parse(yaml, NULL);
    assert_string_equal(config->upstreams[0].url, "http://[::1]:8080");
    assert_string_equal(config->routes[0].match_header_value, "token-secret");
    rp_buffer once;
    rp_buffer_init(&once, 0);
    rp_config_print(config, &once);
    rp_buffer_append_char(&once, '\0');
    rp_config_unref(config);
    assert_null(strstr(once.ptr, "secret"));
    assert_non_null(strstr(once.ptr, "value: \"a b\""));
    config = parse(once.ptr, NULL);
    assert_string_equal(config->tls_certificate, "a\"b");
    assert_string_equal(config->tls_key, "c\\d");
    assert_string_equal(config->admin_tls_key, "f\ng");
    assert_string_equal(config->cors_origin, "h\"i");
    rp_config_unref(config);
    rp_buffer_fini(&once);
}

static void
test_flags_beat_the_file(void **state)
{
    (void)state;
    const rp_config_flags flags = { .listen = "127.0.0.1:1", .upstream = "http://127.0.0.1:9/v1",
                                    .data = "/d", .model = "none", .mode = "off", .seed = "7",
                                    .policy = "static:min_similarity=0.9" };
    const rp_config *config = parse("listen: 127.0.0.1:2\nroutes: [{name: a, match: {path: /x}}]\n", &flags);
    assert_string_equal(config->listen, "127.0.0.1:1");
    assert_string_equal(config->upstreams[0].url, "http://127.0.0.1:9");
    assert_true(config->encoder_off);
    assert_int_equal(config->seed, 7);
    assert_int_equal(config->routes[0].mode, RP_MODE_OFF);
    assert_string_equal(config->routes[1].policy, "static:min_similarity=0.9");
    rp_config_unref(config);
}

static void
test_bad_files_are_refused_with_place_and_reason(void **state)
{
    (void)state;
    unsetenv("RP_TEST_UNSET");
    setenv("RP_TEST_KEY", "sk-support-1", 1);
    static const struct {
        const char *yaml, *sentence;
    } rows[] = {
        { "listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n", "f.yaml:2:1: the key 'listen' was given before, at line 1" },
        { "a: &x 1\n", "f.yaml:1:4: anchors are not allowed" },
        { "a: *x\n", "f.yaml:1:4: aliases are not allowed" },
        { "a: !!int 1\n", "f.yaml:1:4: tags are not allowed" },
        { "a: 1\n---\nb: 2\n", "f.yaml:2:1: only one document is allowed" },
        { "a: [1\n", "f.yaml:2:1: " },
        { "\n  nonsense: 1\n", "f.yaml:2:3: unknown key 'nonsense' in the configuration; known: listen" },
        { "memory_max: lots\n", "f.yaml:1:13: memory_max: found 'lots', expected a size" },
        { "memory_max: 1B\n", "f.yaml:1:13: memory_max: found '1B', expected a size from 8388608 bytes" },
        { "disk_max: 4095KiB\n", "f.yaml:1:11: disk_max: found '4095KiB', expected a size from 4194304 bytes" },
        { "lookup_deadline: 50\n", "f.yaml:1:18: lookup_deadline: found '50', expected a duration" },
        { "lookup_deadline: [1]\n", "f.yaml:1:18: lookup_deadline: found a list, expected a single value" },
        { "listen: 8080\n", "f.yaml:1:9: listen: found '8080', expected ADDRESS:PORT" },
        { "listen: a:99999\n", "f.yaml:1:9: listen: found 'a:99999', expected ADDRESS:PORT" },
        { "finish_on_disconnect: maybe\n", "f.yaml:1:23: finish_on_disconnect: found 'maybe', expected true or false" },
        { "admin: {token: ${RP_TEST_UNSET}}\n", "f.yaml:1:16: the environment variable RP_TEST_UNSET is not set" },
        { "memory_max: ${RP_TEST_KEY}\n", "f.yaml:1:13: memory_max: found a secret from the environment, expected a size" },
        { "upstreams: [{name: a}]\n", "f.yaml:1:13: upstreams: found a map, expected a url" },
        { "upstreams: [{url: ftp://x}]\n", "f.yaml:1:19: url: found 'ftp://x', expected an http" },
        { "upstreams: [{url: 'http://a?b'}]\n", "f.yaml:1:19: url: found 'http://a?b', expected an http" },
        { "upstreams: [{url: 'http://a:99999/v1'}]\n", "f.yaml:1:19: url: found 'http://a:99999/v1', expected an http" },
        { "upstreams: [{url: 'http://:80'}]\n", "f.yaml:1:19: url: found 'http://:80', expected an http" },
        { "upstreams: [{url: 'http://a:'}]\n", "f.yaml:1:19: url: found 'http://a:', expected an http" },
        { "upstreams: [{url: 'http://me:sk-support@a'}]\n", "f.yaml:1:19: url: found '@', expected an address without" },
        { "tenants: [{name: t, keys: sk-support}]\n", "f.yaml:1:27: keys: expected a list" },
        { "log: { level: loud }\n", "f.yaml:1:15: log.level: found 'loud', expected one of debug|info" },
        { "log: { level: [info] }\n", "f.yaml:1:15: log.level: found a list, expected one of debug|info" },
        { "tenants: [{name: t}]\n", "f.yaml:1:11: tenants: found a map, expected keys" },
        { "tenants: [{name: t, keys: [short]}]\n", "f.yaml:1:28: keys: a key must have at least 8" },
        { "tenants: [{name: t, keys: [longenough]}, {name: u, keys: [longenough]}]\n",
          "f.yaml:1:42: tenants: found a map, expected keys that no other tenant has" },
        { "tenants: [{name: t, anonymous: true, upstream: x}]\n", "f.yaml:1:48: upstream: found 'x', expected the name of" },
        { "routes: [{cache: {mode: loud}}]\n", "f.yaml:1:25: mode: found 'loud', expected one of serve|shadow|off" },
        { "routes: [{cache: {tiers: [fast]}}]\n", "f.yaml:1:27: tiers: found 'fast', expected one of exact|semantic" },
        { "routes: [{cache: {policy: nope}}]\n", "f.yaml:1:27: policy: " },
        { "routes: [{cache: {error_max: 2}}]\n", "f.yaml:1:30: error_max: found '2', expected a number from" },
        { "[1]\n", "f.yaml:1:1: the configuration: found a list, expected a map" },
        { "\xff\n", "f.yaml:1:1: " },
    };
    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        const rp_config *config = NULL;
        rp_error error = { { 0 } };
        const size_t len = strlen(rows[i].yaml);
        assert_int_equal(rp_config_parse((rp_str){ rp_test_guarded(rows[i].yaml, len), len }, "f.yaml",
                                         NULL, &config, &error),
                         RP_ERR_INVALID);
        assert_null(config);
        if (strncmp(error.text, rows[i].sentence, strlen(rows[i].sentence)) != 0)
            print_error("row %zu: got \"%s\", want \"%s\"\n", i, error.text, rows[i].sentence);
        assert_int_equal(strncmp(error.text, rows[i].sentence, strlen(rows[i].sentence)), 0);
        assert_null(strstr(error.text, "sk-support"));
    }
}

static void
test_nesting_and_size_are_bounded(void **state)
{
    (void)state;
    char deep[2000];
    memset(deep, '[', 1000);
    deep[1000] = '\0';
    const rp_config *config = NULL;
    rp_error error = { { 0 } };
    assert_int_equal(rp_config_parse(rp_str_of(deep), "f.yaml", NULL, &config, &error), RP_ERR_INVALID);
    assert_non_null(strstr(error.text, "nested more than 16"));
    config = parse("", NULL);
    assert_int_equal(config->route_count, 1);
    rp_config_unref(config);
    config = parse("# only a comment with ${NOTHING}\n", NULL);
    rp_config_unref(config);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_documented_example_is_understood),
        cmocka_unit_test(test_what_check_prints_is_a_configuration_without_secrets),
        cmocka_unit_test(test_what_check_prints_can_be_read_again_whatever_its_texts_hold),
        cmocka_unit_test(test_flags_beat_the_file),
        cmocka_unit_test(test_bad_files_are_refused_with_place_and_reason),
        cmocka_unit_test(test_nesting_and_size_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
