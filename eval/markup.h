/* markup.h - text of strangers inside HTML and SVG.
 *
 * Whatever the bytes are, what is appended is valid UTF-8 that a browser shows as text and
 * as nothing else, in an element or between the double quotes of an attribute: & < > " ' are
 * entities. What would change the order or the look of other text without being seen
 * (controls, directional marks, invisible format characters, private use) is written out as
 * [U+202E]; bytes that are no UTF-8 become U+FFFD; of a pile of combining marks the first
 * three stay. Tabs and line ends become spaces.
 *
 * Threads: pure functions. */
#ifndef RP_EVAL_MARKUP_H
#define RP_EVAL_MARKUP_H

#include "base/buffer.h"

void rp_markup_text(rp_buffer *out, rp_str text);
/* The same, cut behind `points_max` characters with the number of bytes left out. */
void rp_markup_excerpt(rp_buffer *out, rp_str text, size_t points_max);

/* `value` rounded to `digits` decimals, thousands apart: 12,345.6; not finite: an en dash. */
void rp_markup_number(rp_buffer *out, double value, int digits);

#endif
