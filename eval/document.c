/* document.c - see document.h. */
#include "eval/document.h"

#include "base/bytes.h"
#include "eval/markup.h"

#include <math.h>
#include <stdio.h>

extern const char rp_report_css[]; /* report.css */

#define NARROW_SPACE "\xE2\x80\xAF"

/* ---- verdicts and cells ---------------------------------------------------------------------- */

static rp_verdict_word
verdict_of(bool good, bool certain)
{
    if (good)
        return certain ? RP_VERDICT_PASS : RP_VERDICT_PASS_PERHAPS;
    return certain ? RP_VERDICT_FAIL : RP_VERDICT_FAIL_PERHAPS;
}

rp_verdict_word
rp_verdict_above(double value, double low, double high, double limit)
{
    if (!isfinite(value))
        return RP_VERDICT_NONE;
    const bool good = value > limit;
    return verdict_of(good, !isfinite(low) || !isfinite(high) || (good ? low > limit : high <= limit));
}

rp_verdict_word
rp_verdict_below(double value, double low, double high, double limit)
{
    if (!isfinite(value))
        return RP_VERDICT_NONE;
    const bool good = value < limit;
    return verdict_of(good, !isfinite(low) || !isfinite(high) || (good ? high < limit : low >= limit));
}

rp_cell
rp_cell_text(rp_str text)
{
    return (rp_cell){ .kind = RP_CELL_TEXT, .text = text };
}

rp_cell
rp_cell_code(rp_str text)
{
    return (rp_cell){ .kind = RP_CELL_CODE, .text = text };
}

static rp_cell
numeric(rp_cell_kind kind, double value, double low, double high)
{
    return (rp_cell){ .kind = isfinite(value) ? kind : RP_CELL_EMPTY, .value = value, .low = low,
                      .high = high };
}

rp_cell
rp_cell_count(double count)
{
    return numeric(RP_CELL_COUNT, count, (double)NAN, (double)NAN);
}

rp_cell
rp_cell_number(double value)
{
    return numeric(RP_CELL_NUMBER, value, (double)NAN, (double)NAN);
}

rp_cell
rp_cell_share(double value, double low, double high)
{
    return numeric(RP_CELL_SHARE, value, low, high);
}

/* ---- the page ---------------------------------------------------------------------------------- */

static void
put(rp_document *document, const char *html)
{
    rp_buffer_append(&document->html, rp_str_of(html));
}

void
rp_document_init(rp_document *document)
{
    *document = (rp_document){ 0 };
    rp_buffer_init(&document->html, 0);
    rp_buffer_init(&document->json, 0);
    rp_buffer_init(&document->contents, 0);
    rp_json_writer_init(&document->writer, &document->json);
    rp_json_open(&document->writer, '[');
}

void
rp_document_fini(rp_document *document)
{
    rp_buffer_fini(&document->html);
    rp_buffer_fini(&document->json);
    rp_buffer_fini(&document->contents);
}

static void
end_section(rp_document *document)
{
    rp_json_writer *writer = &document->writer;
    if (!document->in_section)
        return;
    if (document->has_tables)
        rp_json_close(writer, ']');
    if (document->missing_count) {
        rp_json_key(writer, "missing");
        rp_json_open(writer, '[');
        for (size_t i = 0; i < document->missing_count; i++)
            rp_json_put_cstring(writer, document->missing[i]);
        rp_json_close(writer, ']');
    }
    rp_json_close(writer, '}');
    put(document, "</section>\n");
    document->in_section = false;
}

void
rp_document_section(rp_document *document, const char *id, const char *title)
{
    end_section(document);
    document->in_section = true;
    document->has_tables = false;
    document->missing_count = 0;
    rp_json_open(&document->writer, '{');
    rp_json_key(&document->writer, "id");
    rp_json_put_cstring(&document->writer, id);
    rp_json_key(&document->writer, "title");
    rp_json_put_cstring(&document->writer, title);
    rp_buffer_printf(&document->html, "<section id=\"%s\" aria-labelledby=\"%s-title\">\n"
                     "<h2 id=\"%s-title\">%s</h2>\n", id, id, id, title);
    rp_buffer_printf(&document->contents, "<li><a href=\"#%s\">%s</a></li>", id, title);
}

void
rp_document_note(rp_document *document, const char *sentence)
{
    rp_buffer_printf(&document->html, "<p>%s</p>\n", sentence);
}

void
rp_document_missing(rp_document *document, const char *sentence)
{
    rp_buffer_printf(&document->html, "<p class=\"missing\">%s</p>\n", sentence);
    if (document->missing_count < RP_MISSING_MAX)
        document->missing[document->missing_count++] = sentence;
}

