"""`reprise eval stream` and `make-stream` beyond single decisions: caches that are bounded, warm
or forget with time, cost and latency, runs that are cut short, and streams of every kind.

What could go wrong: an entry that answers after it expired or for another person, a cache
that holds more than it may, a resumed run that differs from a whole one, a Ctrl-C that loses
finished work, a sum that leaves something out. Expected values are computed here from the
definitions. Needs no encoder: vectors come from files.
"""
import json
import math
import random
import signal
import struct
import subprocess

import pytest

from test_eval import REPRISE, objects, run, stream  # noqa: F401 (the fixture)


def write_stream(folder, lines, vectors, name="s"):
    """The stream and its vectors, of length 1."""
    (folder / (name + ".jsonl")).write_text("".join(json.dumps(x) + "\n" for x in lines))
    dim = len(vectors[0])
    header = ("{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }"
              % (len(vectors), dim)).ljust(117) + "\n"
    rows = []
    for v in vectors:
        size = sum(x * x for x in v) ** .5
        rows.append(struct.pack("<%df" % dim, *(x / size for x in v)))
    (folder / (name + ".npy")).write_bytes(
        b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + b"".join(rows))
    return folder / (name + ".jsonl"), folder / (name + ".npy")


def decide(folder, lines, vectors, *options):
    """Tiers by request: exact, semantic or None; and the object that was printed."""
    path, npy = write_stream(folder, lines, vectors)
    told, = objects("stream", "--vectors", npy, "--gates", "off", "--policy",
                    "static:min_similarity=0.9", "--decisions-out", folder / "d", *options, path)
    said = [json.loads(x) for x in (folder / "d").read_text().splitlines()]
    return [x["tier"] for x in said], told


NEAR = [[1, 0, 0], [.99, .1, 0], [.98, .15, 0], [.97, .2, 0], [.96, .25, 0], [.95, .3, 0]]


def requests_of(prompts, **members):
    return [{"prompt": p, "answer_id": "x", **members} for p in prompts]


def test_entries_expire_by_the_clock_of_the_stream(tmp_path):
    lines = requests_of(["aa", "bb", "cc", "aa"])
    for line, time in zip(lines, (0, 99, 101, 102)):
        line["time"] = time
    tiers, told = decide(tmp_path, lines, NEAR[:3] + NEAR[:1], "--ttl", "100")
    # 0 answers 1; at 101 it is gone, 2 is stored and answers 3, whose own entry is gone too.
    assert tiers == [None, "semantic", None, "semantic"] and told["expired"] == 1
    for line in lines:
        del line["time"]
    tiers, told = decide(tmp_path, lines, NEAR[:3] + NEAR[:1], "--ttl", "100")
    assert tiers == [None, "semantic", "semantic", "exact"] and told["expired"] == 0
    tiers, _ = decide(tmp_path, lines, NEAR[:3] + NEAR[:1], "--ttl", "100", "--interval", "60")
    assert tiers == [None, "semantic", None, "semantic"]


def test_temporal_prompts_answer_for_ten_minutes(tmp_path):
    lines = requests_of(["what is the latest news", "the latest news, what is it",
                         "what is the latest news", "the news that is latest"])
    for line, time in zip(lines, (0, 599, 601, 602)):
        line["time"] = time
    tiers, _ = decide(tmp_path, lines, NEAR[:2] + NEAR[:1] + NEAR[3:4])
    assert tiers == [None, "semantic", None, "semantic"]
    tiers, _ = decide(tmp_path, lines, NEAR[:2] + NEAR[:1] + NEAR[3:4], "--volatile-ttl", "0")
    assert tiers[1:] == [None, None, None]


