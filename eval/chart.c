/* chart.c - see chart.h. */
#include "eval/chart.h"

#include "base/bytes.h"
#include "eval/markup.h"

#include <math.h>
#include <stdio.h>

/* Units of the drawing. TOP leaves room for two lines of words above the panel: the title of
 * y, and the labels of upright rules; RIGHT for those of level ones. */
enum { WIDTH = 340, HEIGHT = 240, LEFT = 34, RIGHT = 36, TOP = 34, BOTTOM = 40, GUTTER = 32 };

/* ---- axes ---------------------------------------------------------------------------------- */

static double
round_step(double rough)
{
    const double power = pow(10, floor(log10(rough)));
    const double share = rough / power;
    return power * (share <= 1 ? 1 : share <= 2 ? 2 : share <= 2.5 ? 2.5 : share <= 5 ? 5 : 10);
}

rp_axis
rp_axis_linear(double high, double unit, const char *title)
{
    rp_axis axis = { .unit = unit, .title = title };
    if (!(high > 0) || !isfinite(high))
        high = unit;
    const double step = round_step(high / 4);
    const int count = (int)ceil(high / step - 1e-9);
    for (int i = 0; i <= count && axis.tick_count < RP_TICKS_MAX; i++)
        axis.ticks[axis.tick_count++] = i * step;
    axis.high = count * step;
    return axis;
}

rp_axis
rp_axis_logarithmic(double low, double high, double unit, bool has_gutter, const char *title)
{
    rp_axis axis = { .logarithmic = true, .has_gutter = has_gutter, .unit = unit, .title = title };
    if (!(low > 0) || !isfinite(low))
        low = unit;
    if (!(high > low) || !isfinite(high))
        high = 10 * low;
    const int first = (int)floor(log10(low / unit) + 1e-9);
    const int last = (int)ceil(log10(high / unit) - 1e-9);
    const bool with_threes = last - first <= 4;
    axis.low = unit * pow(10, first);
    axis.high = unit * pow(10, last);
    if (with_threes && 3 * axis.low <= low)
        axis.low *= 3;
    if (with_threes && .3 * axis.high >= high)
        axis.high *= .3;
    for (int e = first; e <= last && axis.tick_count + 1 < RP_TICKS_MAX; e++)
        for (int f = 1; f <= (with_threes ? 3 : 1); f += 2) {
            const double tick = f * unit * pow(10, e);
            if (tick >= axis.low * .999 && tick <= axis.high * 1.001)
                axis.ticks[axis.tick_count++] = tick;
        }
    return axis;
}

/* Where on the axis, 0..1; *gutter: in the place for nothing. */
static double
share_of_axis(const rp_axis *axis, double value, bool *gutter)
{
    double share;
    *gutter = axis->logarithmic && axis->has_gutter && value <= 0;
    if (axis->logarithmic)
        share = value <= 0 ? 0 : log(value / axis->low) / log(axis->high / axis->low);
    else
        share = (value - axis->low) / (axis->high - axis->low);
    return share < 0 ? 0 : share > 1 ? 1 : share;
}

static double
x_of(const rp_chart *chart, double value)
{
    bool gutter;
    const double share = share_of_axis(&chart->x, value, &gutter);
    const int from = LEFT + (chart->x.has_gutter ? GUTTER : 0);
    return gutter ? LEFT + 7 : from + share * (WIDTH - RIGHT - from);
}

static double
y_of(const rp_chart *chart, double value)
{
    bool gutter;
    return HEIGHT - BOTTOM - share_of_axis(&chart->y, value, &gutter) * (HEIGHT - BOTTOM - TOP);
}

static void
put_label(rp_chart *chart, double x, double y, const char *anchor, const char *class,
          const char *text)
{
    rp_buffer_printf(chart->out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" class=\"%s\">", x,
                     y, anchor, class);
    rp_markup_text(chart->out, rp_str_of(text));
    rp_buffer_append(chart->out, RP_STR("</text>"));
}

/* Short enough for the margin: 0.3, 25, 8000, 20k, 1M. */
static void
format_tick(double value, char out[32])
{
    const double size = fabs(value);
    const double unit = size >= 1e6 ? 1e6 : size >= 1e4 ? 1e3 : 1;
    snprintf(out, 32, "%.4g%s", value / unit, unit == 1e6 ? "M" : unit == 1e3 ? "k" : "");
}

