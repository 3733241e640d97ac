/* input.h - texts for `embed` and `tokenize`: one a line, or JSON lines with "text".
 *
 * Format:  JSON lines if the first byte of the input is '{' (or if asked for), else
 *          each line is a text. "\n" and "\r\n" end a line; the last one may lack
 *          it. An empty line is an empty text, and is passed over in JSON lines.
 *          Members other than "text" are ignored.
 * Errors:  sentences name the input and the line, never what it says.
 * Threads: used by one thread at a time. */
#ifndef RP_TOOLS_INPUT_H
#define RP_TOOLS_INPUT_H

#include <reprise/status.h>
#include <reprise/types.h>

typedef enum rp_input_format { RP_INPUT_AUTO, RP_INPUT_TEXT, RP_INPUT_JSONL } rp_input_format;
enum { RP_INPUT_LINE_SIZE_MAX = 8 << 20 }; /* 1 MiB of text, every byte written \u00xx */

typedef struct rp_input rp_input;

/* "auto", "text" or "jsonl". */
bool rp_input_format_of(const char *name, rp_input_format *out);
/* `path` NULL or "-": standard input. Fails: RP_ERR_NOT_FOUND, RP_ERR_IO, RP_ERR_NOMEM. */
RP_NODISCARD rp_status
rp_input_open(const char *path, rp_input_format format, rp_input **out, rp_error *error);
void rp_input_close(rp_input *input); /* NULL is fine */

/* The next text, lent until the next call; *more is false at the end. Fails:
 * RP_ERR_INVALID (no JSON, no "text"), RP_ERR_LIMIT (a line too long), RP_ERR_IO,
 * RP_ERR_NOMEM. */
RP_NODISCARD rp_status
rp_input_next(rp_input *input, rp_str *text, bool *more, rp_error *error);

#endif
