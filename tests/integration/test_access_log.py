"""One line a request, with every stage, and nothing that anybody said.

What could go wrong: a request without a line, a stage whose time is missing, a prompt, reply or
key in a line, a line that is no JSON because of what a client sent.
"""
import json
import re

import pytest

from proxy import wait_until

LOOSE = "lookup_deadline: 60s\nroutes: [ { name: main, match: { model: '*' }, cache: { policy: " \
        "'static:min_similarity=0.8' } } ]"


def line_of(proxy, reply):
    """The line of this reply; lines are written a moment later."""
    def found():
        with open(proxy.access_log) as file:
            return [line for line in file if reply.headers["x-reprise-request"] in line
                    and line.endswith("\n")]
    wait_until(found, "never in the log")
    assert len(found()) == 1
    return json.loads(found()[0])


def test_each_stage_has_its_time(start, encoder):
    proxy = start(LOOSE, model=encoder)
    proxy.accept()
    # Long enough that each stage takes its microseconds, and near enough to be compared.
    words = " ".join("the %s of the old harbour" % word for word in
                     ("lighthouse", "keeper", "boats", "nets", "walls", "gulls", "ropes", "storms") * 4)
    first = proxy.chat("How do I describe " + words)
    miss = line_of(proxy, first)
    proxy.wait_for_metric("reprise_vectors", 1)
    second = proxy.chat("How can I describe " + words)
    assert second.cache == "hit"
    semantic = line_of(proxy, second)
    assert miss["outcome"] == "miss" and miss["upstream_status"] == miss["status"] == 200
    assert miss["upstream_first_us"] > 0 and miss["parse_us"] > 0 and miss["embed_us"] > 0
    assert "replay_us" not in miss and "entry" not in miss
    assert semantic["outcome"] == "hit" and semantic["tier"] == "semantic"
    assert semantic["entry"] == second.headers["x-reprise-entry"]
    assert abs(semantic["similarity"] - float(second.headers["x-reprise-similarity"])) < 1e-4
    # A stage below a microsecond is left out; these take tens and more.
    for stage in ("parse_us", "embed_us", "gate_us"):
        assert 0 < semantic[stage] <= semantic["us"], (stage, semantic)
    known = {"parse_us", "exact_us", "embed_us", "search_us", "load_us", "gate_us", "policy_us",
             "verify_us", "judge_us", "replay_us", "upstream_first_us"}
    assert {name for name in semantic if name.endswith("_us")} <= known
    assert "upstream_status" not in semantic and "upstream_first_us" not in semantic
    assert (semantic["route"], semantic["api"], semantic["method"]) == ("main", "chat", "POST")


def test_every_outcome_has_a_line(proxy):
    replies = {"miss": proxy.chat("Hello"), "hit": proxy.chat("Hello"),
               "refresh": proxy.chat("Hello", headers={"Cache-Control": "no-cache"}),
               "bypass": proxy.call("GET", "/v1/models")}
    for outcome, reply in replies.items():
        row = line_of(proxy, reply)
        assert (row["outcome"], row["status"]) == (outcome, 200)
        assert row["us"] >= 0 and row["client"] == "127.0.0.1"
    failed = proxy.chat("Bad", headers={"X-Reprise-TTL": "soon"})
    assert line_of(proxy, failed)["status"] == 400


def test_hostile_paths_and_names_stay_one_line_of_json(proxy):
    for path in ("/v1/%22%7d%0a", "/v1/\\u0000", "/v1/{}[]\"", "/v1/" + "x" * 5000):
        try:
            reply = proxy.call("GET", path)
        except ValueError:  # http.client itself refuses it
            continue
        if reply.status == 400 and "x-reprise-request" not in reply.headers:
            continue
        assert line_of(proxy, reply)["method"] == "GET"
    with open(proxy.access_log) as file:
        for line in file:
            assert isinstance(json.loads(line), dict)


@pytest.mark.parametrize("filling", [1, 100000])
def test_a_body_that_is_given_up_leaves_the_caller_known(proxy, filling):
    """What was read of a request before it turned out to be none for us is thrown away; who
    sent it is not. With a tree of some megabytes the memory behind the name would be gone."""
    tenant = line_of(proxy, proxy.chat("Hello"))["tenant"]
    assert re.fullmatch("key-[0-9a-f]{32}", tenant)
    some = json.dumps(list(range(filling)))
    for body, reason in (('{"model":"gpt-test","some":%s,"model":"x"}', "duplicate-key"),
                         ('{"some":%s,"big":123456789012345678901234567890}', "number"),
                         ('{"some":%s,"deep":' + "[" * 200 + "]" * 200 + "}", "depth")):
        reply = proxy.call(body=body % some, headers={"X-Reprise-Tags": "a,b",
                                                      "X-Test": "status=418"})
        assert (reply.status, reply.cache, reply.reason) == (418, "bypass", reason)
        assert line_of(proxy, reply)["tenant"] == tenant
