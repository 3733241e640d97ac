"""Cache-Control of requests, to the letter of RFC 9111, section 5.2.1.

What could go wrong: an answer older than the client accepts, a reply kept that must not be,
an upstream that is asked although it must not be; or a directive that is overlooked because
of its spelling, its neighbors or the line it stands in. No test depends on how fast the
machine is: ages are read from the Age header, and limits are far from them.
"""
import http.client
import json

import pytest

from proxy import PATIENCE, Reply, chat_body, wait_until

PEEK = "no-store, "  # may be answered from the store, and leaves no trace in it


@pytest.fixture
def aged(proxy):
    """A proxy with one entry that is at least two seconds old and lives for a day."""
    proxy.chat("Hello")
    wait_until(lambda: int(proxy.chat("Hello").headers["age"]) >= 2, "the entry does not age")
    return proxy


@pytest.mark.parametrize("directives,hits", [
    ("max-age=3600", True),
    ("max-age=1", False),
    ("max-age=0", False),
    ("max-age=0, max-stale", True),        # any age beyond that
    ("max-age=0, max-stale=3600", True),
    ("max-age=0, max-stale=1", False),
    ("max-stale", True),
    ("min-fresh=60", True),                # 24 h are left
    ("min-fresh=90000", False),
    ("max-age=3600, min-fresh=60", True),
    ("max-age=3600, min-fresh=90000", False),
    ("max-age=1, min-fresh=60", False),
    ("MAX-AGE=1", False),
    ("max-age=\"1\"", False),
    ("max-age=3600, max-age=1", False),    # twice: the stricter
    ("max-age=soon", False),               # no number: the strictest
    ("max-age=99999999999999999999", True),
    ("no-transform", True),
    ("x=\"no-cache, max-age=0\"", True),   # quoted: no directives
])
def test_age_and_freshness(aged, upstream, directives, hits):
    calls = upstream.count()
    reply = aged.chat("Hello", headers={"Cache-Control": PEEK + directives})
    assert reply.cache == ("hit" if hits else "miss"), reply.reason
    assert upstream.count() - calls == (0 if hits else 1)
    # Nobody else's entry was touched.
    assert int(aged.chat("Hello").headers["age"]) >= 2


def test_what_is_past_its_own_lifetime_is_never_served(start):
    proxy = start("routes: [ { match: { model: '*' }, cache: { ttl: 1s } } ]")
    proxy.accept()
    proxy.chat("Hello")
    wait_until(lambda: proxy.chat("Hello", headers={"Cache-Control": "only-if-cached"}).status == 504,
               "the entry does not expire")
    for wish in ("max-stale", "max-stale=9999", "max-age=9999, max-stale"):
        reply = proxy.chat("Hello", headers={"Cache-Control": PEEK + wish})
        assert reply.cache == "miss"


def test_no_store_keeps_neither_request_nor_reply_and_touches_no_entry(proxy, upstream):
    first = proxy.chat("Hello", headers={"Cache-Control": "no-store"})
    assert (first.cache, upstream.count()) == ("miss", 1)
    assert proxy.chat("Hello", headers={"Cache-Control": "only-if-cached"}).status == 504
    kept = proxy.chat("Hello")
    # What is stored may answer, and stays.
    again = proxy.chat("Hello", headers={"Cache-Control": "no-store"})
    assert (again.cache, again.text) == ("hit", kept.text)
    assert proxy.chat("Hello").text == kept.text


def test_no_cache_asks_the_service_and_replaces(proxy):
    first = proxy.chat("Hello")
    second = proxy.chat("Hello", headers={"Cache-Control": "no-cache"})
    assert (second.cache, second.text != first.text) == ("refresh", True)
    assert proxy.chat("Hello").text == second.text
    third = proxy.chat("Hello", headers={"Cache-Control": "no-cache, no-store"})
    assert third.cache == "bypass" and third.text not in (first.text, second.text)
    assert proxy.chat("Hello").text == second.text


@pytest.mark.parametrize("pragma,control,outcome", [
    ("no-cache", None, "refresh"), ("no-cache", "max-age=3600", "hit"), ("other", None, "hit")])
def test_pragma_counts_only_without_cache_control(proxy, pragma, control, outcome):
    proxy.chat("Hello")
    headers = {"Pragma": pragma, **({"Cache-Control": control} if control else {})}
    assert proxy.chat("Hello", headers=headers).cache == outcome


@pytest.mark.parametrize("directives", [
    "only-if-cached", "only-if-cached, no-cache", "only-if-cached, max-age=0",
    "only-if-cached, no-store", "Only-If-Cached"])
def test_only_if_cached_is_answered_here_or_with_504(proxy, upstream, directives):
    calls = upstream.count()
    for path, body in (("/v1/chat/completions", chat_body("Unknown")), ("/v1/other", {"a": 1})):
        reply = proxy.call(path=path, body=body, headers={"Cache-Control": directives})
        assert (reply.status, reply.cache) == (504, "miss")
        assert reply.json["error"]["code"] == "only_if_cached"
    assert upstream.count() == calls and upstream.count("/v1/other") == 0


def test_only_if_cached_with_an_answer_is_a_hit(proxy, upstream):
    proxy.chat("Hello")
    assert proxy.chat("Hello", headers={"Cache-Control": "only-if-cached"}).cache == "hit"
    assert proxy.chat("Hello", headers={"Cache-Control": "only-if-cached, no-cache"}).status == 504
    assert upstream.count() == 1


def test_directives_on_several_lines_count_together(proxy):
    proxy.chat("Hello")
    connection = http.client.HTTPConnection(*proxy.address, timeout=PATIENCE)
    body = json.dumps(chat_body("Hello"))
    connection.putrequest("POST", "/v1/chat/completions")
    for name, value in (("Authorization", "Bearer sk-test-1"), ("Content-Length", str(len(body))),
                        ("Cache-Control", "no-cache"), ("Cache-Control", "no-store")):
        connection.putheader(name, value)
    connection.endheaders(body.encode())
    reply = connection.getresponse()
    assert Reply(reply.status, reply.getheaders(), reply.read()).cache == "bypass"
    connection.close()
