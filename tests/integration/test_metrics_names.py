"""/metrics has the names that dashboards are built on, and they count what they say.

What could go wrong: a name of the agreed table that is missing, of another type, or without
its labels; money that is counted for a model without a price, or counted twice.
"""
import math
import re

import pytest

from proxy import Admin, wait_until

# The table that parts of the project have agreed on: name, type, labels.
AGREED = [
    ("reprise_cache_requests_total", "counter", {"route", "tier", "outcome", "api"}),
    ("reprise_cache_write_skipped_total", "counter", {"reason"}),
    ("reprise_cache_gate_rejections_total", "counter", {"gate"}),
    ("reprise_stage_duration_seconds", "histogram", {"stage"}),
    ("reprise_similarity", "histogram", {"outcome"}),
    ("reprise_error_rate_estimate", "gauge", {"route"}),
    ("reprise_error_rate_bound", "gauge", {"route"}),
    ("reprise_error_rate_lower", "gauge", {"route"}),
    ("reprise_error_rate_upper", "gauge", {"route"}),
    ("reprise_audits_total", "counter", {"verdict"}),
    ("reprise_tokens_total", "counter", {"kind", "direction"}),
    ("reprise_cost_usd_total", "counter", {"kind"}),
    ("reprise_entries", "gauge", set()),
    ("reprise_memory_bytes", "gauge", {"use"}),
    ("reprise_evictions_total", "counter", {"reason"}),
    ("reprise_entry_age_seconds", "histogram", set()),
    ("reprise_singleflight_waiters_total", "counter", {"outcome"}),
    ("reprise_upstream_requests_total", "counter", {"status_class"}),
    ("reprise_build_info", "gauge", {"version", "model", "fingerprint"}),
]
STAGES = {"parse", "embed", "search", "gate", "policy", "judge", "replay", "upstream"}


@pytest.fixture
def busy(start, upstream, encoder):
    """A server that has met everything the table counts."""
    proxy = start("lookup_deadline: 60s\nprices: [ { model: 'gpt-*', input: 2.5, output: 10 } ]\n"
                  "routes: [ { name: main, match: { model: 'gpt-test' }, cache: { policy: "
                  "'verified:error_max=0.02' } }, { name: gates, match: { model: 'gpt-gates' }, "
                  "cache: { policy: 'static:min_similarity=0.5' } } ]", model=encoder)
    proxy.accept()
    proxy.chat("How do I reset my PIN?")
    proxy.wait_for_hit("How do I reset my PIN?")
    proxy.chat("How do I reset my PIN?", model="gpt-gates")
    proxy.wait_for_metric("reprise_vectors", 2)
    proxy.chat("Will it rain?", headers={"X-Test": "finish=length"})  # not kept
    # A neighbor that a gate turns down, and one that is explored: its answer differs.
    assert proxy.chat("How do I not reset my PIN?", model="gpt-gates").reason == "gate-negation"
    proxy.chat("How can I reset my PIN?")
    wait_until(lambda: proxy.metric("reprise_audits_total") >= 1, "never an audit")
    return proxy


def test_every_agreed_name_is_there_with_its_type_and_labels(busy):
    text = Admin(busy).call("GET", "/metrics", token=False).body.decode()
    for name, kind, labels in AGREED:
        assert "# TYPE %s %s\n" % (name, kind) in text, name
        assert re.search(r"^# HELP %s \S" % name, text, re.M), name
        suffix = "_bucket" if kind == "histogram" else ""
        samples = re.findall(r"^%s%s(?:\{(.*)\})? (\S+)$" % (name, suffix), text, re.M)
        if name == "reprise_singleflight_waiters_total" and not samples:
            continue  # nobody has waited yet
        assert samples, name
        for found, value in samples:
            seen = set(re.findall(r'(\w+)="', found)) - {"le"}
            assert seen == labels, (name, found)
            float(value)
    assert STAGES <= set(re.findall(r'reprise_stage_duration_seconds_count\{stage="(\w+)"', text))


def test_buckets_reach_from_ten_microseconds_to_a_minute(busy):
    text = Admin(busy).call("GET", "/metrics", token=False).body.decode()
    limits = [float(x) for x in re.findall(r'stage="embed",le="([^"+]+)"', text)]
    assert limits == sorted(limits) and limits[0] <= 1e-5 and limits[-1] >= 60
    steps = [float(x) for x in re.findall(r'reprise_similarity_bucket\{outcome="miss",le="([^"+]+)"', text)]
    assert steps[0] == 0.5 and steps[-1] == 1
    assert all(abs(b - a - 0.02) < 1e-9 for a, b in zip(steps, steps[1:]))


