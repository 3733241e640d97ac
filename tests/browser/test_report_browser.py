"""The report in a real browser: it works without network and script, nothing lies over anything
else, and it can be read and reached.

Needs Chromium (Debian's package; or REPRISE_CHROMIUM names one) and is no part of the quick
suite: `python -m pytest tests/browser`. What could go wrong: an error on the console, a
request to somewhere, a chart that is not drawn, labels over labels or out of their panel, a page
wider than the screen, letters too pale, a control that the keyboard does not reach. Nothing here
waits for time: the page has no script, so what is measured after `load` is final."""
import json
import os
import random
import subprocess

import pytest

import chromium

REPRISE = os.environ.get("REPRISE_BINARY") or os.path.join(
    os.path.dirname(__file__), "..", "..", "build", "reprise")
EVIL = "</script><script>document.title='broken'</script>\"'><img src=x onerror=\"document.title=1\">\u202e"

# Boxes of texts in each chart that overlap by more than a pixel, or leave it.
OVERLAPS = """[...document.querySelectorAll('svg.chart')].flatMap((svg, at) => {
  const frame = svg.getBoundingClientRect();
  const boxes = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
  const bad = boxes.filter(([, b]) => b.left < frame.left - 1 || b.right > frame.right + 1 ||
                                      b.top < frame.top - 1 || b.bottom > frame.bottom + 1)
                   .map(([t]) => `${at}: "${t}" leaves the chart`);
  boxes.forEach(([t, a], i) => boxes.slice(i + 1).forEach(([u, b]) => {
    if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
        Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1)
      bad.push(`${at}: "${t}" over "${u}"`);
  }));
  return bad;
})"""

# Blocks that follow each other and still overlap; whatever is wider than the screen.
BLOCKS = """(() => {
  const bad = [];
  for (const parent of document.querySelectorAll('main, section, header, figure, .panels')) {
    const boxes = [...parent.children].map(e => [e, e.getBoundingClientRect()])
                                      .filter(([, b]) => b.width * b.height > 0);
    boxes.forEach(([e, a], i) => boxes.slice(i + 1).forEach(([f, b]) => {
      if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
          Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1)
        bad.push(`${e.tagName}.${e.className} over ${f.tagName}.${f.className}`);
    }));
  }
  for (const e of document.querySelectorAll('main *'))
    if (!e.closest('.scroll, svg') && e.getBoundingClientRect().right > innerWidth + 1)
      bad.push(`${e.tagName}.${e.className} is wider than the screen`);
  if (document.documentElement.scrollWidth > innerWidth) bad.push('the page scrolls sideways');
  return bad;
})()"""

# Cells of one row that lie over each other, in tables as the browser has set them.
CELLS = """[...document.querySelectorAll('table:not(.cards) tr')].flatMap(row => {
  const inner = [...row.children].map(c => { const r = document.createRange();
    r.selectNodeContents(c); return r.getBoundingClientRect(); }).filter(b => b.width > 0);
  return inner.flatMap((a, i) => i && a.left < inner[i - 1].right - 1 ? [row.textContent] : []);
}).slice(0, 3)"""