def test_personal_prompts_answer_the_same_user_only(tmp_path):
    lines = requests_of(["where is my order", "my order, where is it", "where is my order",
                         "where is my order"])
    lines[0]["user"] = lines[3]["user"] = "anna"
    lines[1]["user"] = "ben"
    tiers, told = decide(tmp_path, lines, NEAR[:2] + NEAR[:1] * 2)
    # Request 2, of nobody, replaces the entry of the same words; 3 is of anna again.
    assert tiers == [None, None, None, None] and told["withheld"] == 7
    lines[2]["user"] = "anna"
    tiers, _ = decide(tmp_path, lines, NEAR[:2] + NEAR[:1] * 2)
    assert tiers == [None, None, "exact", "exact"]
    tiers, _ = decide(tmp_path, requests_of(["my order", "order of mine"]), NEAR[:2])
    assert tiers == [None, "semantic"]  # without users all are one


def test_one_text_in_several_forms_is_similar_and_not_equal(tmp_path):
    lines = requests_of(["caf\u00e9\r\nopen?", "cafe\u0301\nopen?", " caf\u00e9\nopen? ", "caf\u00e9\r\nopen?"])
    path, _ = write_stream(tmp_path, lines, NEAR[:1] * 4)
    tiers, told = decide(tmp_path, lines, NEAR[:1] * 4)
    assert tiers == [None, "semantic", "semantic", "exact"]


KINDS = ["fifo", "lru", "lfu", "w-tinylfu", "s3fifo", "spherelfu", "cost", "scu"]


def test_a_bounded_cache_keeps_its_bound_and_a_large_one_forgets_nothing(stream):
    folder, lines, _ = stream
    common = ("stream", "--vectors", folder / "v.npy", "--policy", "static:min_similarity=0.8",
              folder / "s.jsonl")
    free, = objects(*common)
    rows = objects(*common, "--capacity", "10,5%,400", "--evict", "all")
    assert [(r["capacity"], r["evict"]) for r in rows] == [
        (n, k) for n in (10, 15, 400) for k in KINDS]
    for row in rows:
        assert row["entries_last"] == row["entries"] - row["evicted"] <= row["capacity"]
        assert max(w["entries"] for w in row["curve"]) <= row["capacity"]
        assert row["hits"] + row["exact_hits"] <= free["hits"] + free["exact_hits"]
        if row["capacity"] == 400:
            assert (row["hits"], row["wrong_hits"], row["evicted"]) == (
                free["hits"], free["wrong_hits"], 0)
        else:
            assert row["evicted"] > 0


def test_lru_is_a_plain_lru(stream):
    """The whole simulation beside ten lines of Python."""
    folder, lines, vectors = stream
    told, = objects("stream", "--vectors", folder / "v.npy", "--gates", "off", "--policy",
                    "static:min_similarity=0.8", "--capacity", "12", "--evict", "lru",
                    "--decisions-out", folder / "lru", folder / "s.jsonl")
    cache, hits = [], 0  # oldest use first
    for i, said in enumerate(map(json.loads, (folder / "lru").read_text().splitlines())):
        mine = [j for j in cache if lines[j]["scope"] == lines[i]["scope"]]
        same = [j for j in mine if lines[j]["prompt"] == lines[i]["prompt"]]
        near = max(mine, key=lambda j: sum(a * b for a, b in zip(vectors[i], vectors[j])), default=None)
        found = same[0] if same else near
        if same or (near is not None and
                    sum(a * b for a, b in zip(vectors[i], vectors[near])) >= .8):
            assert said["matched_i"] == found, said
            cache.remove(found)
            cache.append(found)
            hits += 1
        else:
            assert said["outcome"] == "miss", said
            cache = (cache + [i])[-12:]
    assert hits == told["hits"] + told["exact_hits"] > 30


def test_a_warm_cache_is_served_first_and_counted_later(stream):
    folder, *_ = stream
    common = ("stream", "--vectors", folder / "v.npy", "--policy", "static:min_similarity=0.8",
              "--decisions-out", folder / "w", folder / "s.jsonl")
    cold, = objects(*common)
    all_said = [json.loads(x) for x in (folder / "w").read_text().splitlines()]
    warm, = objects(*common, "--warm", "40%")
    said = [json.loads(x) for x in (folder / "w").read_text().splitlines()]
    assert warm["warm"] == 120 and warm["requests"] == cold["requests"] - 120 == 180
    assert [x.pop("warm", False) for x in said] == [True] * 120 + [False] * 180
    assert said == all_said  # the same decisions
    assert warm["hits"] == sum(x["tier"] == "semantic" for x in said[120:])
    assert warm["hit_rate"] > cold["hit_rate"]


