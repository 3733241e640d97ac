/* chart.h - a small chart as inline SVG.
 *
 * One panel of 340 x 240 units, meant to be shown at about that many pixels, several beside
 * each other, so that its letters keep their size on a telephone. Colours are classes
 * (report.css), so that light and dark are the page's business. Whoever cannot see it gets
 * the label; the numbers are in a table beside it, always.
 *
 * Coordinates are data; a point outside the axes is drawn at the edge, a line ends there, and
 * what is not finite is not drawn.
 *
 * Threads: used by one thread at a time. */
#ifndef RP_EVAL_CHART_H
#define RP_EVAL_CHART_H

#include "base/buffer.h"

enum { RP_TICKS_MAX = 12 };

typedef struct rp_axis {
    double low, high;
    bool logarithmic;  /* low > 0; values at or below 0 stand in a gutter of their own */
    bool has_gutter;   /* for them; logarithmic only */
    double ticks[RP_TICKS_MAX];
    size_t tick_count;
    double unit;       /* tick labels show value / unit: .01 for percent */
    const char *title;
} rp_axis;

/* A linear axis from 0 to about `high` with round ticks in `unit`. */
rp_axis rp_axis_linear(double high, double unit, const char *title);
/* From the power of ten (or 3 of it) below low to the one above high, both > 0. */
rp_axis rp_axis_logarithmic(double low, double high, double unit, bool has_gutter,
                            const char *title);

typedef struct rp_chart {
    rp_buffer *out;
    rp_axis x, y;
} rp_chart;

/* `label`: what a screen reader says; escaped here. */
void rp_chart_begin(rp_chart *chart, rp_buffer *out, const rp_axis *x, const rp_axis *y,
                    rp_str label);
void rp_chart_end(rp_chart *chart);

/* `style` is a class name of ours, never a stranger's. */
void rp_chart_line(rp_chart *chart, const double *x, const double *y, size_t count,
                   const char *style);
void rp_chart_band(rp_chart *chart, const double *x, const double *low, const double *high,
                   size_t count, const char *style);
void rp_chart_bar(rp_chart *chart, double x_low, double x_high, double y_low, double y_high,
                  const char *style);

enum { RP_MARKS = 10 };
/* A point with its intervals (low > high: none) and what a pointer over it tells. */
typedef struct rp_chart_point {
    double x, x_low, x_high, y, y_low, y_high;
    unsigned mark;     /* shape, of RP_MARKS */
    bool hollow;
    const char *style;
    rp_str tip;        /* escaped here */
} rp_chart_point;
void rp_chart_put_point(rp_chart *chart, const rp_chart_point *point);

/* A thin line over the whole panel, with a short label of ours at its end. */
void rp_chart_rule_x(rp_chart *chart, double x, const char *label);
void rp_chart_rule_y(rp_chart *chart, double y, const char *label);

/* A mark alone, for a legend. */
void rp_chart_key(rp_buffer *out, unsigned mark, bool hollow, const char *style);

#endif
