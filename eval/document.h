/* document.h - a report being written, as a page for people and as JSON for programs.
 *
 * Each table is given once and goes to both, so that the two cannot differ; what is only
 * drawn or said goes to the page alone. The page is one file: no script at all (its Content
 * Security Policy forbids every one), no request to anywhere, light and dark by style alone.
 *
 *   rp_document_init; then sections, and in each, in any number: notes, figures, tables;
 *   rp_document_finish once; then the two buffers are whole.
 *
 * Errors:  kept by the buffers; rp_document_finish tells.
 * Threads: used by one thread at a time. */
#ifndef RP_EVAL_DOCUMENT_H
#define RP_EVAL_DOCUMENT_H

#include "base/buffer.h"
#include "json/json.h"

/* Against a limit. Not certain: the interval reaches over to the other side. */
typedef enum rp_verdict_word {
    RP_VERDICT_NONE,
    RP_VERDICT_PASS,
    RP_VERDICT_PASS_PERHAPS,
    RP_VERDICT_FAIL_PERHAPS,
    RP_VERDICT_FAIL,
} rp_verdict_word;
/* Is value > limit (or < limit)? NaN interval: the value alone decides. */
rp_verdict_word rp_verdict_above(double value, double low, double high, double limit);
rp_verdict_word rp_verdict_below(double value, double low, double high, double limit);

typedef enum rp_cell_kind {
    RP_CELL_EMPTY,
    RP_CELL_TEXT,   /* anybody's; escaped */
    RP_CELL_CODE,   /* the same in a typewriter face */
    RP_CELL_COUNT,
    RP_CELL_NUMBER,
    RP_CELL_SHARE,  /* shown in percent; JSON has the share */
} rp_cell_kind;

typedef struct rp_cell {
    rp_cell_kind kind;
    rp_str text;       /* TEXT, CODE */
    rp_str other;      /* TEXT: words that are not in this text are marked; ptr NULL: none */
    double value, low, high; /* low, high NaN: no interval */
    rp_verdict_word verdict;
} rp_cell;

rp_cell rp_cell_text(rp_str text);
rp_cell rp_cell_code(rp_str text);
rp_cell rp_cell_count(double count);    /* NaN: empty */
rp_cell rp_cell_number(double value);   /* NaN: empty */
rp_cell rp_cell_share(double value, double low, double high);

typedef struct rp_column {
    const char *key;    /* the member in JSON */
    const char *title;  /* of the page; plain text */
    int digits;         /* decimals */
    double strip_high;  /* > 0: values are also drawn, on a strip from strip_low to here */
    double strip_low;
    double strip_mark;  /* a limit on it; 0: none */
    bool words;         /* no numbers: set flush left */
} rp_column;

enum { RP_COLUMNS_MAX = 20, RP_MISSING_MAX = 8 };

typedef struct rp_document {
    rp_buffer html, json; /* owned */
    rp_buffer contents;   /* the list of sections; owned */
    rp_json_writer writer;
    const char *missing[RP_MISSING_MAX]; /* of the section */
    size_t missing_count;
    bool in_section, has_tables, folded;
    const rp_column *columns; /* of the table; borrowed until its end */
    size_t column_count;
    rp_str group;             /* borrowed until the next */
    bool in_body;
} rp_document;

void rp_document_init(rp_document *document);
void rp_document_fini(rp_document *document);

/* Close what is open. `title` and `head` (our own HTML) come before the sections on the page,
 * `json_head` (members without brackets, at least one) in the JSON. Then html and json hold
 * the whole. Fails: RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_document_finish(rp_document *document, const char *title, rp_str head,
                                          rp_str json_head);

/* id, title and sentences are ours: HTML is allowed in sentences, not escaped. */
void rp_document_section(rp_document *document, const char *id, const char *title);
void rp_document_note(rp_document *document, const char *sentence);
/* Why something is not there: said on the page and in JSON. A string constant. */
void rp_document_missing(rp_document *document, const char *sentence);
/* Panels beside each other: between begin and end any number of panels, each with a caption
 * (escaped) and then the chart, written to document->html. */
void rp_document_figure_begin(rp_document *document, const char *title);
void rp_document_panel_begin(rp_document *document, rp_str name, const char *detail);
void rp_document_panel_end(rp_document *document);
void rp_document_figure_end(rp_document *document);

typedef enum rp_table_look {
    RP_TABLE_OPEN,   /* it is what the section shows */
    RP_TABLE_FOLDED, /* the numbers behind a chart */
    RP_TABLE_CARDS,  /* few rows; on a narrow screen each becomes a card */
} rp_table_look;
/* `columns` must live until the table ends; the first column heads its rows. */
void rp_table_begin(rp_document *document, const char *id, const char *caption,
                    const rp_column *columns, size_t count, rp_table_look look);
/* The rows that follow belong to `name`: a line over them, a member "group" in JSON. */
void rp_table_group(rp_document *document, rp_str name);
/* `shown` false: JSON only. */
void rp_table_row(rp_document *document, const rp_cell *cells, bool shown);
void rp_table_end(rp_document *document);

#endif
