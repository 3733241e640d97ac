"""`reprise eval report` shows what it was given, and nothing of it becomes markup.

What could go wrong: a number on the page is not the one that was measured, a chart without
data fails instead of saying so, or a name in the data (they are strangers' texts) closes an
element. The page is read by Python's own HTML and XML parsers. No encoder, no browser."""
import html.parser
import json
import os
import re
import subprocess
import xml.etree.ElementTree

import pytest

REPRISE = os.environ.get("REPRISE_BINARY") or os.path.join(
    os.path.dirname(__file__), "..", "..", "build", "reprise")
VOID = {"meta", "link", "input", "br"}
EVIL = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202egnp\x00\x1b&amp;"


class Page(html.parser.HTMLParser):
    """Elements and texts; complains when an end tag does not fit."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.text, self.attributes = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text.append(data)


def report(folder, *arguments, status=0):
    done = subprocess.run([REPRISE, "eval", "report", "--out", folder / "r.html", "--json-out",
                           folder / "r.json", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    if status:
        return done.stderr
    text = (folder / "r.html").read_text(encoding="utf-8")
    check(text)
    return text, json.loads((folder / "r.json").read_text(encoding="utf-8"))


def check(text):
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert not {"script", "img", "iframe", "object", "form"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    # Nothing is fetched: the only address outside of a fragment is the empty icon.
    links = [value for name, value in page.attributes if name in ("href", "src", "action")]
    assert all(link.startswith("#") or link == "data:," for link in links)
    assert "default-src 'none'" in text and "url(" not in text and "@import" not in text
    for svg in re.findall(r"<svg.*?</svg>", text, re.S):
        xml.etree.ElementTree.fromstring(svg)
    for element in "main", "nav", "header", "h1":
        assert page.tags.count(element) == 1
    assert page.tags.count("section") == len(re.findall(r"<section id=\"\w+\" aria-labelledby", text))
    return page


def write(folder, name, *objects):
    (folder / name).write_text("".join(json.dumps(x) + "\n" for x in objects))
    return folder / name


def policy_row(hits, wrong, requests=1000, **more):
    return {"file": "streams/faq.jsonl", "model": "m", "gates": "on", "labels": "miss",
            "policy": "static:min_similarity=.9", "order": "file", "seed": 1, "category": "*",
            "requests": requests, "exact_hits": 0, "exact_wrong": 0, "hits": hits,
            "wrong_hits": wrong, "hit_rate": hits / requests, "cost_all": 2.0,
            "cost_saved": .002 * hits, "calibration": [], **more}


def sweep_row(**more):
    return {"file": "streams/faq.jsonl", "gates": "off", "policy": "sweep", "order": "file", "seed": 1,
            "category": "*", "requests": 1000, "possible": 600, "nearest_right": 450,
            "thresholds": [{"min_similarity": t / 100, "hits": 10 * (100 - t),
                            "wrong_hits": 4 * (100 - t)} for t in range(50, 101)],
            "frontier": [{"error_max": .01, "hit_rate": .02, "error": .008, "min_similarity": .98}],
            **more}


def table(document, section, name):
    for part in document["sections"]:
        if part["id"] == section:
            return next(t["rows"] for t in part["tables"] if t["id"] == name)


ALL = [
    policy_row(400, 3), policy_row(100, 0, policy="calibrated", calibration=[
        {"risk_low": 0, "risk_high": .1, "risk_mean": .05, "count": 40, "wrong": 3}],
        curve=[{"end": 500, "requests": 500, "hits": 40, "wrong_hits": 0},
               {"end": 1000, "requests": 500, "hits": 60, "wrong_hits": 0}],
        cost={"reduction": .1, "all": 2, "saved_right": .2, "audits": 0, "judge": 0, "compute": .001},
        latency={"p99_reduction": .02, "with_ms": {"p50": 1, "p99": 9},
                 "without_ms": {"p50": 2, "p99": 10}}),
    policy_row(30, 3, category="b", requests=300), sweep_row(),
    {"model": "m", "file": "p.tsv", "category": "*", "n": 9, "positives": 4, "auc": .75,
     "auc_95": [.5, .9], "ap": .7, "f1": .8, "threshold": .5, "precision": 1, "recall": 1,
     "recall_far_1": 0, "recall_far_5": 0, "p_chr_auc": .4},
    {"class": "f32", "tier": "avx2", "chosen": True, "batch": 1, "tokens": 16, "ms": 2.5,
     "texts_per_second": 400},
    {"count": 10000, "queries": 10, "search_us": 22, "search_k8_us": 30, "exact_us": 300,
     "recall_at_1": 1, "recall_at_8": 1, "bytes_per_vector": 2000},
    {"file": "a/faq.jsonl", "policy": "calibrated", "gates": "on", "order": "sorted", "orders": 20,
     "requests": 900, "error_max": .01, "hit_rate_mean": .3, "error_mean": .011, "error_worst": .02,
     "error_worst_low_999": .009, "mean_holds": False, "orders_hold": True},
    {"file": "a/faq.jsonl", "policy": "calibrated", "gates": "on", "order": "file", "requests": 900,
     "frontiers": {"risk": [{"error_max": .01, "hit_rate": .4}], "gated": None, "nearest": [
         {"error_max": .01, "hit_rate": .25}, {"error_max": .05, "hit_rate": .5}]}},
]


def test_the_numbers_are_those_that_were_given(tmp_path):
    text, said = report(tmp_path, write(tmp_path, "all.jsonl", *ALL))
    glance, = table(said, "glance", "glance")
    assert said["policy"] == "calibrated"
    assert glance["hit_rate"] == .1 and glance["hit_rate_verdict"] == "fail"
    assert glance["error"] == 0 and glance["error_verdict"] == "pass"
    assert abs(glance["error_interval"][1] - (1 - .025 ** .001)) < 1e-9  # Clopper-Pearson, k = 0
    assert glance["cost_reduction"] == .1 and glance["p99_reduction_verdict"] == "fail"
    static, calibrated = table(said, "policies", "policies")
    assert static["policy"] == "static .9" and static["group"] == "faq"
    assert (static["hits"], static["wrong_hits"], static["requests"]) == (400, 3, 1000)
    assert static["hit_rate_verdict"] == "pass" and static["error_verdict"] == "pass"
    assert static["hit_error"] == 3 / 400
    assert table(said, "frontier", "frontier")[0]["hits_at_error_1"] == .02
    assert table(said, "time", "time")[-1]["hit_rate"] == .1
    assert table(said, "pairs", "pairs")[0]["auc_interval"] == [.5, .9]
    # Ten more of each 24 below: thresholds become bins again.
    bins = table(said, "neighbours", "neighbours")
    assert [(b["right"], b["wrong"]) for b in bins] == [(30, 20)] * 10
    assert all(t in text for t in ("40.0\u202f%", "0.30\u202f%", "[0.06, 0.87]", ">pass<", ">fail<"))
    charts = len(re.findall(r"<svg class=\"chart\"", text))
    assert charts == 7  # frontier, histogram, worth, calibration, time, encoder, index
    assert len(re.findall(r"<svg class=\"chart\"[^>]* role=\"img\" aria-label=\"[^\"]{20,}\"", text)) == 7


def test_bounds_have_their_verdicts_and_frontiers_what_was_kept(tmp_path):
    online = policy_row(200, 2, policy="calibrated", file="a/faq.jsonl", error_max=.01, kept=.5)
    text, told = report(tmp_path, write(tmp_path, "all", online, *ALL, {
        **ALL[-1], "seed": 2, "frontiers": {"risk": [{"error_max": .01, "hit_rate": .2}]}}))
    row, = table(told, "bounds", "bounds")
    assert row["error_mean"] == .011 and row["error_mean_verdict"] == "fail"
    assert row["error_worst_low"] == .009 and row["error_worst_low_verdict"] == "pass"
    assert row["group"] == "faq" and row["orders"] == 20
    rows = {x["what"]: x for x in table(told, "bounds", "estimates")}
    assert rows["estimate of the risk"]["at_error_1"] == pytest.approx(.3)
    assert "at_error_5" not in rows["estimate of the risk"] or rows[
        "estimate of the risk"]["at_error_5"] is None
    assert "cosine, gates" not in rows and rows["online: hits"]["at_error_1"] == .2
    assert rows["online: share kept"]["at_error_1"] == .5


def test_attacks_stand_by_kind_whatever_their_order(tmp_path):
    rows = [{"record": "attack", "kind": kind, "policy": policy, "defence": defence, "primed": False,
             "attempts": 100, "successes": 40, "asr": asr, "asr_low": asr - .1, "asr_high": asr + .1}
            for policy in ("static:min_similarity=0.80", "calibrated")
            for kind in ("stuffed", "climbed") for defence, asr in (("none", .4), ("collision", .01))]
    _, said = report(tmp_path, write(tmp_path, "r.jsonl", *rows))
    shown = table(said, "attacks", "attacks")
    assert [(r["group"], r["policy"]) for r in shown] == [
        ("stuffed", "static 0.80"), ("stuffed", "calibrated"),
        ("climbed", "static 0.80"), ("climbed", "calibrated")]
    assert all(r["asr_none"] == .4 and r["asr_none_verdict"] == "fail" and r["asr_gates"] is None and
               r["asr_collision_verdict"] == "pass, not certain" for r in shown)


def test_several_seeds_are_one_policy_with_its_range(tmp_path):
    rows = [policy_row(hits, wrong, seed=seed, order="shuffled")
            for seed, (hits, wrong) in enumerate([(100, 0), (200, 30), (300, 15)])]
    _, said = report(tmp_path, write(tmp_path, "r.jsonl", *rows))
    row, = table(said, "policies", "policies")
    assert row["requests"] == 3000 and row["setting"] == "shuffled, mean of 3"
    assert abs(row["hit_rate"] - .2) < 1e-12 and row["hit_rate_interval"] == [.1, .3]
    assert abs(row["error"] - .015) < 1e-12 and row["error_interval"] == [0, .03]
    assert row["error_verdict"] == "pass, not certain"


@pytest.mark.parametrize("at", range(len(ALL)))
def test_any_subset_makes_a_page_that_says_what_is_missing(tmp_path, at):
    _, said = report(tmp_path, write(tmp_path, "one.jsonl", ALL[at]))
    missing = [s["id"] for s in said["sections"] if s.get("missing")]
    assert len(said["sections"]) == 14 and "attacks" in missing and len(missing) >= 5


def test_what_hostile_names_say_stays_text(tmp_path):
    evil = json.loads(json.dumps(ALL))
    for row in evil:
        for key, value in row.items():
            if isinstance(value, str) and value not in ("*", "sweep"):
                row[key] = value + EVIL
    about = {"about": {"command": ["reprise", EVIL], "commit": EVIL, "cpu": EVIL, "started": EVIL,
                       "kernels": EVIL, "files": [{"path": EVIL, "sha256": EVIL, "bytes": 1}]}}
    text, _ = report(tmp_path, write(tmp_path, "evil.jsonl", about, *evil))
    assert "alert(1)" in text  # it is there, as text
    assert "<img" not in text and "<script" not in text.lower()
    assert "\u202e" not in text and "\x00" not in text and "\x1b" not in text


def decisions(folder):
    stream = write(folder, "s.jsonl", *({"prompt": p, "answer_id": str(i)} for i, p in enumerate(
        ["pay the bill", "pay the " + EVIL.replace("\x00", "") + "bill", "never seen"])))
    made = write(folder, "d.jsonl",
                 {"i": 1, "policy": "static", "outcome": "hit", "tier": "semantic", "entry_i": 0,
                  "matched_i": 0, "similarity": .97, "right": False},
                 {"i": 2, "policy": "static", "outcome": "hit", "tier": "semantic", "entry_i": 0,
                  "matched_i": 0, "similarity": .96, "right": True},
                 {"i": 2, "policy": "exact", "outcome": "miss", "tier": None, "entry_i": None,
                  "matched_i": None, "similarity": .1, "right": None})
    return "--decisions", made, "--stream", stream


def test_prompts_are_shown_only_when_asked_for(tmp_path):
    results = write(tmp_path, "all.jsonl", *ALL)
    text, said = report(tmp_path, *decisions(tmp_path), results)
    row, = table(said, "wrong", "wrong")
    assert row["asked"] is None and row["similarity"] == .97 and "pay the" not in text
    text, said = report(tmp_path, *decisions(tmp_path), "--show-texts", results)
    row, = table(said, "wrong", "wrong")
    assert row["answered_as"] == "pay the bill" and row["asked"].startswith("pay the </script>")
    assert "<mark>" in text and "pay the" in text


def test_bad_files_get_one_sentence(tmp_path):
    good = write(tmp_path, "good.jsonl", ALL[0])
    (tmp_path / "bad.jsonl").write_text('{"policy": "x"}\n{"policy": \n')
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "array.jsonl").write_text("[]\n")
    other = write(tmp_path, "other.jsonl", {"i": 1})
    far = write(tmp_path, "far.jsonl", {"i": 99, "policy": "s", "tier": "semantic", "matched_i": 0,
                                        "similarity": .9, "right": False})
    stream = decisions(tmp_path)[3]
    for arguments, says in [
            ([tmp_path / "bad.jsonl"], "bad.jsonl:2:"), ([tmp_path / "empty.jsonl"], "no result"),
            ([tmp_path / "array.jsonl"], "array.jsonl:1:"), ([other], "no result"),
            ([tmp_path / "none.jsonl"], "none.jsonl"), ([tmp_path], str(tmp_path)), ([], "at least"),
            (["--policy", "unheard-of", good], "unheard-of"),
            (["--stream", stream, good], "--stream"),
            (["--decisions", far, "--stream", stream, "--show-texts", good], "line 99")]:
        said = report(tmp_path, *arguments, status=2)
        assert says in said and said.count("\n") == 1, said


def test_recorded_results_show_their_command_and_hashes(tmp_path):
    about = {"about": {"command": ["reprise", "eval", "stream", "--policy", "a b"], "commit": "abc",
                       "cpu": "a processor", "cores": 2, "kernels": "plain", "seconds": 1.5,
                       "started": "2026-01-01T00:00:00Z",
                       "files": [{"path": "faq.jsonl", "sha256": "0" * 64, "bytes": 5}]}}
    text, said = report(tmp_path, write(tmp_path, "r.jsonl", about, ALL[0]))
    run, = table(said, "runs", "runs")
    assert run["command"] == "reprise eval stream --policy 'a b'" and run["commit"] == "abc"
    data, = table(said, "runs", "data")
    assert data == {"path": "faq.jsonl", "bytes": 5, "sha256": "0" * 64}
    assert "0" * 64 in text and said["report"] == "reprise-eval/1" and said["commit"]