void
rp_document_figure_begin(rp_document *document, const char *title)
{
    rp_buffer_printf(&document->html, "<figure>\n<figcaption>%s</figcaption>\n"
                     "<div class=\"panels\">\n", title);
}

void
rp_document_panel_begin(rp_document *document, rp_str name, const char *detail)
{
    put(document, "<div class=\"panel\"><p class=\"panel-name\"><b>");
    rp_markup_text(&document->html, name);
    rp_buffer_printf(&document->html, "</b> <span>%s</span></p>", detail);
}

void
rp_document_panel_end(rp_document *document)
{
    put(document, "</div>\n");
}

void
rp_document_figure_end(rp_document *document)
{
    put(document, "</div></figure>\n");
}

/* ---- tables -------------------------------------------------------------------------------------- */

void
rp_table_begin(rp_document *document, const char *id, const char *caption,
               const rp_column *columns, size_t count, rp_table_look look)
{
    rp_json_writer *writer = &document->writer;
    document->columns = columns;
    document->column_count = count;
    document->group = (rp_str){ 0 };
    document->in_body = false;
    document->folded = look == RP_TABLE_FOLDED;
    if (!document->has_tables) {
        rp_json_key(writer, "tables");
        rp_json_open(writer, '[');
        document->has_tables = true;
    }
    rp_json_open(writer, '{');
    rp_json_key(writer, "id");
    rp_json_put_cstring(writer, id);
    rp_json_key(writer, "rows");
    rp_json_open(writer, '[');
    if (document->folded)
        rp_buffer_printf(&document->html, "<details><summary>Table: %s</summary>\n", caption);
    /* The box scrolls, so it must be reachable by keyboard and have a name. */
    rp_buffer_printf(&document->html,
                     "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Table: %s\">"
                     "<table id=\"table-%s\"%s><caption%s>%s</caption>\n<thead><tr>", caption, id,
                     look == RP_TABLE_CARDS ? " class=\"cards\"" : "",
                     document->folded ? " class=\"unseen\"" : "", caption);
    for (size_t i = 0; i < count; i++)
        rp_buffer_printf(&document->html, "<th scope=\"col\"%s>%s</th>",
                         columns[i].words ? " class=\"word\""
                         : columns[i].strip_high > 0 ? " class=\"strip\"" : "",
                         columns[i].title);
    put(document, "</tr></thead>\n");
}

static void
open_body(rp_document *document)
{
    if (!document->in_body)
        put(document, "<tbody>\n");
    document->in_body = true;
}

void
rp_table_group(rp_document *document, rp_str name)
{
    if (document->in_body)
        put(document, "</tbody>\n");
    document->in_body = false;
    document->group = name;
    open_body(document);
    rp_buffer_printf(&document->html, "<tr class=\"group\"><th scope=\"rowgroup\" colspan=\"%zu\">"
                     "<span>", document->column_count);
    rp_markup_text(&document->html, name);
    put(document, "</span></th></tr>\n");
}

static const char *const verdict_words[] = {
    [RP_VERDICT_PASS] = "pass",
    [RP_VERDICT_PASS_PERHAPS] = "pass, not certain",
    [RP_VERDICT_FAIL_PERHAPS] = "fail, not certain",
    [RP_VERDICT_FAIL] = "fail",
};
static const char *const verdict_styles[] = {
    [RP_VERDICT_PASS] = "pass",
    [RP_VERDICT_PASS_PERHAPS] = "pass perhaps",
    [RP_VERDICT_FAIL_PERHAPS] = "fail perhaps",
    [RP_VERDICT_FAIL] = "fail",
};

static bool
has_interval(const rp_cell *cell)
{
    return cell->low <= cell->high;
}

static void
put_cell_json(rp_document *document, const rp_cell *cell, const char *key)
{
    rp_json_writer *writer = &document->writer;
    char name[80];
    rp_json_key(writer, key);
    if (cell->kind == RP_CELL_EMPTY)
        rp_json_put_null(writer);
    else if (cell->kind == RP_CELL_TEXT || cell->kind == RP_CELL_CODE)
        rp_json_put_string(writer, cell->text);
    else if (cell->kind == RP_CELL_COUNT && cell->value >= 0 && cell->value < 9e15)
        rp_json_put_uint(writer, (uint64_t)cell->value);
    else
        rp_json_put_double(writer, cell->value);
    if (has_interval(cell) && (cell->kind == RP_CELL_SHARE || cell->kind == RP_CELL_NUMBER)) {
        snprintf(name, sizeof name, "%s_interval", key);
        rp_json_key(writer, name);
        rp_json_open(writer, '[');
        rp_json_put_double(writer, cell->low);
        rp_json_put_double(writer, cell->high);
        rp_json_close(writer, ']');
    }
    if (cell->verdict != RP_VERDICT_NONE) {
        snprintf(name, sizeof name, "%s_verdict", key);
        rp_json_key(writer, name);
        rp_json_put_cstring(writer, verdict_words[cell->verdict]);
    }
}

