/* ask_twice.c - a cache in a folder, used from C.
 *
 *     ask_twice FOLDER [MODEL]
 *
 * Stores one answer, asks the same question, a rephrased one and the opposite one, and
 * prints what the cache said to each. Without MODEL (a folder, or the name of a pulled
 * encoder) only the same question hits. Uses nothing but include/reprise. */
#include <reprise/reprise.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
warn(void *context, const char *sentence)
{
    (void)context;
    fprintf(stderr, "ask_twice: %s\n", sentence);
}

static rp_cache_request
ask(const char *prompt)
{
    rp_cache_request request = { 0 };
    request.tenant = RP_STR("example");
    request.prompt.ptr = prompt;
    request.prompt.len = strlen(prompt);
    return request;
}

static rp_status
show(rp_cache *cache, const char *prompt, rp_error *error)
{
    const rp_cache_request request = ask(prompt);
    rp_cache_answer *answer;
    const rp_status status = rp_cache_lookup(cache, &request, &answer, error);
    if (status != RP_OK)
        return status;
    printf("%-4s %-8s %-14s %6.3f  %s\n", answer->outcome, answer->tier, answer->reason,
           answer->similarity, prompt);
    if (answer->hit)
        printf("     -> %.*s\n", (int)answer->reply.len, answer->reply.ptr);
    rp_cache_answer_free(answer);
    return RP_OK;
}

int
main(int argc, char **argv)
{
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: ask_twice FOLDER [MODEL]\n");
        return 2;
    }
    rp_error error = { { 0 } };
    rp_cache_options options = { 0 };
    options.folder = argv[1];
    options.model = argc > 2 ? argv[2] : NULL;
    options.policy = "static:min_similarity=0.9";
    options.warn = warn;

    rp_cache *cache = NULL;
    rp_status status = rp_cache_open(&options, &cache, &error);
    if (status == RP_OK) {
        const rp_cache_request request = ask("How do I enable two-factor authentication?");
        status = rp_cache_store(cache, &request, RP_STR("Settings, Security, Two-factor: on."), NULL,
                                NULL, &error);
    }
    if (status == RP_OK)
        status = show(cache, "How do I enable two-factor authentication?", &error);
    if (status == RP_OK)
        status = show(cache, "How can I enable two-factor authentication?", &error);
    if (status == RP_OK)
        status = show(cache, "How do I disable two-factor authentication?", &error);
    rp_cache_close(cache);
    if (status != RP_OK)
        fprintf(stderr, "ask_twice: %s\n", error.text);
    return status == RP_OK ? 0 : 1;
}
