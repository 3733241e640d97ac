/* fuzz_report.c - any bytes as results: what is accepted becomes a page in which nothing of
 * them is markup, and JSON that can be read again. */
#include "base/bytes.h"
#include "eval/report.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Elements that a report has; the bytes may not add another. */
static bool
is_known_tag(rp_str html, size_t at)
{
    static const char *const names[] = {
        "!DOCTYPE", "a", "b", "bdi", "body", "caption", "circle", "code", "details", "div",
        "fieldset", "figcaption", "figure", "g", "h1", "h2", "head", "header", "html", "i", "input",
        "label", "legend", "li", "line", "link", "main", "mark", "meta", "nav", "ol", "p", "path",
        "rect", "section", "span", "strong", "style", "summary", "svg", "table", "tbody", "td",
        "text", "th", "thead", "title", "tr", "ul",
    };
    at += 1 + (at + 1 < html.len && html.ptr[at + 1] == '/');
    for (size_t i = 0; i < RP_COUNT(names); i++) {
        const size_t len = strlen(names[i]);
        if (html.len - at > len && memcmp(html.ptr + at, names[i], len) == 0 &&
            strchr(" >/", html.ptr[at + len]))
            return true;
    }
    return false;
}

static void
check_page(rp_str html)
{
    if (!rp_utf8_is_valid(html))
        abort();
    for (size_t i = 0; i < html.len; i++)
        if (html.ptr[i] == '<' && !is_known_tag(html, i))
            abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const rp_report_options options = { .commit = "c", .command = "m" };
    rp_results results;
    rp_buffer html, json;
    rp_results_init(&results);
    rp_buffer_init(&html, 0);
    rp_buffer_init(&json, 0);
    if (!rp_results_parse(&results, "fuzz", (rp_str){ (const char *)bytes, size }, NULL) &&
        !rp_report_write(&results, &options, &html, &json, NULL)) {
        rp_json_reader *reader;
        rp_arena arena;
        const rp_json *document;
        rp_arena_init(&arena, 0);
        check_page(rp_buffer_str(&html));
        if (rp_json_reader_new(&reader) ||
            rp_json_parse(reader, &arena, rp_buffer_str(&json), &document, NULL))
            abort();
        rp_json_reader_free(reader);
        rp_arena_fini(&arena);
    }
    rp_buffer_fini(&html);
    rp_buffer_fini(&json);
    rp_results_fini(&results);
    return 0;
}