static void
put_tick_labels(rp_chart *chart)
{
    char text[32];
    for (size_t i = 0; i < chart->x.tick_count; i++) {
        format_tick(chart->x.ticks[i] / chart->x.unit, text);
        put_label(chart, x_of(chart, chart->x.ticks[i]), HEIGHT - BOTTOM + 17, "middle", "tick",
                  text);
    }
    if (chart->x.has_gutter)
        put_label(chart, LEFT + 7, HEIGHT - BOTTOM + 17, "middle", "tick", "0");
    for (size_t i = 0; i < chart->y.tick_count; i++) {
        format_tick(chart->y.ticks[i] / chart->y.unit, text);
        put_label(chart, LEFT - 5, y_of(chart, chart->y.ticks[i]) + 3.5, "end", "tick", text);
    }
}

void
rp_chart_begin(rp_chart *chart, rp_buffer *out, const rp_axis *x, const rp_axis *y, rp_str label)
{
    *chart = (rp_chart){ .out = out, .x = *x, .y = *y };
    rp_buffer_printf(out, "<svg class=\"chart\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"",
                     WIDTH, HEIGHT);
    rp_markup_text(out, label);
    rp_buffer_append(out, RP_STR("\"><g class=\"grid\">"));
    for (size_t i = 0; i < y->tick_count; i++) {
        const double at = y_of(chart, y->ticks[i]);
        rp_buffer_printf(out, "<path d=\"M%d %.1fH%d\"/>", LEFT, at, WIDTH - RIGHT);
    }
    for (size_t i = 0; i < x->tick_count; i++)
        rp_buffer_printf(out, "<path d=\"M%.1f %dv4\"/>", x_of(chart, x->ticks[i]), HEIGHT - BOTTOM);
    rp_buffer_append(out, RP_STR("</g>"));
    put_tick_labels(chart);
    put_label(chart, 0, 10, "start", "axis", y->title);
    put_label(chart, WIDTH - RIGHT, HEIGHT - 5, "end", "axis", x->title);
}

void
rp_chart_end(rp_chart *chart)
{
    rp_buffer_append(chart->out, RP_STR("</svg>"));
}

/* ---- marks --------------------------------------------------------------------------------- */

void
rp_chart_line(rp_chart *chart, const double *x, const double *y, size_t count, const char *style)
{
    bool pen = false;
    rp_buffer_printf(chart->out, "<path class=\"line %s\" d=\"", style);
    for (size_t i = 0; i < count; i++) {
        /* A line that leaves the panel ends there, instead of running along its edge. */
        const bool good = isfinite(x[i]) && isfinite(y[i]) && x[i] <= chart->x.high * 1.0001 &&
                          y[i] <= chart->y.high * 1.0001;
        if (good)
            rp_buffer_printf(chart->out, "%c%.1f %.1f", pen ? 'L' : 'M', x_of(chart, x[i]),
                             y_of(chart, y[i]));
        pen = good;
    }
    rp_buffer_append(chart->out, RP_STR("\"/>"));
}

void
rp_chart_band(rp_chart *chart, const double *x, const double *low, const double *high,
              size_t count, const char *style)
{
    bool pen = false;
    rp_buffer_printf(chart->out, "<path class=\"band %s\" d=\"", style);
    for (size_t i = 0; i < 2 * count; i++) {
        const size_t at = i < count ? i : 2 * count - 1 - i;
        const double y = i < count ? high[at] : low[at];
        if (!isfinite(x[at]) || !isfinite(low[at]) || !isfinite(high[at]))
            continue;
        rp_buffer_printf(chart->out, "%c%.1f %.1f", pen ? 'L' : 'M', x_of(chart, x[at]),
                         y_of(chart, y));
        pen = true;
    }
    rp_buffer_append(chart->out, pen ? RP_STR("Z\"/>") : RP_STR("\"/>"));
}