/* Coordinates in percent, so that the strip is as wide as there is room, and its marks stay
 * round. Beside it stands the number: the drawing is for the eye only. */
static void
put_strip(rp_document *document, const rp_column *column, const rp_cell *cell)
{
    const double span = column->strip_high - column->strip_low;
    const double values[] = { cell->value, cell->low, cell->high, column->strip_mark };
    double at[RP_COUNT(values)];
    for (size_t i = 0; i < RP_COUNT(values); i++) {
        const double share = (values[i] - column->strip_low) / span;
        at[i] = 2 + 96 * (share < 0 ? 0 : share > 1 ? 1 : share);
    }
    put(document, "<svg class=\"strip\" aria-hidden=\"true\"><line class=\"base\" x1=\"2%\" x2=\"98%\""
                  " y1=\"50%\" y2=\"50%\"/>");
    if (column->strip_mark > 0)
        rp_buffer_printf(&document->html, "<line class=\"rule\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"0\" "
                         "y2=\"100%%\"/>", at[3], at[3]);
    if (has_interval(cell))
        rp_buffer_printf(&document->html, "<line class=\"whisker\" x1=\"%.2f%%\" x2=\"%.2f%%\" "
                         "y1=\"50%%\" y2=\"50%%\"/>", at[1], at[2]);
    rp_buffer_printf(&document->html, "<circle cx=\"%.2f%%\" cy=\"50%%\" r=\"3.5\"/></svg>", at[0]);
}

/* Is `word` one of the words of `text`, letter case of ASCII aside? */
static bool
has_word(rp_str text, rp_str word)
{
    while (text.len) {
        const rp_str other = rp_str_split(&text, ' ');
        if (rp_str_equal_ignoring_case(other, word))
            return true;
    }
    return false;
}

enum { EXCERPT_MAX = 400, COMPARE_SIZE_MAX = 4096 };

/* The words that the other text lacks are marked: a wrong hit is wrong in one of them. */
static void
put_compared(rp_document *document, rp_str text, rp_str other)
{
    if (text.len > COMPARE_SIZE_MAX || other.len > COMPARE_SIZE_MAX) {
        rp_markup_excerpt(&document->html, text, EXCERPT_MAX);
        return;
    }
    while (text.len) {
        const rp_str word = rp_str_split(&text, ' ');
        const bool marked = word.len && !has_word(other, word);
        put(document, marked ? "<mark>" : "");
        rp_markup_excerpt(&document->html, word, EXCERPT_MAX);
        put(document, marked ? "</mark>" : "");
        put(document, text.len ? " " : "");
    }
}

static void
put_number(rp_document *document, const rp_cell *cell, int digits)
{
    rp_buffer *html = &document->html;
    const bool percent = cell->kind == RP_CELL_SHARE;
    const double scale = percent ? 100 : 1;
    put(document, "<span class=\"n\">");
    rp_markup_number(html, cell->value * scale, cell->kind == RP_CELL_COUNT ? 0 : digits);
    put(document, percent ? NARROW_SPACE "%</span>" : "</span>");
    if (!has_interval(cell))
        return;
    put(document, " <span class=\"i\">[");
    rp_markup_number(html, cell->low * scale, digits);
    put(document, ", ");
    rp_markup_number(html, cell->high * scale, digits);
    put(document, "]</span>");
}

