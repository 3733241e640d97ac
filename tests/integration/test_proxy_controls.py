"""What a client may ask of the cache (docs/protocol.md, Headers and controls)."""
import time

import pytest

from proxy import while_it_lasts


def test_no_cache_asks_again_and_keeps_the_new_answer(proxy, upstream):
    first = proxy.chat("Hello")
    fresh = proxy.chat("Hello", headers={"Cache-Control": "no-cache"})
    assert fresh.cache == "refresh" and "fwd=request" in fresh.headers["cache-status"]
    assert fresh.text != first.text
    later = proxy.chat("Hello")
    assert (later.cache, later.text) == ("hit", fresh.text)


def test_no_store_keeps_nothing(proxy, upstream):
    proxy.chat("Hello", headers={"Cache-Control": "no-store"})
    assert proxy.chat("Hello").cache == "miss"
    assert proxy.chat("Hello", headers={"Cache-Control": "no-store"}).cache == "hit"


def test_no_cache_with_no_store_is_a_bypass(proxy, upstream):
    proxy.chat("Hello")
    reply = proxy.chat("Hello", headers={"Cache-Control": "no-cache, no-store"})
    assert reply.cache == "bypass" and "fwd=bypass" in reply.headers["cache-status"]
    assert upstream.count() == 2


def test_only_if_cached_never_asks_the_upstream(proxy, upstream):
    reply = proxy.chat("Hello", headers={"Cache-Control": "only-if-cached"})
    assert (reply.status, reply.cache) == (504, "miss")
    assert reply.json["error"]["code"] == "only_if_cached"
    assert upstream.count() == 0
    proxy.chat("Hello")
    assert proxy.chat("Hello", headers={"Cache-Control": "only-if-cached"}).cache == "hit"


def test_max_age_and_min_fresh(proxy):
    proxy.chat("Hello")
    time.sleep(1.1)
    assert proxy.chat("Hello", headers={"Cache-Control": "max-age=100"}).cache == "hit"
    assert proxy.chat("Hello", headers={"Cache-Control": "max-age=0, max-stale=50"}).cache == "hit"
    assert proxy.chat("Hello", headers={"Cache-Control": "min-fresh=60"}).cache == "hit"
    assert proxy.chat("Hello", headers={"Cache-Control": "min-fresh=999999"}).cache == "miss"
    assert proxy.chat("Hi", headers={"Cache-Control": "max-age=0"}).cache == "miss"


def test_a_stale_wish_is_a_miss(proxy):
    proxy.chat("Hello")
    time.sleep(1.1)
    assert proxy.chat("Hello", headers={"Cache-Control": "max-age=1"}).cache == "miss"


def test_a_lifetime_of_ones_own(proxy):
    def ask_twice(seconds):
        prompt = "Hello for %d seconds" % seconds
        proxy.chat(prompt, headers={"X-Reprise-TTL": str(seconds)})
        return prompt, proxy.chat(prompt)

    seconds, (prompt, hit) = while_it_lasts(ask_twice)
    assert hit.cache == "hit"
    assert 0 <= int(hit.headers["cache-status"].split("ttl=")[1].split(";")[0]) < seconds
    time.sleep(seconds + 0.2)
    assert proxy.chat(prompt).cache == "miss"


def test_controls_in_the_body_are_not_forwarded(proxy, upstream):
    proxy.chat("Hello", cache={"no-cache": True})
    assert "cache" not in upstream.requests[-1].json
    assert proxy.chat("Hello", cache={"ttl": 100}).cache == "hit"
    assert proxy.chat("Hello", cache={"no-cache": True, "no-store": True}).cache == "bypass"
    assert proxy.chat("Hello", cache={"namespace": "other"}).cache == "miss"


@pytest.mark.parametrize("name,value", [
    ("X-Reprise-TTL", "soon"), ("X-Reprise-TTL", "0"), ("X-Reprise-TTL", "-5"),
    ("X-Reprise-Min-Similarity", "1.5"), ("X-Reprise-Min-Similarity", "nan"),
    ("X-Reprise-Max-Error", "2"), ("X-Reprise-Namespace", "n" * 300),
    ("X-Reprise-Tags", ",".join("t%d" % n for n in range(40))),
])
def test_malformed_controls_are_refused(proxy, upstream, name, value):
    reply = proxy.chat("Hello", headers={name: value})
    assert reply.status == 400 and reply.json["error"]["type"] == "invalid_request_error"
    assert name in reply.json["error"]["message"]
    assert upstream.count() == 0


def test_control_headers_do_not_reach_the_upstream(proxy, upstream):
    proxy.chat("Hello", headers={"X-Reprise-TTL": "5", "X-Reprise-Tags": "a", "X-Other": "kept"})
    sent = upstream.requests[-1].headers
    assert not any(name.startswith("x-reprise") for name in sent)
    assert sent["x-other"] == "kept" and sent["accept-encoding"] == "identity"


def test_other_products_status_headers_are_opt_in(start, proxy):
    assert "x-cache-status" not in proxy.chat("Hello").headers
    loud = start("emit_aliases: true")
    loud.accept()
    assert loud.chat("Hello").headers["x-cache-status"] == "Miss"
    hit = loud.chat("Hello").headers
    assert hit["x-cache-status"] == "Hit" and hit["helicone-cache"] == "HIT"


def test_usage_on_a_hit_can_be_zero(start):
    proxy = start("usage_on_hit: zero")
    proxy.accept()
    proxy.chat("Hello")
    hit = proxy.chat("Hello")
    assert hit.cache == "hit" and hit.json["usage"]["total_tokens"] == 0
    assert hit.headers["x-reprise-saved-tokens"] == "11,7"


def test_shadow_mode_decides_and_always_forwards(start, upstream):
    proxy = start("routes: [ { match: { model: '*' }, cache: { mode: shadow } } ]")
    proxy.accept()
    first = proxy.chat("Hello")
    second = proxy.chat("Hello")
    assert (first.cache, second.cache) == ("miss", "shadow-hit")
    assert second.text != first.text and upstream.count() == 2


def test_mode_off_only_forwards(start, upstream):
    proxy = start("routes: [ { match: { model: '*' }, cache: { mode: 'off' } } ]")
    proxy.accept()
    for _ in range(2):
        assert proxy.chat("Hello").cache == "bypass"
    assert upstream.count() == 2
