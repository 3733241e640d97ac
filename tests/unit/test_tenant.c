/* test_tenant.c - who asks is told by the credential alone, and a revoked one gets nothing.
 *
 * What could go wrong: two callers taken for one, a credential that is good at one
 * upstream believed at another, an answer after the upstream said no, the credential
 * itself in a name. */
#include "server/tenant.h"
#include "test_support.h"

#include <sys/stat.h>

static rp_arena arena;
static const uint8_t secret[32] = { 7 };

static const char *support_keys[] = { "sk-support-1", "sk-support-2" };
static const char *resale_keys[] = { "sk-resale-1" };
static const rp_tenant_config tenants_configured[] = {
    { .name = "support", .keys = support_keys, .key_count = 2, .upstream = -1,
      .upstream_key = "sk-upstream" },
    { .name = "resale", .keys = resale_keys, .key_count = 1, .upstream = -1 },
};
static const rp_config config = {
    .tenants = tenants_configured, .tenant_count = 2, .credential_ttl_us = 1000
};

static rp_identity
who(const rp_tenants *tenants, const char *credential)
{
    rp_client_headers headers = { .place = RP_CREDENTIAL_NONE };
    if (credential) {
        headers.place = RP_CREDENTIAL_AUTHORIZATION;
        headers.credential = rp_str_of(credential);
    }
    rp_identity identity;
    rp_identity_of(tenants, &headers, &arena, &identity);
    return identity;
}

static void
test_the_credential_is_the_tenant(void **state)
{
    (void)state;
    rp_tenants *tenants;
    assert_int_equal(rp_tenants_new(&config, secret, &tenants, NULL), RP_OK);
    assert_str_equal(who(tenants, "sk-support-1").name, RP_STR("support"));
    assert_str_equal(who(tenants, "sk-support-2").name, RP_STR("support"));
    assert_str_equal(who(tenants, "sk-resale-1").name, RP_STR("resale"));
    assert_false(who(tenants, "sk-support-1").forwards_credential);
    assert_true(who(tenants, "sk-resale-1").forwards_credential);

    const rp_identity a = who(tenants, "sk-a"), b = who(tenants, "sk-b");
    assert_true(a.is_known && a.forwards_credential && !a.config);
    assert_false(rp_str_equal(a.name, b.name));
    assert_str_equal(a.name, who(tenants, "sk-a").name);
    assert_true(rp_str_starts_with(a.name, RP_STR("key-")) && a.name.len == 36);
    /* Another secret, another name: nobody can make it from the credential alone. */
    uint8_t other_secret[32] = { 8 };
    rp_tenants *others;
    assert_int_equal(rp_tenants_new(&config, other_secret, &others, NULL), RP_OK);
    assert_false(rp_str_equal(a.name, who(others, "sk-a").name));
    rp_tenants_free(others);

    assert_false(who(tenants, NULL).is_known);
    rp_tenants_free(tenants);
}

static void
test_anonymous_only_if_configured(void **state)
{
    (void)state;
    const rp_tenant_config open = { .name = "public", .anonymous = true, .upstream = -1 };
    const rp_config with_open = { .tenants = &open, .tenant_count = 1 };
    rp_tenants *tenants;
    assert_int_equal(rp_tenants_new(&with_open, secret, &tenants, NULL), RP_OK);
    assert_str_equal(who(tenants, NULL).name, RP_STR("public"));
    assert_false(who(tenants, NULL).forwards_credential);
    assert_false(rp_str_equal(who(tenants, "sk-a").name, RP_STR("public")));
    rp_tenants_free(tenants);
}

static void
test_a_key_of_two_tenants_is_refused(void **state)
{
    (void)state;
    const rp_tenant_config twice[] = {
        { .name = "one", .keys = resale_keys, .key_count = 1 },
        { .name = "two", .keys = resale_keys, .key_count = 1 },
    };
    const rp_config wrong = { .tenants = twice, .tenant_count = 2 };
    rp_tenants *tenants = NULL;
    rp_error error = { { 0 } };
    assert_int_equal(rp_tenants_new(&wrong, secret, &tenants, &error), RP_ERR_EXISTS);
    assert_null(tenants);
    assert_non_null(strstr(error.text, "one"));
    assert_null(strstr(error.text, "sk-"));
}

static void
test_hits_follow_what_the_upstream_said(void **state)
{
    (void)state;
    char folder[] = "/tmp/reprise-test-tenant-XXXXXX";
    assert_non_null(mkdtemp(folder));
    rp_store *store;
    rp_error error = { { 0 } };
    const rp_store_options options = { .folder = folder, .disk_max = 64 << 20 };
    if (rp_store_open(&options, &store, &error) != RP_OK)
        fail_msg("%s", error.text);
    rp_tenants *tenants;
    assert_int_equal(rp_tenants_new(&config, secret, &tenants, NULL), RP_OK);
    const rp_identity caller = who(tenants, "sk-a"), nobody = who(tenants, NULL);
    const rp_identity configured = who(tenants, "sk-support-1");

    assert_false(rp_identity_may_read(tenants, store, &nobody, "up", 5000));
    assert_true(rp_identity_may_read(tenants, store, &configured, "up", 5000));
    assert_false(rp_identity_may_read(tenants, store, &caller, "up", 5000));
    assert_false(rp_identity_learn(tenants, store, &caller, "up", 500, 5000, NULL, NULL));
    assert_false(rp_identity_may_read(tenants, store, &caller, "up", 5000));
    assert_false(rp_identity_learn(tenants, store, &caller, "up", 200, 5000, NULL, NULL));
    assert_true(rp_identity_may_read(tenants, store, &caller, "up", 5000));
    assert_true(rp_identity_may_read(tenants, store, &caller, "up", 6000));
    assert_false(rp_identity_may_read(tenants, store, &caller, "other", 5000));
    /* Names that are long and differ at their end only. */
    char one[100], two[100];
    snprintf(one, sizeof one, "%080d-one", 0);
    snprintf(two, sizeof two, "%080d-two", 0);
    assert_false(rp_identity_learn(tenants, store, &caller, one, 200, 5000, NULL, NULL));
    assert_true(rp_identity_may_read(tenants, store, &caller, one, 5000));
    assert_false(rp_identity_may_read(tenants, store, &caller, two, 5000));
    const rp_identity other = who(tenants, "sk-b");
    assert_false(rp_identity_may_read(tenants, store, &other, "up", 5000));
    assert_false(rp_identity_may_read(tenants, store, &caller, "up", 6001)); /* credential_ttl */
    assert_false(rp_identity_learn(tenants, store, &caller, "up", 429, 5000, NULL, NULL));
    assert_true(rp_identity_may_read(tenants, store, &caller, "up", 5000));
    assert_true(rp_identity_learn(tenants, store, &caller, "up", 401, 5000, NULL, NULL));
    assert_false(rp_identity_may_read(tenants, store, &caller, "up", 5000));

    rp_tenants_free(tenants);
    rp_store_close(store);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_credential_is_the_tenant),
        cmocka_unit_test(test_anonymous_only_if_configured),
        cmocka_unit_test(test_a_key_of_two_tenants_is_refused),
        cmocka_unit_test(test_hits_follow_what_the_upstream_said),
    };
    rp_arena_init(&arena, 0);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rp_arena_fini(&arena);
    return failed;
}
