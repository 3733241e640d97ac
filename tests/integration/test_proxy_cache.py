"""A repeated question is answered from the store, in the form that was asked for.

What could go wrong: an answer that differs from the original, a stream that a client
cannot read, a reply stored that must not be, an upstream asked twice. The upstream
numbers its answers, so equal texts mean one call.
"""
import concurrent.futures
import json

import pytest


def test_a_repeated_request_is_a_hit_and_says_so(proxy, upstream):
    first = proxy.chat("What is HNSW?")
    assert (first.status, first.cache) == (200, "miss")
    assert "fwd=miss" in first.headers["cache-status"] and "stored" not in first.headers["cache-status"]
    assert first.headers["x-request-id"].startswith("up-")
    assert first.headers["x-ratelimit-remaining-requests"] == "99"

    second = proxy.chat("What is HNSW?")
    assert (second.status, second.cache) == (200, "hit")
    assert second.text == first.text
    assert upstream.count() == 1
    headers = second.headers
    assert headers["x-reprise-cache-tier"] == "exact"
    assert headers["cache-status"].startswith("reprise; hit; ttl=")
    assert headers["cache-status"].endswith("detail=exact")
    assert len(headers["x-reprise-entry"]) == 32
    assert int(headers["age"]) >= 0
    assert headers["x-reprise-latency"] == "synthetic"
    assert headers["x-reprise-billed-tokens"] == "0"
    assert headers["x-reprise-saved-tokens"] == "11,7"
    assert "x-request-id" not in headers and "x-ratelimit-remaining-requests" not in headers
    assert "set-cookie" not in headers
    assert headers["x-reprise-request"] != first.headers["x-reprise-request"]
    # The replay has its own id and time, and otherwise the same members.
    one, two = first.json, second.json
    assert one["id"] != two["id"] and two["id"].startswith("chatcmpl-")
    for changed in ("id", "created"):
        del one[changed], two[changed]
    assert one == two


def test_one_entry_answers_bodies_and_streams(proxy, upstream):
    streamed = proxy.chat("Stream me", stream=True)
    assert streamed.cache == "miss" and streamed.events[-1] == "[DONE]"
    plain = proxy.chat("Stream me")
    assert plain.cache == "hit" and plain.text == streamed.text
    assert plain.json["object"] == "chat.completion"
    assert plain.json["choices"][0]["finish_reason"] == "stop"

    body = proxy.chat("Give me a body")
    replay = proxy.chat("Give me a body", stream=True, stream_options={"include_usage": True})
    assert replay.cache == "hit" and replay.text == body.text
    assert replay.headers["content-type"].startswith("text/event-stream")
    assert replay.events[-1] == "[DONE]"
    chunks = replay.chunks
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["total_tokens"] == 18
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert upstream.count() == 2


def test_text_completions_are_kept_too(proxy, upstream):
    body = {"model": "gpt-test", "prompt": "Once upon"}
    first = proxy.call(path="/v1/completions", body=body)
    second = proxy.call(path="/v1/completions", body=body)
    assert (first.cache, second.cache) == ("miss", "hit")
    assert first.text == second.text and upstream.count("/v1/completions") == 1


def test_order_and_spelling_of_json_do_not_matter(proxy, upstream):
    proxy.call(body='{"model":"gpt-test","messages":[{"role":"user","content":"caf\\u00e9"}],"top_p":1.0}')
    again = proxy.call(
        body=' {"top_p": 1, "messages": [{"content":"café","role":"user"}], "model":"gpt-test"}'.encode())
    assert again.cache == "hit" and upstream.count() == 1


@pytest.mark.parametrize("fields", [
    {"temperature": 0.5}, {"top_p": 0.3}, {"max_tokens": 5}, {"seed": 4}, {"model": "other"},
    {"response_format": {"type": "json_object"}}, {"stop": ["x"]}, {"reasoning_effort": "low"},
    {"tools": [{"type": "function", "function": {"name": "f"}}]}, {"tool_choice": "none"},
    {"something_new": 1},
    {"messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hello"}]},
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"},
                  {"role": "user", "content": "Hello"}]},
])
def test_what_can_change_the_answer_separates(proxy, fields):
    proxy.chat("Hello")
    assert proxy.chat("Hello", **fields).cache == "miss"


