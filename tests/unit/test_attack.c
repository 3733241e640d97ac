/* test_attack.c - the attacks of the evaluation are what they say, and are repeatable.
 *
 * What could go wrong: a victim without a wrong answer, a broken line that is passed over,
 * texts of one answer that land in both halves, the same seed giving other attacks, a
 * stream whose texts are paired across answers. The hill climb and the measurement need an
 * encoder: a run of the whole command on a small file is in tests/integration. */
#include "eval/attack.h"
#include "test_support.h"

#include <stdio.h>
#include <string.h>

static const char poisoning[] =
    "{\"question\": \"who won the cup\", \"correct_answer\": \"Ann\", \"incorrect_answer\": \"Bob\","
    " \"adv_texts\": [\"Bob won the cup in May.\", \"x\"]}\n"
    "{\"question\": \"where is the bank\", \"incorrect_answer\": \"Rome\", \"adv_texts\": [\"In Rome.\"]}\n"
    "{\"question\": \"what is salt\", \"incorrect_answer\": \"sugar\", \"adv_texts\": [\"Salt is sugar.\"]}\n";

static const char pairs_file[] = "label\tcategory\ttext_a\ttext_b\n"
                                 "1\tx\thow do I pay\tin which way can I pay\n"
                                 "0\tx\thow do I pay\thow do I leave\n"
                                 "1\tx\tcan I pay by card\thow do I pay\n"
                                 "1\tx\tsame\tsame\n";

static const char stream_file[] = "{\"prompt\": \"a one\", \"answer_id\": 1}\n"
                                  "{\"prompt\": \"b one\", \"answer_id\": 2}\n"
                                  "{\"prompt\": \"a two\", \"answer_id\": 1}\n"
                                  "{\"prompt\": \"a two\", \"answer_id\": 1}\n"
                                  "{\"prompt\": \"b two\", \"answer_id\": 2}\n"
                                  "{\"prompt\": \"a three\", \"answer_id\": 1}\n";

static void
write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

typedef struct files {
    char folder[64], victims[96], pairs[96], stream[96];
} files;

static int
set_up(void **state)
{
    files *f = calloc(1, sizeof *f);
    if (!f)
        return -1;
    snprintf(f->folder, sizeof f->folder, "/tmp/reprise-attack-XXXXXX");
    if (!mkdtemp(f->folder))
        return -1;
    snprintf(f->victims, sizeof f->victims, "%s/victims.jsonl", f->folder);
    snprintf(f->pairs, sizeof f->pairs, "%s/pairs.tsv", f->folder);
    snprintf(f->stream, sizeof f->stream, "%s/stream.jsonl", f->folder);
    write_file(f->victims, poisoning);
    write_file(f->pairs, pairs_file);
    write_file(f->stream, stream_file);
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    files *f = *state;
    unlink(f->victims);
    unlink(f->pairs);
    unlink(f->stream);
    rmdir(f->folder);
    free(f);
    return 0;
}

static void
make(const files *f, size_t victims, uint64_t seed, rp_attack_set *out)
{
    rp_error error = { { 0 } };
    rp_attack_set_init(out);
    assert_int_equal(rp_attack_read_victims(out, f->victims, victims, seed, &error), RP_OK);
    assert_int_equal(rp_attack_read_benign(out, f->pairs, 100, seed, &error), RP_OK);
    assert_int_equal(rp_attack_read_benign(out, f->stream, 100, seed, &error), RP_OK);
    assert_int_equal(rp_attack_make(out, seed, &error), RP_OK);
}

static bool
contains(rp_str text, rp_str part)
{
    return memmem(text.ptr, text.len, part.ptr, part.len) != NULL;
}

static void
test_every_victim_gets_every_kind(void **state)
{
    rp_attack_set set;
    size_t kinds[RP_ATTACK_KIND_COUNT] = { 0 };
    make(*state, 10, 1, &set);
    assert_int_equal(set.victim_count, 3);
    for (size_t i = 0; i < set.attack_count; i++) {
        const rp_attack *attack = &set.attacks[i];
        const rp_str key = set.texts.texts[attack->key];
        const rp_str question = set.texts.texts[attack->question];
        kinds[attack->kind]++;
        assert_false(rp_str_equal(key, question)); /* that would be an exact hit */
        if (attack->kind == RP_ATTACK_STUFFED || attack->kind == RP_ATTACK_APPENDED ||
            attack->kind == RP_ATTACK_POISON_CONTEXT)
            assert_true(contains(key, question));
        if (attack->kind == RP_ATTACK_BARE)
            assert_false(contains(key, question));
    }
    for (int kind = 0; kind < RP_ATTACK_KIND_COUNT; kind++)
        assert_int_equal(kinds[kind], 3);
    rp_attack_set_fini(&set);
}