def test_cost_and_latency_are_what_they_say(stream):
    folder, lines, _ = stream
    told, = objects("stream", "--vectors", folder / "v.npy", "--policy", "static:min_similarity=0.8",
                    "--labels", "audit:0.5", "--request-cost", ".01", "--core-hour-cost", "3600",
                    "--embed-ms", "20", "--upstream-ms", "500", folder / "s.jsonl")
    cost, latency, n = told["cost"], told["latency"], told["requests"]
    misses = n - told["hits"] - told["exact_hits"]
    assert cost["all"] == pytest.approx(n * .01)
    assert cost["upstream"] == pytest.approx(misses * .01)
    assert cost["audits"] == pytest.approx(told["audits"] * .01) and told["audits"] > 0
    # At 3600 an hour a second costs 1; embedding alone takes 20 ms of each semantic look-up.
    looked_up = n - told["exact_hits"]
    assert cost["compute"] >= looked_up * .02
    assert cost["saved"] == pytest.approx(
        cost["all"] - cost["upstream"] - cost["audits"] - cost["judge"] - cost["compute"])
    wrong = told["wrong_hits"] + told["exact_wrong"]
    assert cost["saved_right"] == pytest.approx(cost["saved"] - wrong * .01)
    assert cost["reduction"] == pytest.approx(cost["saved"] / cost["all"])
    assert latency["without_ms"] == {"mean": 500, "p50": 500, "p99": 500}
    assert latency["with_ms"]["p99"] >= 520
    assert latency["with_ms"]["mean"] >= (misses * 520 + told["hits"] * 20) / n * .999
    assert latency["p99_reduction"] == pytest.approx(1 - latency["with_ms"]["p99"] / 500)
    assert told["embed_us"]["p50"] == 20000


def test_a_judge_that_is_waited_for_takes_time_and_money(stream):
    folder, *_ = stream
    told, = objects("stream", "--vectors", folder / "v.npy", "--baseline", "judge", "--judge-error",
                    "0", "--judge-cost", ".5", "--judge-ms", "7000", folder / "s.jsonl")
    assert told["judge_calls"] > 0 and told["wrong_hits"] == 0 and told["judge_error"] == 0
    assert told["cost"]["judge"] == pytest.approx(told["judge_calls"] * .5)
    assert told["latency"]["with_ms"]["p99"] >= 7000


