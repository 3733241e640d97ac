/* test_scope.c - two requests share a scope exactly if every separating fact is equal.
 *
 * What could go wrong: a fact that is not hashed (two tenants meet), bytes that move
 * between neighboring facts ("ab" + "c" = "a" + "bc"), a body member that poses as a fact
 * about the caller, or an order on the wire that splits equal requests. Each fact is
 * changed by itself; then 100,000 random requests over a tiny alphabet, where such
 * collisions would be frequent, are compared with an oracle that joins all facts with
 * their lengths: equal scopes if and only if equal oracles. The seed is printed. */
#include "base/random.h"
#include "cache/scope.h"
#include "test_support.h"

typedef struct world {
    rp_request request;
    rp_field fields[3];
    rp_attribute attributes[2];
    rp_caller caller;
} world;

static void
make_world(world *made)
{
    *made = (world){ 0 };
    made->fields[0] = (rp_field){ RP_STR("messages"), RP_STR("[]") };
    made->fields[1] = (rp_field){ RP_STR("model"), RP_STR("\"m\"") };
    made->fields[2] = (rp_field){ RP_STR("temperature"), RP_STR("0") };
    made->attributes[0] = (rp_attribute){ RP_STR("anthropic-version"), RP_STR("2023-06-01") };
    made->attributes[1] = (rp_attribute){ RP_STR("anthropic-beta"), RP_STR("x") };
    made->request = (rp_request){ .wire = RP_WIRE_CHAT,
                                  .model = RP_STR("m"),
                                  .last_turn = RP_STR("{\"content\":\"q\"}"),
                                  .fields = made->fields,
                                  .field_count = 3 };
    made->caller = (rp_caller){ .tenant = RP_STR("alice"),
                                .upstream = RP_STR("openai"),
                                .endpoint = RP_STR("/v1/chat/completions"),
                                .namespace_name = RP_STR("docs"),
                                .attributes = made->attributes,
                                .attribute_count = 2,
                                .route = RP_STR("r"),
                                .category = RP_STR("c") };
}

static rp_scope
scope_of(const world *asked)
{
    rp_scope scope;
    assert_int_equal(rp_scope_of(&asked->request, &asked->caller, &scope), RP_OK);
    return scope;
}

static bool
same_scope(const world *a, const world *b)
{
    const rp_scope left = scope_of(a), right = scope_of(b);
    return memcmp(&left, &right, sizeof left) == 0;
}