# The least contrast (WCAG 2) of any text, with an example.
CONTRAST = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = c => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = c => { const v = c.slice(0, 3).map(x => x / 255)
    .map(x => x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
    return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
  let worst = [99, ''];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.closest('title, style') || !e.getClientRects().length) continue;
    const style = getComputedStyle(e);
    let under = e, back = [0, 0, 0, 0];
    while (under && !back[3]) { back = rgb(getComputedStyle(under).backgroundColor); under = under.parentElement; }
    const a = light(rgb(e instanceof SVGElement ? style.fill : style.color)), b = light(back);
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < worst[0]) worst = [ratio, e.tagName + ' ' + e.textContent.slice(0, 40)];
  }
  return worst;
})()"""

SMALLEST = """Math.min(...[...document.querySelectorAll('svg.chart text')].map(t =>
  parseFloat(getComputedStyle(t).fontSize) * t.closest('svg').getBoundingClientRect().width /
  t.closest('svg').viewBox.baseVal.width))"""


def results(folder, evil=""):
    """Results of every kind, of six streams that need long, short, empty and full axes."""
    draw = random.Random(3)
    rows = []
    specs = ["exact", "static:min_similarity=.8", "static:min_similarity=.95", "dual", "verified",
             "verified-plus", "calibrated", "adaptive", "judge", "krites"]
    for at, stream in enumerate(["faq", "support tickets of a year", "sql", "empty", "full", "tiny"]):
        n = [1000, 20000, 8000, 500, 3000, 12][at]
        file = "s/%s%s.jsonl" % (stream, evil)
        for spec in specs:
            share = {"empty": 0, "full": 1}.get(stream, draw.random() ** 3)
            hits = int(n * share)
            wrong = int(hits * (1 if stream == "full" else draw.random() ** 4))
            curve = [{"requests": n // 4, "hits": hits // 4, "wrong_hits": wrong // 4}] * 4
            risks = [{"risk_low": r / 10, "risk_high": (r + 1) / 10, "risk_mean": (r + .5) / 10,
                      "count": 50, "wrong": min(50, int(5 * r * draw.uniform(.5, 1.5)))} for r in range(10)]
            row = {"file": file, "policy": spec, "gates": "on", "labels": "miss", "order": "file", "seed": 1,
                   "error_max": .01, "requests": n, "exact_hits": 0, "exact_wrong": 0, "hits": hits,
                   "wrong_hits": wrong, "hit_rate": share, "cost_all": 1, "cost_saved": share,
                   "cost": {"reduction": share, "saved_right": .1, "audits": 0, "judge": .01, "compute": .0001},
                   "latency": {"p99_reduction": -.01, "with_ms": {"p50": 3, "p99": 1010},
                               "without_ms": {"p50": 1000, "p99": 1000}},
                   "embed_us": {"p50": 2000, "p99": 9000}, "search_us_p50": 20, "search_us_p99": 60,
                   "decide_us_p50": 5, "decide_us_p99": 90, "upstream_calls": n - hits, "judge_calls": 0,
                   "audits": 0, "curve": curve, "calibration": [] if spec[:2] in ("ex", "st") else risks}
            rows.append({**row, "category": "*"})
            rows.append({**row, "category": "a category" + evil, "calibration": [], "curve": []})
        for gates in "on", "off":
            top = {"empty": 0}.get(stream, n)
            rows.append({"file": file, "policy": "sweep", "gates": gates, "requests": n, "possible": top,
                         "nearest_right": top // 2, "frontier": [
                             {"error_max": e, "hit_rate": .1, "error": e, "min_similarity": .9}
                             for e in (.005, .01, .02, .05)],
                         "thresholds": [{"min_similarity": t / 100, "hits": top * (100 - t) // 50,
                                         "wrong_hits": top * (100 - t) // 90} for t in range(50, 101)]})
    for name in "mqp", "negation":
        rows.append({"model": "all-MiniLM-L6-v2", "file": name + ".tsv", "category": "*", "n": 99, "positives": 40,
                     "auc": .8, "auc_95": [.7, .9], "ap": .7, "f1": .8, "threshold": .5, "precision": 1,
                     "recall": 1, "recall_far_1": 0, "recall_far_5": 0, "p_chr_auc": .4})
    for kind in "f32", "bf16", "int8":
        for tokens in 8, 16, 32, 64, 128, 256:
            rows.append({"class": kind, "tier": "avx2", "chosen": True, "batch": 1, "tokens": tokens,
                         "ms": tokens / 10 + draw.random(), "texts_per_second": 1000})
    for count in 10000, 100000, 1000000:
        rows.append({"count": count, "queries": 10, "search_us": count ** .5 / 5, "search_k8_us": 30,
                     "exact_us": count / 40, "recall_at_1": 1, "recall_at_8": 1, "bytes_per_vector": 2000})
    for kind in "bare", "stuffed":
        for policy in "static:min_similarity=0.8", "calibrated":
            for defence in "none", "gates", "collision", "all":
                rows.append({"record": "attack", "kind": kind, "policy": policy, "defence": defence,
                             "primed": False, "attempts": 100, "successes": 40, "asr": .4, "asr_low": .3,
                             "asr_high": .5})
    rows.append({"record": "detection", "score": "collision", "kind": "*", "min_similarity": .7, "attacks": 9,
                 "benign": 9, "auc": .97, "auc_low": .9, "auc_high": .99, "blocked_rate": .9,
                 "blocked_low": .8, "blocked_high": 1, "false_positive_rate": .05})
    path = folder / "results.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make(folder, evil=""):
    page = folder / "report.html"
    subprocess.run([REPRISE, "eval", "report", "--out", page, results(folder, evil)], check=True)
    return page


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report of everything; REPRISE_REPORT names one that is there already."""
    return os.environ.get("REPRISE_REPORT") or make(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def browser():
    program = chromium.find()
    if not program:
        pytest.skip("there is no Chromium here")
    running = chromium.Browser(program)
    yield running
    running.close()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_overlaps_or_complains_at_any_width(browser, page, width, dark):
    browser.open(page, width, dark)
    assert browser.complaints() == []
    assert browser.run("document.querySelectorAll('svg.chart').length") > 0
    assert browser.run("[...document.querySelectorAll('svg.chart')].every(s => s.querySelector('path, rect') "
                       "&& s.getBoundingClientRect().height > 100 && s.getAttribute('aria-label'))")
    for details in (False, True):  # tables behind charts closed, then open
        browser.run("document.querySelectorAll('details').forEach(d => d.open = %s)" % str(details).lower())
        assert browser.run(OVERLAPS) == []
        assert browser.run(BLOCKS) == []
        assert browser.run(CELLS) == []
    ratio, example = browser.run(CONTRAST)
    assert ratio >= 4.5, example
    assert browser.run(SMALLEST) >= 9.5  # pixels


def test_the_switch_beats_the_system(browser, page):
    def paper(click=None):
        if click:
            browser.run("document.getElementById('theme-%s').click()" % click)
        return browser.run("getComputedStyle(document.body).backgroundColor")

    browser.open(page, 768, dark=False)
    light, dark = paper(), paper("dark")
    assert light != dark and paper("light") == light
    browser.open(page, 768, dark=True)
    assert paper("system") == dark and paper("light") == light


def test_everything_is_reached_by_keyboard_and_the_focus_is_seen(browser, page):
    browser.open(page, 768)
    wanted = browser.run("document.querySelectorAll('a, summary, .scroll').length") + 1  # one radio
    hidden = browser.run("[...document.querySelectorAll('details:not([open]) .scroll')].length")
    reached = set()
    for _ in range(wanted + 5):
        browser.key("Tab")
        at = browser.run("(() => { const e = document.activeElement, s = getComputedStyle(e);"
                         "return [[...document.querySelectorAll('*')].indexOf(e), e.tagName,"
                         "parseFloat(s.outlineWidth) > 0 && s.outlineStyle !== 'none'] })()")
        if at[1] != "BODY":
            assert at[2], at  # an outline
            reached.add(at[0])
    assert len(reached) >= wanted - hidden


def test_what_hostile_names_say_is_not_run(browser, tmp_path):
    browser.open(make(tmp_path, EVIL), 768)
    assert browser.complaints() == []
    assert browser.run("document.title").startswith("What the cache answers")
    assert browser.run("document.querySelectorAll('script, img').length") == 0
    assert browser.run("document.body.innerText.includes('onerror')")