@pytest.mark.parametrize("fields", [
    {"user": "anna"}, {"metadata": {"a": "b"}}, {"store": True}, {"prompt_cache_key": "x"},
])
def test_what_cannot_change_the_answer_does_not_separate(proxy, fields):
    proxy.chat("Hello")
    assert proxy.chat("Hello", **fields).cache == "hit"


@pytest.mark.parametrize("wish,fields", [
    ("status=500", {}), ("status=429", {}), ("finish=length", {}), ("finish=content_filter", {}),
    ("empty", {}), ("error-event", {}), ("error-event", {"stream": True}), ("not-json", {}),
    ("gzip", {}), ("truncate", {"stream": True}), ("finish=length", {"stream": True}),
    ("reset-mid", {}), ("reset-mid", {"stream": True}), ("short", {}),
])
def test_replies_that_are_not_whole_and_good_are_never_stored(proxy, upstream, wish, fields):
    try:
        proxy.chat("Bad reply " + wish, headers={"X-Test": wish}, **fields)
    except Exception:  # a broken transfer is an error to the client, as it should be
        pass
    again = proxy.chat("Bad reply " + wish, **fields)
    assert (again.status, again.cache) == (200, "miss")
    assert upstream.count() == 2


def test_a_part_of_a_reply_is_not_a_reply(proxy, upstream):
    """206: whatever it says, the upstream calls it a part."""
    wish = {"X-Test": "partial", "Range": "bytes=0-400"}
    assert proxy.chat("Which part?", headers=wish).status == 206
    second = proxy.chat("Which part?")
    assert (second.status, second.cache) == (200, "miss")


def test_a_high_temperature_is_not_stored(proxy, upstream):
    for _ in range(2):
        assert proxy.chat("Be wild", temperature=1.5).cache != "hit"
    assert upstream.count() == 2


def test_an_upstream_cannot_pretend_to_be_the_cache(proxy):
    # The test's upstream sends X-Reprise-Cache: hit with every body.
    assert proxy.chat("Who says so?").cache == "miss"


def test_a_restart_keeps_the_entries(start, upstream, tmp_path):
    first = start(folder=tmp_path)
    first.accept()
    text = first.chat("Remember me").text
    first.stop()
    second = start(folder=tmp_path)
    reply = second.chat("Remember me")
    assert (reply.cache, reply.text) == ("hit", text)
    assert upstream.count() == 1


def test_hits_on_one_connection_are_all_right(proxy):
    texts = {prompt: proxy.chat(prompt).text for prompt in ("one", "two", "three")}
    connection = proxy.connect()
    for round_ in range(30):
        prompt = ("one", "two", "three")[round_ % 3]
        connection.request("POST", "/v1/chat/completions",
                           json.dumps({"model": "gpt-test",
                                       "messages": [{"role": "user", "content": prompt}]}),
                           {"Authorization": "Bearer sk-test-1"})
        reply = connection.getresponse()
        assert json.loads(reply.read())["choices"][0]["message"]["content"] == texts[prompt]
        assert reply.headers["x-reprise-cache"] == "hit"
    connection.close()


def test_many_clients_at_once_get_their_own_answers(start):
    proxy = start("threads: { loops: 3 }")
    proxy.accept()
    texts = {n: proxy.chat("Question %d" % n).text for n in range(20)}

    def ask(n):
        reply = proxy.chat("Question %d" % (n % 20), stream=n % 2 == 0)
        return n % 20, reply.cache, reply.text

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for n, cache, text in pool.map(ask, range(300)):
            assert cache == "hit" and text == texts[n]


@pytest.mark.parametrize("reason,other", [("length", "content_filter"),
                                          ("content_filter", "length")])
@pytest.mark.parametrize("stream", [False, True])
def test_a_route_may_keep_replies_that_were_cut(start, reason, other, stream):
    """Only those it names, and they say in either form that they were cut."""
    proxy = start("routes: [ { match: { model: 'gpt-*' }, cache: { keep_finish: [%s] } } ]" % reason)
    proxy.accept()
    for finish, hits in ((reason, True), (other, False), ("eviction", False)):
        prompt = "Cut by " + finish
        first = proxy.chat(prompt, {"X-Test": "finish=" + finish}, stream=stream)
        again = proxy.chat(prompt, {"X-Test": "finish=" + finish})
        assert again.cache == ("hit" if hits else "miss")
        assert again.json["choices"][0]["finish_reason"] == finish
        if hits:
            assert again.text == first.text
            chunks = proxy.chat(prompt, stream=True).chunks
            assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-1] == finish