void
rp_chart_bar(rp_chart *chart, double x_low, double x_high, double y_low, double y_high,
             const char *style)
{
    const double left = x_of(chart, x_low), right = x_of(chart, x_high);
    const double top = y_of(chart, y_high), bottom = y_of(chart, y_low);
    if (!isfinite(x_low + x_high + y_low + y_high) || bottom - top < .05)
        return;
    rp_buffer_printf(chart->out, "<rect class=\"bar %s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
                     "height=\"%.1f\"/>", style, left + .5, top, RP_MAX(right - left - 1, .5),
                     bottom - top);
}

/* Shapes of about equal weight around 0 0; open ones (plus, cross) are strokes only. */
static const char *const mark_paths[RP_MARKS] = {
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0Z", /* circle */
    "M-3.6-3.6h7.2v7.2h-7.2Z",            /* square */
    "M0-5L5 0L0 5L-5 0Z",                 /* diamond */
    "M0-4.8L4.6 3.4H-4.6Z",               /* triangle */
    "M0 4.8L4.6-3.4H-4.6Z",               /* triangle, down */
    "M-4.6 0h9.2M0-4.6v9.2",              /* plus */
    "M-3.6-3.6l7.2 7.2M3.6-3.6l-7.2 7.2", /* cross */
    "M0-5L1.5-1.6L4.8-1.6L2.4 1L3.2 4.4L0 2.5L-3.2 4.4L-2.4 1L-4.8-1.6L-1.5-1.6Z", /* star */
    "M-4.2-4.2H4.2L-4.2 4.2H4.2Z",        /* hourglass */
    "M-4.8 0L-2.4-4.2H2.4L4.8 0L2.4 4.2H-2.4Z", /* hexagon */
};

static void
put_mark(rp_buffer *out, double x, double y, unsigned mark, bool hollow, const char *style)
{
    rp_buffer_printf(out, "<path class=\"mark%s %s\" transform=\"translate(%.1f %.1f)\" d=\"%s\"",
                     hollow ? " hollow" : "", style, x, y, mark_paths[mark % RP_MARKS]);
}

static void
put_whisker(rp_chart *chart, const rp_chart_point *p, bool upright, double low, double high)
{
    if (!(low <= high))
        return;
    rp_buffer_printf(chart->out, "<path class=\"whisker %s\" d=\"M%.1f %.1f%c%.1f\"/>", p->style,
                     upright ? x_of(chart, p->x) : x_of(chart, low),
                     upright ? y_of(chart, low) : y_of(chart, p->y), upright ? 'V' : 'H',
                     upright ? y_of(chart, high) : x_of(chart, high));
}

void
rp_chart_put_point(rp_chart *chart, const rp_chart_point *point)
{
    if (!isfinite(point->x) || !isfinite(point->y))
        return;
    put_whisker(chart, point, false, point->x_low, point->x_high);
    put_whisker(chart, point, true, point->y_low, point->y_high);
    put_mark(chart->out, x_of(chart, point->x), y_of(chart, point->y), point->mark, point->hollow,
             point->style);
    rp_buffer_append(chart->out, RP_STR("><title>"));
    rp_markup_text(chart->out, point->tip);
    rp_buffer_append(chart->out, RP_STR("</title></path>"));
}

void
rp_chart_rule_x(rp_chart *chart, double x, const char *label)
{
    const double at = x_of(chart, x);
    rp_buffer_printf(chart->out, "<path class=\"rule\" d=\"M%.1f %dV%d\"/>", at, TOP - 4,
                     HEIGHT - BOTTOM);
    put_label(chart, at, TOP - 7, "middle", "rule-label", label);
}

void
rp_chart_rule_y(rp_chart *chart, double y, const char *label)
{
    const double at = y_of(chart, y);
    rp_buffer_printf(chart->out, "<path class=\"rule\" d=\"M%d %.1fH%d\"/>", LEFT, at,
                     WIDTH - RIGHT + 3);
    put_label(chart, WIDTH - RIGHT + 8, at + 3.5, "start", "rule-label", label);
}

void
rp_chart_key(rp_buffer *out, unsigned mark, bool hollow, const char *style)
{
    rp_buffer_append(out, RP_STR("<svg class=\"key\" viewBox=\"-7 -7 14 14\" aria-hidden=\"true\">"));
    put_mark(out, 0, 0, mark, hollow, style);
    rp_buffer_append(out, RP_STR("/></svg>"));
}