def test_the_curve_adds_up(stream):
    folder, *_ = stream
    told, = objects("stream", "--vectors", folder / "v.npy", "--policy", "static:min_similarity=0.7",
                    "--windows", "7", folder / "s.jsonl")
    curve = told["curve"]
    assert [w["end"] for w in curve] == [300 * (i + 1) // 7 for i in range(7)]
    for name in "requests", "exact_hits", "hits", "wrong_hits":
        assert sum(w[name] for w in curve) == told[name]
    assert curve[-1]["wrong_hits_so_far"] == told["wrong_hits"] > 0
    assert curve[-1]["error_so_far"] == told["error"]
    assert curve[-1]["error_so_far_95"] == told["error_95"]


def test_bounds_thresholds_and_orders_make_a_list_of_runs(stream):
    folder, *_ = stream
    common = ("stream", "--vectors", folder / "v.npy", folder / "s.jsonl")
    rows = objects(*common, "--policy", "verified", "--policy", "exact", "--policy",
                   "calibrated:error_max=0.03", "--bound-sweep", "--order", "shuffled,sorted",
                   "--orders", "2")
    runs = [(r["policy"], r["error_max"], r["order"], r["seed"]) for r in rows]
    orders = [("shuffled", 1), ("shuffled", 2), ("sorted", 1), ("sorted", 2)]
    assert runs == [("verified", e, *o) for e in (.005, .01, .02, .05) for o in orders] + [
        ("exact", None, *o) for o in orders] + [("calibrated:error_max=0.03", .03, *o) for o in orders]
    rows = objects(*common, "--threshold-sweep", ".25")
    assert [r["policy"] for r in rows] == ["static:min_similarity=%s" % t
                                           for t in ("0.5", "0.75", "0.999999")]
    rows = objects(*common, "--baseline", "all")
    assert len(rows) >= 15 and all(r["title"] for r in rows)
    gates = {r["baseline"]: r["gates"] for r in rows}
    assert gates["gptcache"] == gates["vcache"] == "off" and gates["default"] == "on"


def order_of(stream, which, seed=1):
    """Answers by position of a run in this order."""
    folder, *_ = stream
    told = folder / "told"
    run("stream", "--vectors", folder / "v.npy", folder / "s.jsonl", "--policy", "exact",
        "--order", which, "--seed", str(seed), "--decisions-out", told)
    lines = [json.loads(x)["answer_id"] for x in (folder / "s.jsonl").read_text().splitlines()]
    return [lines[json.loads(x)["i"]] for x in told.read_text().splitlines()], lines


def blocks_of(answers):
    """Stretches of equal answers, as their answers."""
    return [a for i, a in enumerate(answers) if i == 0 or a != answers[i - 1]]


def test_sorted_and_drifting_orders_are_what_they_say(stream):
    shuffled, lines = order_of(stream, "shuffled")
    by_answer, _ = order_of(stream, "sorted")
    drifting, _ = order_of(stream, "drifting")
    for order in shuffled, by_answer, drifting:
        assert sorted(order) == sorted(lines) and order != lines
    assert len(blocks_of(by_answer)) == len(set(lines))
    assert order_of(stream, "sorted", 2)[0] != by_answer
    assert order_of(stream, "drifting", 2)[0] != drifting
    assert order_of(stream, "drifting")[0] == drifting
    # Four phases: wherever an answer was first and last seen, no more than four such stretches
    # can be told apart, and within them answers are mixed.
    first = {a: i for i, a in reversed(list(enumerate(drifting)))}
    last = {a: i for i, a in enumerate(drifting)}
    cuts = [i for i in range(1, len(drifting)) if all(not first[a] < i <= last[a] for a in first)]
    assert len(cuts) >= 3 and len(blocks_of(drifting)) > 1.5 * len(set(lines))
    assert not [i for i in range(1, len(shuffled) - 1)
                if not set(shuffled[:i]) & set(shuffled[i:])]


def test_a_bound_is_judged_by_the_mean_and_by_the_worst_order(stream):
    folder, *_ = stream
    common = ["stream", "--vectors", folder / "v.npy", folder / "s.jsonl", "--policy", "verified-sigmoid",
              "--policy", "static", "--order", "shuffled,drifting", "--orders", "4",
              "--error-max", ".002,.9"]
    each, sums = objects(*common), objects(*common, "--bounds")
    assert [(x["policy"], x["order"], x["error_max"], x["orders"]) for x in sums] == [
        (p, o, e, 4) for p, e in (("verified-sigmoid", .002), ("verified-sigmoid", .9), ("static", None))
        for o in ("shuffled", "drifting")]
    for x in sums:
        mine = [y for y in each if all(y[k] == x[k] for k in ("policy", "order", "error_max"))]
        assert len(mine) == 4
        assert abs(x["error_mean"] - sum(y["error"] for y in mine) / 4) < 1e-12
        assert abs(x["hit_rate_mean"] - sum(y["hit_rate"] for y in mine) / 4) < 1e-12
        assert x["error_worst"] == max(y["error"] for y in mine)
        if x["error_max"] is None:
            assert x["mean_holds"] is x["orders_hold"] is None
            continue
        assert x["mean_holds"] == (x["error_mean"] <= x["error_max"])
        # By the definition of Clopper and Pearson: so many wrong ones or more are improbable.
        n, k = x["requests"], round(x["error_worst"] * x["requests"])
        if k:
            p, above = x["error_worst_low_999"], 0
            for i in range(k, n + 1):
                above += math.comb(n, i) * p ** i * (1 - p) ** (n - i)
            assert abs(above - .001) < 1e-6
        assert x["orders_hold"] == (x["error_worst_low_999"] <= x["error_max"])
    assert {x["mean_holds"] for x in sums if x["policy"] != "static"} == {True, False}
    text = run(*common, "--bounds").stdout
    assert text.count("FAIL") == sum(x["mean_holds"] is False or x["orders_hold"] is False for x in sums)
    assert text.count(": pass") + text.count("FAIL") == 4


# ---- in hindsight -------------------------------------------------------------------------


def most_hits(rows, bound, requests):
    """By the definition: rows of (score, right); equal scores are served together."""
    best = 0
    for limit, _ in rows:
        served = [right for score, right in rows if score >= limit]
        if served.count(False) <= bound * requests + 1e-9:
            best = max(best, len(served))
    return best / requests


def test_the_frontier_is_what_was_known_when_it_was_asked(tmp_path):
    # Two planes: 0, 1, 2, 5 and 3, 4. Cosines to the nearest earlier one of the same plane are
    # .95 (right), .99 (wrong), none, .9 (right), .97 (wrong; 2 is nearer than 0 and 1).
    def at(plane, degrees_cosine, turn=1):
        v = [0, 0, 0, 0]
        v[2 * plane] = degrees_cosine
        v[2 * plane + 1] = turn * (1 - degrees_cosine ** 2) ** .5
        return v
    lines = [{"prompt": p, "answer_id": a} for p, a in zip("abcdef", "xxyzzx")]
    vectors = [at(0, 1), at(0, .95), at(0, .99, -1), at(1, 1), at(1, .9), at(0, .9, -1)]
    path, npy = write_stream(tmp_path, lines, vectors)
    cosine = lambda i, j: sum(p * q for p, q in zip(vectors[i], vectors[j]))
    nearest = []
    for i in range(1, 6):
        score, j = max((cosine(i, j), j) for j in range(i))
        nearest.append((score, lines[i]["answer_id"] == lines[j]["answer_id"]))
    told = objects("stream", "--vectors", npy, "--gates", "off", "--frontier", "--error-max", ".2",
                   "--policy", "calibrated", "--policy", "static", path)
    fronts = {x["policy"]: x["frontiers"] for x in told if "frontiers" in x}
    for policy in fronts.values():
        got = {x["error_max"]: x["hit_rate"] for x in policy["nearest"]}
        for bound in got:
            assert abs(got[bound] - most_hits(nearest, bound, 6)) < 1e-9
    # Without outcomes to speak of the estimate falls as the cosine rises: the same order.
    assert [x["hit_rate"] for x in fronts["calibrated"]["risk"]] == [
        x["hit_rate"] for x in fronts["calibrated"]["nearest"]]
    assert [x["error_max"] for x in fronts["calibrated"]["risk"]] == [.005, .01, .02, .05, .2]
    assert fronts["static"]["risk"] is None
    run_of = {x["policy"]: x for x in told if "hit_rate" in x}
    mine = run_of["calibrated"]
    assert mine["frontier_hit_rate"] == most_hits(nearest, .2, 6) > 0
    assert abs(mine["kept"] - mine["hit_rate"] / mine["frontier_hit_rate"]) < 1e-9
    assert run_of["static"]["frontier_hit_rate"] is run_of["static"]["kept"] is None


def test_a_barred_candidate_counts_for_the_cosine_alone(tmp_path):
    # The nearest of the last one asks for another number; the next one may answer and is right.
    lines = [{"prompt": "How do I send %d letters to a friend%s" % (n, end), "answer_id": str(n)}
             for n, end in ((5, "?"), (6, "?"), (6, " now?"))]
    vectors = [[.99, .14], [.9, -.435], [1, 0]]
    path, npy = write_stream(tmp_path, lines, vectors)
    front, _ = objects("stream", "--vectors", npy, "--frontier", "--policy", "calibrated", path)
    fronts = front["frontiers"]
    # Nearest: 1 is .83 from 0, wrong; 2 is .99 from 0, wrong. Not barred: 2 is .9 from 1.
    assert [x["hit_rate"] for x in fronts["nearest"]] == [0] * 4
    for score in "gated", "risk":
        assert [x["hit_rate"] for x in fronts[score]] == [1 / 3] * 4
    assert abs(fronts["gated"][0]["min_similarity"] - .9 / (.9 ** 2 + .435 ** 2) ** .5) < 1e-6


def test_cosines_of_the_frontier_are_those_of_the_sweep(stream, tmp_path):
    folder, *_ = stream
    common = ["stream", "--vectors", folder / "v.npy", folder / "s.jsonl", "--frontier",
              "--order", "shuffled", "--orders", "2"]
    for gates, score in ("off", "nearest"), ("on", "gated"):
        told = objects(*common, "--sweep", "--policy", "calibrated", "--gates", gates)
        swept = [x["frontier"] for x in told if x["policy"] == "sweep"]
        fronts = [x["frontiers"][score] for x in told if "frontiers" in x]
        assert fronts == swept and len(fronts) == 2
        if gates == "off":
            assert [x["frontiers"]["gated"] for x in told if "frontiers" in x] == fronts
    # One pass serves all bounds, is kept, and needs nothing that the ordinary run needs.
    kept = ["--checkpoint", tmp_path / "kept", "--policy", "calibrated", "--bound-sweep"]
    first = objects(*common, *kept)
    assert sum("frontiers" in x for x in first) == 2 and len(first) == 10
    assert objects(*common, *kept, "--resume") == first
    without = [x for x in common if x != "--frontier"]
    plain = objects(*without, "--policy", "calibrated", "--bound-sweep")
    counted = "hits", "wrong_hits", "entries", "labels_known"
    assert [[x[c] for c in counted] for x in plain] == [
        [x[c] for c in counted] for x in first if "hit_rate" in x]
    text = run(*common, "--policy", "calibrated").stdout
    assert "kept" in text and "in hindsight, cut on the risk" in text


def without_times(row):
    row = {k: v for k, v in row.items() if not k.startswith(("decide_us", "search_us", "seconds", "cpu"))}
    row["latency"] = {k: v for k, v in row["latency"].items() if k == "without_ms"}
    row["cost"] = {k: v for k, v in row["cost"].items() if k in ("all", "upstream", "audits", "judge")}
    return {k: v for k, v in row.items() if k != "cost_saved"}


def test_a_resumed_run_is_the_whole_run(stream, tmp_path):
    folder, *_ = stream
    kept = tmp_path / "kept"
    common = ["stream", "--vectors", folder / "v.npy", folder / "s.jsonl", "--policy", "verified",
              "--order", "shuffled", "--orders", "3"]
    first = objects(*common, "--checkpoint", kept)
    # What is kept is printed again to the last digit of the times; what is new is run.
    again = objects(*common, "--policy", "calibrated", "--checkpoint", kept, "--resume")
    assert again[:3] == first and len(again) == 6
    assert list(map(without_times, again)) == list(map(
        without_times, objects(*common, "--policy", "calibrated")))
    # Other options, other results.
    other = objects(*common, "--label-delay", "9", "--checkpoint", kept, "--resume")
    assert other[0]["hits"] != first[0]["hits"] or other[0] != first[0]
    said = run(*common, "--checkpoint", kept, status=2).stderr
    assert "--resume" in said and said.count("\n") == 1
    kept.write_bytes(kept.read_bytes()[:-7] + b"damaged")
    assert objects(*common, "--policy", "calibrated", "--checkpoint", kept, "--resume")[:3] == first


def test_ctrl_c_keeps_what_is_finished(stream, tmp_path):
    folder, *_ = stream
    kept = tmp_path / "kept"
    command = [REPRISE, "eval", "stream", "--json", "--vectors", folder / "v.npy", folder / "s.jsonl",
               "--policy", "verified-global", "--order", "shuffled", "--orders", "1000",
               "--checkpoint", kept]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    first = [json.loads(process.stdout.readline()) for _ in range(2)]
    process.send_signal(signal.SIGINT)
    rest, said = process.communicate()
    assert process.returncode == 1 and "--resume" in said and said.count("\n") == 1, said
    finished = 2 + len(rest.splitlines())
    assert 2 <= finished < 1000
    again = subprocess.run(list(map(str, command[:-4])) + [
        "--orders", str(finished), "--checkpoint", str(kept), "--resume"], capture_output=True, text=True)
    rows = [json.loads(x) for x in again.stdout.splitlines()]
    assert rows[:2] == first and len(rows) == finished


# ---- make-stream --------------------------------------------------------------------------


def made(tmp_path, kind, text, *options):
    path = tmp_path / "in"
    path.write_text(text)
    return [json.loads(x) for x in run("make-stream", "--kind", kind, path, *options).stdout.splitlines()]


def jsonl(*objects_):
    return "".join(json.dumps(x) + "\n" for x in objects_)


def test_questions_share_their_first_gold_answer(tmp_path):
    rows = made(tmp_path, "qa", jsonl(
        {"question": "Capital of France?", "answers": ["Paris", "Paname"]},
        {"question": "Where is the Louvre?", "answers": ["paris"]},
        {"question": "2 + 3?", "answers": [5.0]}, {"question": "What is X?", "answer": "A letter."}),
        "--order", "file")
    assert [r["answer_id"] for r in rows] == ["paris", "paris", "5", "a letter."]
    assert rows[0]["answer"] == "Paris"


def test_prompts_are_answers_of_their_own(tmp_path):
    rows = made(tmp_path, "prompts", jsonl({"prompt": "Write a poem.", "source": "s1"},
                                           {"prompt": "write a poem.", "source": "s2"}), "--order", "file")
    assert [r["category"] for r in rows] == ["s1", "s2"]
    assert rows[0]["answer_id"] == rows[1]["answer_id"] == "write a poem."


def test_conversations_keep_their_history_or_stand_alone(tmp_path):
    text = jsonl({"history": [], "question": "Who is Bell?", "rewrite": "Who is Bell?"},
                 {"history": ["Who is Bell?"], "question": "Is he old?", "rewrite": "Is Bell old?"},
                 {"history": ["Who is Cole?"], "question": "Is he old?", "rewrite": "Is Cole old?"})
    rows = made(tmp_path, "conversation", text)
    assert [r["prompt"] for r in rows] == ["Who is Bell?", "Is he old?", "Is he old?"]
    assert [r.get("history") for r in rows] == [None, ["Who is Bell?"], ["Who is Cole?"]]
    assert len({r["answer_id"] for r in rows}) == 3
    rows = made(tmp_path, "conversation", text, "--standalone")
    assert [r["prompt"] for r in rows] == ["Who is Bell?", "Is Bell old?", "Is Cole old?"]
    assert not any("history" in r for r in rows)


def test_pairs_join_answers_also_through_others(tmp_path):
    path = tmp_path / "in"
    path.write_text("label\tcategory\ttext_a\ttext_b\n1\tc\ta\tb\n1\tc\td\te\n0\tc\ta\td\n1\tc\tb\tf\n"
                    "0\tc\tf\ta\n")
    done = run("make-stream", "--kind", "pairs", "--order", "file", path)
    rows = [json.loads(x) for x in done.stdout.splitlines()]
    assert {r["prompt"]: r["answer_id"] for r in rows} == {
        "a": "a", "b": "a", "d": "d", "e": "d", "f": "a"}
    assert "1 pairs with label 0" in done.stderr
    drawn = [json.loads(x) for x in run("make-stream", "--kind", "pairs", "--count", "400", "--zipf", "0",
                                        path).stdout.splitlines()]
    assert {r["answer_id"] for r in drawn} == {"a", "d"}


def test_a_column_of_a_log_is_chosen_by_name_or_number(tmp_path):
    text = "Date\tQuery\tScore\n2020\tmasks\t1\n2020\tMasks\t2\n"
    assert [r["answer_id"] for r in made(tmp_path, "log", text, "--column", "Query")] == ["masks"] * 2
    assert [r["prompt"] for r in made(tmp_path, "log", text, "--column", "2")] == ["Query", "masks", "Masks"]


def test_novel_requests_need_answers_of_their_own(tmp_path):
    text = "label\ttext\n" + "".join("%d\tq %d %d\n" % (i % 7, i, j) for i in range(7) for j in range(5))
    rows = made(tmp_path, "table", text, "--count", "20", "--novel", ".3")
    counts = sorted(sum(r["answer_id"] == str(i) for r in rows) for i in range(7))
    assert sum(counts) == 20 and max(counts[:6]) == 1  # six occur once, one is drawn
    # Seven of them would leave nothing to draw from: one answer over and over is no stream.
    said = run("make-stream", tmp_path / "in", "--count", "20", "--novel", ".35", status=2).stderr
    assert "7 answers" in said and said.count("\n") == 1


def test_a_trace_gives_times_and_costs(tmp_path):
    trace = tmp_path / "t.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 23:59:59.5000000,1000,100\n"
                     "2023-11-17 00:00:01.0,2000,0\n")
    rows = made(tmp_path, "log", "a\nb\nc\n", "--trace", trace, "--price", "2,10")
    assert [(r["time"], r["cost"]) for r in rows] == [(0, .003), (1.5, .004), (3, .003)]
    trace.write_text(jsonl({"timestamp": 500, "input_length": 10, "output_length": 20},
                           {"timestamp": 700, "input_length": 10, "output_length": 0}))
    rows = made(tmp_path, "log", "a\nb\n", "--trace", trace)
    assert [r["time"] for r in rows] == [0, .2]
    for bad in ("", "x\n", "2023-11-17 00:00:01.0,1,1\n2023-11-16 00:00:01.0,1,1\n", '{"timestamp":1}\n'):
        trace.write_text(bad)
        said = run("make-stream", "--kind", "log", tmp_path / "in", "--trace", trace, status=2).stderr
        assert "t.csv" in said and said.count("\n") == 1


