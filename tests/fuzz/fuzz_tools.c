/* fuzz_tools.c - any bytes as what the tools read: texts, JSON lines, a script for mock-llm.
 *
 * First byte: which of them. Compiled together with the tools' sources, which are in no
 * library. */
#include "base/bytes.h"
#include "tools/input.h"
#include "tools/mock_llm.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void
check(bool holds)
{
    if (!holds)
        abort();
}

static void
read_texts(const char *path, rp_input_format format)
{
    rp_input *input;
    rp_error error;
    if (rp_input_open(path, format, &input, &error) != RP_OK)
        return;
    rp_str text;
    bool more = true;
    size_t total = 0;
    while (rp_input_next(input, &text, &more, &error) == RP_OK && more)
        for (size_t i = 0; i < text.len; i++)
            total += (uint8_t)text.ptr[i]; /* all of it can be read */
    check(total < SIZE_MAX);
    rp_input_close(input);
}

static void
read_script(const char *path)
{
    static const char *const prompts[] = { "", "a", "hello" };
    mock_script *script;
    rp_error error;
    if (mock_script_load(path, &script, &error) != RP_OK)
        return;
    rp_json_reader *reader;
    check(rp_json_reader_new(&reader) == RP_OK);
    for (size_t i = 0; i < RP_COUNT(prompts); i++) {
        char text[128];
        rp_arena arena;
        const rp_json *body;
        mock_reply reply;
        rp_arena_init(&arena, 0);
        snprintf(text, sizeof text,
                 "{\"model\":\"m\",\"stream\":%s,\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}",
                 i % 2 ? "true" : "false", prompts[i]);
        check(rp_json_parse(reader, &arena, rp_str_of(text), &body, &error) == RP_OK);
        const mock_options options = { .script = script, .answer_words = 5 };
        check(mock_answer(&options, MOCK_CHAT, body, 1, MOCK_FAULT_NONE, &arena, &reply) == RP_OK);
        check(reply.status >= 200 && reply.status <= 599);
        rp_arena_fini(&arena);
    }
    rp_json_reader_free(reader);
    mock_script_free(script);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size == 0)
        return 0;
    char path[32];
    const int fd = memfd_create("fuzz", 0);
    check(fd >= 0 && write(fd, bytes + 1, size - 1) == (ssize_t)(size - 1));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (bytes[0] % 4 == 3)
        read_script(path);
    else
        read_texts(path, (rp_input_format)(bytes[0] % 4));
    close(fd);
    return 0;
}