def test_money_is_counted_once_and_only_with_a_price(busy):
    admin = Admin(busy)
    before = admin.metrics()

    def spent(kind):
        return admin.metrics()['reprise_cost_usd_total{kind="%s"}' % kind] - \
            before['reprise_cost_usd_total{kind="%s"}' % kind]

    once = (11 * 2.5 + 7 * 10) / 1e6  # of the test's upstream
    assert busy.chat("Where is the moon?").cache == "miss"
    wait_until(lambda: spent("billed") + spent("audit") > 0, "never billed")
    assert math.isclose(spent("billed") + spent("audit"), once, rel_tol=1e-6)
    assert spent("saved") == 0
    assert busy.wait_for_hit("Where is the moon?").cache == "hit"
    wait_until(lambda: spent("saved") > 0, "never saved")
    assert math.isclose(spent("saved"), once, rel_tol=1e-6)
    assert math.isclose(spent("billed") + spent("audit"), once, rel_tol=1e-6)
    busy.chat("Where is the moon?", model="other")  # has no price
    assert busy.wait_for_hit("Where is the moon?", model="other").cache == "hit"
    assert math.isclose(spent("saved"), once, rel_tol=1e-6)
    assert spent("judge") == 0


def test_of_an_audit_the_part_that_learning_cost_is_counted_apart(start, encoder, upstream):
    """Each audit stands for four would-be hits: a quarter of its call would have been made
    anyway."""
    proxy = start("lookup_deadline: 60s\nseed: 5\nprices: [ { model: '*', input: 2.5, output: 10 } ]\n"
                  "routes: [ { match: { model: '*' }, cache: { policy: "
                  "'adaptive:audit=0.25,min_similarity=0.9' } } ]", model=encoder)
    proxy.accept()
    once = (11 * 2.5 + 7 * 10) / 1e6

    def spent(kind):
        return Admin(proxy).metrics().get('reprise_cost_usd_total{kind="%s"}' % kind, 0)

    hits = calls = 0
    for thing in ("garden", "kitchen", "bicycle", "carpet", "window", "mirror", "sofa", "camera",
                  "piano", "boat", "oven", "fridge", "tent", "lamp", "hat", "jacket", "violin",
                  "fountain", "chimney", "gutter", "mattress", "helmet", "saddle", "kettle"):
        proxy.chat("How do I clean a %s?" % thing)
        proxy.wait_for_metric("reprise_vectors", calls + 1)
        calls += 1
        again = proxy.chat("How can I clean a %s?" % thing)
        hits += again.cache == "hit"
        calls += again.cache == "miss"
        if again.cache == "miss":
            proxy.wait_for_metric("reprise_vectors", calls)
    audits = upstream.count() - 24
    assert hits and audits, (hits, audits)
    wait_until(lambda: math.isclose(spent("billed") + spent("audit"), (24 + audits) * once,
                                    rel_tol=1e-6), "not all was counted")
    assert math.isclose(spent("audit"), audits * once * 0.75, rel_tol=1e-6)


def test_bound_and_audits_are_those_of_the_route(busy):
    seen = Admin(busy).metrics()
    assert seen['reprise_error_rate_bound{route="main"}'] == 0.02
    # The explored neighbor answered something else. It would never have been served (the
    # policy knew nothing about it), so nothing is estimated from it.
    assert seen['reprise_audits_total{verdict="wrong"}'] >= 1
    assert math.isnan(seen['reprise_error_rate_estimate{route="main"}'])


def test_a_policy_without_a_bound_claims_none(start):
    proxy = start("routes: [ { name: main, cache: { policy: static } } ]")
    bounds = {name for name in Admin(proxy).metrics() if name.startswith("reprise_error_rate_bound")}
    assert bounds == {'reprise_error_rate_bound{route="default"}'}  # the shipped policy has one


def test_a_folders_name_cannot_break_the_format(start, encoder, tmp_path):
    folder = tmp_path / 'a "model" of\\mine'
    folder.symlink_to(encoder)
    proxy = start(model="'%s'" % folder)
    text = Admin(proxy).call("GET", "/metrics", token=False).body.decode()
    assert 'model="a \\"model\\" of\\\\mine"' in text
    for line in text.splitlines():
        assert re.fullmatch(r'#.*|[a-z_]+(\{([a-z_]+="([^"\\]|\\.)*",?)*\})? [-+.0-9a-zA-Z]+', line), line