static void
test_a_seed_gives_the_same_attacks(void **state)
{
    rp_attack_set one, two, other;
    make(*state, 2, 5, &one);
    make(*state, 2, 5, &two);
    make(*state, 2, 6, &other);
    assert_int_equal(one.victim_count, 2);
    assert_int_equal(one.attack_count, two.attack_count);
    bool differs = other.attack_count != one.attack_count;
    for (size_t i = 0; i < one.attack_count; i++) {
        assert_str_equal(one.texts.texts[one.attacks[i].key], two.texts.texts[two.attacks[i].key]);
        differs |= !rp_str_equal(one.texts.texts[one.attacks[i].key],
                                 other.texts.texts[other.attacks[i].key]);
    }
    assert_true(differs);
    rp_attack_set_fini(&one);
    rp_attack_set_fini(&two);
    rp_attack_set_fini(&other);
}

static void
test_benign_texts_are_paired_within_an_answer(void **state)
{
    rp_attack_set set;
    make(*state, 3, 1, &set);
    size_t of_file[2] = { 0 };
    for (size_t i = 0; i < set.pair_count; i++) {
        const rp_str a = set.texts.texts[set.pairs[i].a], b = set.texts.texts[set.pairs[i].b];
        of_file[set.pairs[i].file]++;
        assert_false(rp_str_equal(a, b));
        if (set.pairs[i].file == 1)
            assert_int_equal(a.ptr[0], b.ptr[0]); /* "a ..." or "b ..." */
    }
    assert_int_equal(of_file[0], 2); /* the negative one and the equal texts are none */
    assert_int_equal(of_file[1], 2); /* three texts of answer 1 make one pair */
    /* Pairs that share a text are one group, and a group has one half. */
    assert_int_equal(set.pairs[0].group, set.pairs[1].group);
    assert_int_equal(rp_attack_half(set.pairs[0].group), rp_attack_half(set.pairs[1].group));
    for (size_t i = 0; i < set.victim_count; i++)
        for (size_t k = 0; k < set.pair_count; k++)
            assert_int_not_equal(set.victims[i].group, set.pairs[k].group);
    rp_attack_set_fini(&set);
}

static void
test_bad_files_are_named_with_their_line(void **state)
{
    const files *f = *state;
    const struct { const char *text, *place; } bad[] = {
        { "", "victims.jsonl" },
        { "{\"question\": \"q\", \"incorrect_answer\": \"w\", \"adv_texts\": [\"t\"]}\n\n", ":2:" },
        { "{\"question\": \"q\", \"incorrect_answer\": \"w\", \"adv_texts\": []}\n", ":1:" },
        { "{\"question\": \"q\", \"incorrect_answer\": 7, \"adv_texts\": [\"t\"]}\n", ":1:" },
        { "{\"question\": \" \", \"incorrect_answer\": \"w\", \"adv_texts\": [\"t\"]}\n", ":1:" },
        { "{\"question\": \"q\", ", ":1:" },
        { "[1]\n", ":1:" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        rp_attack_set set;
        rp_error error = { { 0 } };
        write_file(f->victims, bad[i].text);
        rp_attack_set_init(&set);
        assert_int_equal(rp_attack_read_victims(&set, f->victims, 5, 1, &error), RP_ERR_INVALID);
        if (!strstr(error.text, bad[i].place))
            fail_msg("case %zu says \"%s\"", i, error.text);
        rp_attack_set_fini(&set);
    }
    rp_attack_set set;
    rp_error error = { { 0 } };
    rp_attack_set_init(&set);
    write_file(f->pairs, "label\tcategory\ttext_a\ttext_b\n0\tx\ta\tb\n");
    assert_int_equal(rp_attack_read_benign(&set, f->pairs, 5, 1, &error), RP_ERR_INVALID);
    assert_non_null(strstr(error.text, "no two of its texts"));
    rp_attack_set_fini(&set);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_victim_gets_every_kind, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_seed_gives_the_same_attacks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_benign_texts_are_paired_within_an_answer, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_bad_files_are_named_with_their_line, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