#define assert_separates(...)                                                                      \
    do {                                                                                           \
        world a, b;                                                                                \
        make_world(&a);                                                                            \
        make_world(&b);                                                                            \
        assert_true(same_scope(&a, &b));                                                           \
        __VA_ARGS__;                                                                                  \
        if (same_scope(&a, &b))                                                                    \
            print_error("does not separate: %s\n", #__VA_ARGS__);                                  \
        assert_false(same_scope(&a, &b));                                                          \
    } while (0)

static void
test_every_fact_separates(void **state)
{
    (void)state;
    assert_separates(b.caller.tenant = RP_STR("bob"));
    assert_separates(b.caller.upstream = RP_STR("azure"));
    assert_separates(b.caller.endpoint = RP_STR("/v1/completions"));
    assert_separates(b.caller.namespace_name = RP_STR("doc"));
    assert_separates(b.caller.namespace_name = RP_STR(""));
    assert_separates(b.caller.epoch[0] = 1);
    assert_separates(b.caller.epoch[1] = 1);
    assert_separates(b.caller.epoch[2] = 1);
    assert_separates(b.attributes[0].value = RP_STR("2024-01-01"));
    assert_separates(b.attributes[1].name = RP_STR("anthropic-bet"));
    assert_separates(b.caller.attribute_count = 1);
    assert_separates(b.request.wire = RP_WIRE_RESPONSES);
    assert_separates(b.request.field_count = 2);
    for (size_t i = 0; i < 3; i++) {
        assert_separates(b.fields[i].value = RP_STR("null"));
        assert_separates(b.fields[i].name = RP_STR("zzz"));
    }
    assert_separates(b.caller.isolate_user = true; b.caller.user_digits = RP_STR("0123"));
}

static void
test_bytes_do_not_move_between_facts(void **state)
{
    (void)state;
    assert_separates(b.caller.tenant = RP_STR("alic"); b.caller.upstream = RP_STR("eopenai"));
    assert_separates(b.caller.namespace_name = RP_STR("doc"); b.caller.tenant = RP_STR("salice"));
    assert_separates(b.fields[0].name = RP_STR("messages["); b.fields[0].value = RP_STR("]"));
    assert_separates(b.attributes[0].name = RP_STR("anthropic-version2");
                     b.attributes[0].value = RP_STR("023-06-01"));
    /* A body member or a header that is named like a fact about the caller is neither. */
    assert_separates(a.fields[2] = (rp_field){ RP_STR("tenant"), RP_STR("bob") };
                     b.fields[2] = (rp_field){ RP_STR("tenant"), RP_STR("alice") };
                     b.caller.tenant = RP_STR("bob"));
    assert_separates(b.fields[2] = (rp_field){ RP_STR("temperature"), RP_STR("0") };
                     b.request.field_count = 2;
                     b.attributes[1] = (rp_attribute){ RP_STR("temperature"), RP_STR("0") };
                     a.caller.attribute_count = 1);
}

static void
test_what_cannot_change_the_answer_does_not_separate(void **state)
{
    (void)state;
    world a, b;
    make_world(&a);
    make_world(&b);
    b.caller.route = RP_STR("other");
    b.caller.category = RP_STR("other");
    b.request.user = RP_STR("\"u\"");
    b.request.stream = true;
    const rp_attribute first = b.attributes[0];
    b.attributes[0] = b.attributes[1];
    b.attributes[1] = first;
    assert_true(same_scope(&a, &b));

    /* Shared wires: neither endpoint nor wire separates, but a bare prompt stays alone. */
    a.caller.share_wires = b.caller.share_wires = true;
    b.request.wire = RP_WIRE_MESSAGES;
    b.caller.endpoint = RP_STR("/v1/messages");
    assert_true(same_scope(&a, &b));
    b.request.wire = RP_WIRE_PROMPT;
    assert_false(same_scope(&a, &b));
}

static void
test_a_scope_needs_a_tenant_and_an_isolated_user(void **state)
{
    (void)state;
    world a;
    rp_scope scope;
    make_world(&a);
    a.caller.tenant = RP_STR("");
    assert_int_equal(rp_scope_of(&a.request, &a.caller, &scope), RP_ERR_INVALID);
    make_world(&a);
    a.caller.isolate_user = true;
    assert_int_equal(rp_scope_of(&a.request, &a.caller, &scope), RP_ERR_INVALID);
    make_world(&a);
    a.caller.attribute_count = RP_ATTRIBUTES_MAX + 1;
    assert_int_equal(rp_scope_of(&a.request, &a.caller, &scope), RP_ERR_LIMIT);
}

/* ---- random probes -------------------------------------------------------------------- */

enum { PROBES = 100000, TABLE = 1 << 18, ORACLE_SIZE = 160 };

typedef struct probe {
    bool used;
    rp_scope scope;
    char oracle[ORACLE_SIZE];
    size_t len;
} probe;

static rp_str
random_word(rp_random *random)
{
    static const rp_str words[] = { { "", 0 }, { "a", 1 }, { "b", 1 }, { "aa", 2 }, { "ab", 2 } };
    return words[rp_random_below(random, RP_COUNT(words))];
}

static void
note(probe *made, rp_str word)
{
    assert_true(made->len + word.len + 1 < ORACLE_SIZE);
    made->oracle[made->len++] = (char)('0' + word.len);
    memcpy(made->oracle + made->len, word.ptr, word.len);
    made->len += word.len;
}

static void
make_probe(rp_random *random, world *asked, probe *made)
{
    static const char *const tenants[] = { "a", "b", "aa", "ab" };
    make_world(asked);
    asked->caller.tenant = rp_str_of(tenants[rp_random_below(random, 4)]);
    asked->caller.namespace_name = random_word(random);
    asked->caller.upstream = random_word(random);
    asked->caller.endpoint = random_word(random);
    asked->caller.attribute_count = rp_random_below(random, 2);
    asked->attributes[0].name = random_word(random);
    asked->attributes[0].value = random_word(random);
    asked->request.field_count = rp_random_below(random, 3);
    made->len = 0;
    note(made, asked->caller.tenant);
    note(made, asked->caller.namespace_name);
    note(made, asked->caller.upstream);
    note(made, asked->caller.endpoint);
    made->oracle[made->len++] = (char)('0' + asked->caller.attribute_count);
    for (size_t i = 0; i < asked->caller.attribute_count; i++) {
        note(made, asked->attributes[i].name);
        note(made, asked->attributes[i].value);
    }
    made->oracle[made->len++] = (char)('0' + asked->request.field_count);
    for (size_t i = 0; i < asked->request.field_count; i++) {
        asked->fields[i].name = random_word(random);
        asked->fields[i].value = random_word(random);
        note(made, asked->fields[i].name);
        note(made, asked->fields[i].value);
    }
    made->scope = scope_of(asked);
    made->used = true;
}

static void
test_two_tenants_never_meet(void **state)
{
    (void)state;
    const uint64_t seed = 20260101;
    printf("seed %llu\n", (unsigned long long)seed);
    rp_random random;
    rp_random_init(&random, seed);
    probe *table = calloc(TABLE, sizeof *table);
    assert_non_null(table);
    size_t repeats = 0;
    for (size_t i = 0; i < PROBES; i++) {
        world asked;
        probe made;
        make_probe(&random, &asked, &made);
        /* By scope: what is already there under this scope must have the same oracle. */
        size_t at = rp_load_le64(made.scope.bytes) % TABLE;
        while (table[at].used && memcmp(&table[at].scope, &made.scope, sizeof made.scope) != 0)
            at = (at + 1) % TABLE;
        if (table[at].used) {
            assert_int_equal(table[at].len, made.len);
            assert_memory_equal(table[at].oracle, made.oracle, made.len);
            repeats++;
        } else {
            table[at] = made;
        }
    }
    free(table);
    assert_true(repeats > 100); /* else the alphabet was too large to test anything */
}

/* ---- key, stratum, JSON, hashes ------------------------------------------------------- */

static void
test_the_key_is_of_the_scope_and_the_turn(void **state)
{
    (void)state;
    world a;
    make_world(&a);
    const rp_scope scope = scope_of(&a);
    const rp_key key = rp_key_of(scope, &a.request);
    rp_key other = rp_key_of_turn(scope, RP_STR("{\"content\":\"q\"}"));
    assert_memory_equal(&key, &other, sizeof key);
    other = rp_key_of_turn(scope, RP_STR("{\"content\":\"p\"}"));
    assert_memory_not_equal(&key, &other, sizeof key);
    a.caller.tenant = RP_STR("bob");
    other = rp_key_of(scope_of(&a), &a.request);
    assert_memory_not_equal(&key, &other, sizeof key);
    assert_memory_not_equal(&key, &scope, sizeof key);
}

static void
test_every_part_of_the_stratum_counts(void **state)
{
    (void)state;
    world a, b;
    make_world(&a);
    const rp_stratum stratum = rp_stratum_of(&a.caller, RP_STR("m"), RP_STR("f"));
    assert_true(rp_stratum_of(&a.caller, RP_STR("m"), RP_STR("f")) == stratum);
    assert_true(rp_stratum_of(&a.caller, RP_STR("n"), RP_STR("f")) != stratum);
    assert_true(rp_stratum_of(&a.caller, RP_STR("m"), RP_STR("g")) != stratum);
    assert_true(rp_stratum_of(&a.caller, RP_STR("mf"), RP_STR("")) != stratum);
    make_world(&b);
    b.caller.tenant = RP_STR("bob");
    assert_true(rp_stratum_of(&b.caller, RP_STR("m"), RP_STR("f")) != stratum);
    make_world(&b);
    b.caller.route = RP_STR("q");
    assert_true(rp_stratum_of(&b.caller, RP_STR("m"), RP_STR("f")) != stratum);
    make_world(&b);
    b.caller.category = RP_STR("d");
    assert_true(rp_stratum_of(&b.caller, RP_STR("m"), RP_STR("f")) != stratum);
    make_world(&b); /* two parts that change places are not the same */
    b.caller.route = a.caller.category;
    b.caller.category = a.caller.route;
    assert_true(rp_stratum_of(&b.caller, RP_STR("m"), RP_STR("f")) != stratum);
    make_world(&b); /* a scope is finer: another namespace, the same stratum */
    b.caller.namespace_name = RP_STR("x");
    assert_true(rp_stratum_of(&b.caller, RP_STR("m"), RP_STR("f")) == stratum);
}

static rp_status
read_fields(rp_str text, rp_str turn, rp_arena *arena, rp_request *request, rp_caller *caller)
{
    rp_json_reader *reader;
    const rp_json *json, *turn_json = NULL;
    assert_int_equal(rp_json_reader_new(&reader), RP_OK);
    rp_status status = rp_json_parse(reader, arena, text, &json, NULL);
    if (status == RP_OK && turn.len)
        status = rp_json_parse(reader, arena, turn, &turn_json, NULL);
    if (status == RP_OK)
        status = rp_scope_fields_read(json, turn_json, arena, request, caller);
    rp_json_reader_free(reader);
    return status;
}

static void
test_written_fields_make_the_same_scope_again(void **state)
{
    (void)state;
    world a;
    make_world(&a);
    a.attributes[1].value = (rp_str){ "\xff\x00\x80", 3 }; /* a header may hold any bytes */
    a.fields[0].value = RP_STR("[{\"content\":\"h\\u0000i\",\"role\":\"system\"}]");
    a.caller.epoch[1] = UINT64_MAX;
    a.caller.isolate_user = true;
    a.caller.user_digits = RP_STR("00112233445566778899aabbccddeeff");
    rp_buffer text;
    rp_arena arena;
    rp_buffer_init(&text, 0);
    rp_arena_init(&arena, 0);
    rp_scope_fields_write(&a.request, &a.caller, &text);

    rp_request request;
    rp_caller caller;
    rp_scope scope;
    const rp_scope wanted = scope_of(&a);
    assert_int_equal(read_fields(rp_buffer_str(&text), a.request.last_turn, &arena, &request,
                                 &caller), RP_OK);
    assert_int_equal(rp_scope_of(&request, &caller, &scope), RP_OK);
    assert_memory_equal(&scope, &wanted, sizeof scope);
    assert_str_equal(request.last_turn, a.request.last_turn);
    assert_str_equal(request.model, RP_STR("m"));

    assert_int_equal(read_fields(RP_STR("{}"), RP_STR("null"), &arena, &request, &caller), RP_ERR_INVALID);
    assert_int_equal(read_fields(RP_STR("{\"attributes\":[],\"body\":{}}"), RP_STR("null"), &arena,
                                 &request, &caller), RP_ERR_INVALID);
    assert_int_equal(read_fields(RP_STR("[]"), RP_STR("null"), &arena, &request, &caller), RP_ERR_INVALID);
    rp_arena_fini(&arena);
    rp_buffer_fini(&text);
}

static void
test_private_hashes_are_keyed_and_separate_purposes(void **state)
{
    (void)state;
    const uint8_t secret[32] = { 1 }, other_secret[32] = { 2 }, zero[16] = { 0 };
    uint8_t a[16], b[16], credential[32], other[32];
    rp_private_hash(secret, "user", RP_STR("\"u\""), a);
    rp_private_hash(secret, "user", RP_STR("\"u\""), b);
    assert_memory_equal(a, b, 16);
    rp_private_hash(secret, "metadata", RP_STR("\"u\""), b);
    assert_memory_not_equal(a, b, 16);
    rp_private_hash(other_secret, "user", RP_STR("\"u\""), b);
    assert_memory_not_equal(a, b, 16);
    rp_private_hash(secret, "user", RP_STR(""), b);
    assert_memory_equal(b, zero, 16);
    assert_memory_not_equal(a, zero, 16);
    rp_credential_hash(secret, RP_STR("sk-1"), credential);
    rp_credential_hash(other_secret, RP_STR("sk-1"), other);
    assert_memory_not_equal(credential, other, 32);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_fact_separates),
        cmocka_unit_test(test_bytes_do_not_move_between_facts),
        cmocka_unit_test(test_what_cannot_change_the_answer_does_not_separate),
        cmocka_unit_test(test_a_scope_needs_a_tenant_and_an_isolated_user),
        cmocka_unit_test(test_two_tenants_never_meet),
        cmocka_unit_test(test_the_key_is_of_the_scope_and_the_turn),
        cmocka_unit_test(test_every_part_of_the_stratum_counts),
        cmocka_unit_test(test_written_fields_make_the_same_scope_again),
        cmocka_unit_test(test_private_hashes_are_keyed_and_separate_purposes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