@pytest.mark.parametrize("kind, text, says", [
    ("qa", '{"question":"a","answers":["b"]}\n{"question":\n', ":2:"),
    ("qa", '{"question":"a","answers":[]}\n', "answer"),
    ("qa", "[]\n", "object"),
    ("prompts", '{"source":"a"}\n', "empty"),
    ("conversation", '{"history":"x","question":"a","rewrite":"b"}\n', "history"),
    ("conversation", '{"history":[],"question":"a"}\n', "rewrite"),
    ("pairs", "a\tb\n", ":1:"),
    ("pairs", "label\tcategory\ttext_a\ttext_b\n1\tc\ta\n", ":2:"),
    ("pairs", "label\tcategory\ttext_a\ttext_b\n4.5\tc\ta\tb\n", "graded"),
    ("table", "label\ttext\nx\n", ":2:"),
    ("log", "", "no texts"),
])
def test_bad_sources_get_one_sentence(tmp_path, kind, text, says):
    path = tmp_path / "bad"
    path.write_text(text)
    said = run("make-stream", "--kind", kind, path, status=2).stderr
    assert says in said and said.count("\n") == 1


def test_every_kind_repeats_by_its_seed(tmp_path):
    draw = random.Random(2)
    text = jsonl(*({"question": "question %d" % i, "answers": [str(draw.randrange(30))]}
                   for i in range(200)))
    options = ("--count", "300", "--novel", ".05")
    first = made(tmp_path, "qa", text, *options, "--seed", "8")
    assert first == made(tmp_path, "qa", text, *options, "--seed", "8")
    assert first != made(tmp_path, "qa", text, *options, "--seed", "9")