static void
put_cell_html(rp_document *document, const rp_cell *cell, const rp_column *column, bool head)
{
    const bool word = cell->kind == RP_CELL_TEXT || cell->kind == RP_CELL_CODE;
    rp_buffer_printf(&document->html, "<%s%s data-label=\"%s\">", head ? "th scope=\"row\"" : "td",
                     head ? "" : column->words ? " class=\"word\"" : "", column->title);
    if (word) {
        put(document, cell->kind == RP_CELL_CODE ? "<code>" : cell->other.ptr ? "<bdi>" : "");
        if (cell->other.ptr)
            put_compared(document, cell->text, cell->other);
        else
            rp_markup_excerpt(&document->html, cell->text, EXCERPT_MAX);
        put(document, cell->kind == RP_CELL_CODE ? "</code>" : cell->other.ptr ? "</bdi>" : "");
    } else if (cell->kind == RP_CELL_EMPTY) {
        put(document, "<span class=\"none\">\xE2\x80\x93</span>");
    } else {
        if (column->strip_high > column->strip_low)
            put_strip(document, column, cell);
        put_number(document, cell, column->digits);
        if (cell->verdict != RP_VERDICT_NONE)
            rp_buffer_printf(&document->html, " <span class=\"verdict %s\">%s</span>",
                             verdict_styles[cell->verdict], verdict_words[cell->verdict]);
    }
    put(document, head ? "</th>" : "</td>");
}

void
rp_table_row(rp_document *document, const rp_cell *cells, bool shown)
{
    rp_json_open(&document->writer, '{');
    if (document->group.ptr) {
        rp_json_key(&document->writer, "group");
        rp_json_put_string(&document->writer, document->group);
    }
    for (size_t i = 0; i < document->column_count; i++)
        put_cell_json(document, &cells[i], document->columns[i].key);
    rp_json_close(&document->writer, '}');
    if (!shown)
        return;
    open_body(document);
    put(document, "<tr>");
    for (size_t i = 0; i < document->column_count; i++)
        put_cell_html(document, &cells[i], &document->columns[i], i == 0);
    put(document, "</tr>\n");
}

void
rp_table_end(rp_document *document)
{
    open_body(document); /* a table of nothing is still well-formed */
    put(document, "</tbody></table></div>\n");
    put(document, document->folded ? "</details>\n" : "");
    rp_json_close(&document->writer, ']');
    rp_json_close(&document->writer, '}');
}

/* ---- the end ---------------------------------------------------------------------------------------- */

static const char page_start[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
    "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta name=\"color-scheme\" content=\"light dark\">\n"
    "<meta name=\"referrer\" content=\"no-referrer\">\n<link rel=\"icon\" href=\"data:,\">\n";

static const char theme_switch[] =
    "<fieldset class=\"theme\"><legend>Colours</legend>"
    "<label><input type=\"radio\" name=\"theme\" id=\"theme-system\" checked> as the system</label>"
    "<label><input type=\"radio\" name=\"theme\" id=\"theme-light\"> light</label>"
    "<label><input type=\"radio\" name=\"theme\" id=\"theme-dark\"> dark</label></fieldset>\n";

static void
wrap_page(rp_document *document, const char *title, rp_str head, rp_buffer *page)
{
    rp_buffer_append(page, rp_str_of(page_start));
    rp_buffer_printf(page, "<title>%s</title>\n<style>\n%s</style>\n</head>\n<body>\n"
                     "<a class=\"skip\" href=\"#content\">To the content</a>\n<header>\n", title,
                     rp_report_css);
    rp_buffer_printf(page, "<h1>%s</h1>\n", title);
    rp_buffer_append(page, head);
    rp_buffer_append(page, rp_str_of(theme_switch));
    rp_buffer_append(page, RP_STR("</header>\n<nav aria-label=\"Contents\"><ol>"));
    rp_buffer_append(page, rp_buffer_str(&document->contents));
    rp_buffer_append(page, RP_STR("</ol></nav>\n<main id=\"content\">\n"));
    rp_buffer_append(page, rp_buffer_str(&document->html));
    rp_buffer_append(page, RP_STR("</main>\n</body>\n</html>\n"));
}

rp_status
rp_document_finish(rp_document *document, const char *title, rp_str head, rp_str json_head)
{
    rp_buffer page, json;
    end_section(document);
    rp_json_close(&document->writer, ']');
    rp_buffer_init(&page, 0);
    rp_buffer_init(&json, 0);
    wrap_page(document, title, head, &page);
    rp_buffer_append_char(&json, '{');
    rp_buffer_append(&json, json_head);
    rp_buffer_append(&json, RP_STR(",\"sections\":"));
    rp_buffer_append(&json, rp_buffer_str(&document->json));
    rp_buffer_append(&json, RP_STR("}\n"));
    const bool failed = rp_buffer_failed(&page) || rp_buffer_failed(&json) ||
                        rp_buffer_failed(&document->html) || rp_buffer_failed(&document->json) ||
                        rp_buffer_failed(&document->contents);
    rp_document_fini(document);
    document->html = page;
    document->json = json;
    rp_buffer_init(&document->contents, 0);
    return failed ? RP_ERR_NOMEM : RP_OK;
}
