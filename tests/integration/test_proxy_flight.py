"""Identical requests in flight share one upstream call.

What could go wrong: several calls where one would do, a follower that waits for ever
because its leader failed or left, an event that a follower misses or gets twice, an
answer of somebody else's request.
"""
import concurrent.futures
import http.client
import json
import os
import socket
import time

import pytest

from proxy import PATIENCE, chat_body, wait_until


def ask_in_background(pool, proxy, upstream, count, **arguments):
    """Start `count` equal requests; return when the first reached the upstream and the
    others have joined it."""
    futures = [pool.submit(proxy.chat, **arguments)]
    upstream.wait_for(1)
    futures += [pool.submit(proxy.chat, **arguments) for _ in range(count - 1)]
    proxy.wait_for_followers(count - 1)
    return futures


@pytest.mark.parametrize("loops", [1, 3])
@pytest.mark.parametrize("stream", [False, True])
def test_one_call_serves_all(start, upstream, loops, stream):
    proxy = start("threads: { loops: %d }" % loops)
    proxy.accept()
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        futures = ask_in_background(pool, proxy, upstream, 12, prompt="Same", stream=stream,
                                    headers={"X-Test": "gate-mid" if stream else "gate"})
        upstream.gate.set()
        replies = [future.result() for future in futures]
    assert upstream.count() == 1
    assert len({reply.text for reply in replies}) == 1 and "Answer" in replies[0].text
    collapsed = [reply for reply in replies if "collapsed" in reply.headers["cache-status"]]
    assert len(collapsed) == 11
    assert all(reply.cache == "miss" for reply in replies)
    # A cookie is the leader's own.
    assert not any("set-cookie" in reply.headers for reply in collapsed)
    if stream:
        assert all(reply.events[-1] == "[DONE]" for reply in replies)
        assert len({tuple(reply.events) for reply in replies}) == 1
    assert proxy.chat("Same").cache == "hit"


def test_different_questions_and_callers_do_not_share(proxy, upstream):
    proxy.accept("sk-test-2")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(proxy.chat, prompt, {"X-Test": "gate"}, key, **fields)
                   for prompt, key, fields in (("A", "sk-test-1", {}), ("B", "sk-test-1", {}),
                                               ("A", "sk-test-2", {}), ("A", "sk-test-1", {"n": 2}))]
        upstream.wait_for(4)
        upstream.gate.set()
        assert len({future.result().text for future in futures}) == 4


def test_each_form_of_a_reply_has_a_call_of_its_own(proxy, upstream):
    forms = ({}, {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}})
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(proxy.chat, "Same", {"X-Test": "gate"}, **form) for form in forms]
        upstream.wait_for(3)
        upstream.gate.set()
        plain, stream, counted = (future.result() for future in futures)
    assert "Answer" in plain.json["choices"][0]["message"]["content"]
    assert stream.events[-1] == counted.events[-1] == "[DONE]"
    assert all("usage" not in chunk for chunk in stream.chunks)
    assert counted.chunks[-1]["usage"]


def test_a_personal_question_is_shared_with_the_same_person_only(proxy, upstream):
    def ask(pool, **fields):
        return pool.submit(proxy.chat, "What is my balance?", {"X-Test": "gate"}, **fields)

    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        first = [ask(pool, user="u1"), ask(pool, user="u2"),
                 ask(pool, user="u1", metadata={"a": "b"})]
        upstream.wait_for(3)
        again = ask(pool, user="u1")
        proxy.wait_for_followers(1)
        upstream.gate.set()
        texts = [future.result().text for future in first]
        assert len(set(texts)) == 3 and again.result().text in texts
    assert upstream.count() == 3


@pytest.mark.parametrize("wish", ["no-store", "no-cache", "no-cache, no-store"])
def test_who_does_not_read_or_keep_does_not_share(proxy, upstream, wish):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        usual = pool.submit(proxy.chat, "Same", {"X-Test": "gate"})
        upstream.wait_for(1)
        other = pool.submit(proxy.chat, "Same", {"X-Test": "gate", "Cache-Control": wish})
        upstream.wait_for(2)
        upstream.gate.set()
        assert usual.result().text != other.result().text


@pytest.mark.parametrize("fields", [{}, {"logprobs": True}])
def test_several_answers_are_never_shared(proxy, upstream, fields):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(proxy.chat, "Twice", {"X-Test": "gate"}, n=2, **fields)
                   for _ in range(2)]
        upstream.wait_for(2)
        upstream.gate.set()
        assert all(future.result().status == 200 for future in futures)


@pytest.mark.parametrize("failure", ["status=500", "status=429", "reset"])
def test_followers_go_on_alone_when_the_leader_fails(proxy, upstream, failure):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        leader = pool.submit(proxy.chat, "Same", {"X-Test": "gate," + failure})
        upstream.wait_for(1)
        followers = [pool.submit(proxy.chat, "Same") for _ in range(3)]
        proxy.wait_for_followers(3)
        assert upstream.count() == 1
        upstream.gate.set()
        assert leader.result().status == {"reset": 502}.get(failure, int(failure[-3:] if failure != "reset" else 0))
        replies = [follower.result() for follower in followers]
    # Each asks for itself, unless one of the others has come back by then.
    assert all(reply.status == 200 for reply in replies)
    caches = [reply.cache for reply in replies]
    assert "miss" in caches and set(caches) <= {"miss", "hit"}
    assert not any("collapsed" in reply.headers["cache-status"] for reply in replies)
    # The first may have been tried twice (reset).
    assert upstream.count() >= 1 + caches.count("miss")


def open_chat(proxy, prompt, wish, key="sk-test-1", **fields):
    """A request on a plain socket that can be left at any time."""
    connection = socket.create_connection(proxy.address, timeout=PATIENCE)
    body = json.dumps(chat_body(prompt, **fields)).encode()
    connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
                       + key.encode() + b"\r\nX-Test: " + wish.encode()
                       + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return connection


@pytest.mark.parametrize("stream", [False, True])
def test_a_leader_that_leaves_does_not_harm_those_who_follow(proxy, upstream, stream):
    wish = "gate-mid" if stream else "gate"
    leader = open_chat(proxy, "Same", wish, stream=stream)
    upstream.wait_for(1)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        followers = [pool.submit(proxy.chat, "Same", stream=stream) for _ in range(3)]
        proxy.wait_for_followers(3)
        leader.close()
        proxy.wait_for_leavers(1)
        upstream.gate.set()
        replies = [follower.result() for follower in followers]
    assert upstream.count() == 1
    assert all(reply.status == 200 and "Answer" in reply.text for reply in replies)
    assert proxy.chat("Same", stream=stream).cache == "hit"


def test_when_all_have_left_the_upstream_is_left_too(proxy, upstream):
    leader = open_chat(proxy, "Same", "gate-mid", stream=True)
    upstream.wait_for(1)
    follower = open_chat(proxy, "Same", "", stream=True)
    proxy.wait_for_followers(1)
    leader.close()
    proxy.wait_for_leavers(1)
    assert upstream.broken_pipes == 0  # for the follower
    follower.close()
    wait_until(lambda: upstream.broken_pipes, "the upstream call was not aborted")
    assert proxy.chat("Same", stream=True).cache == "miss"


def test_a_slow_follower_gets_every_event(proxy, upstream):
    connection = http.client.HTTPConnection(*proxy.address, timeout=PATIENCE)
    leader = open_chat(proxy, "Slow " * 200, "gate-mid", stream=True)
    upstream.wait_for(1)
    connection.request("POST", "/v1/chat/completions",
                       json.dumps(chat_body("Slow " * 200, stream=True)),
                       {"Authorization": "Bearer sk-test-1"})
    proxy.wait_for_followers(1)
    upstream.gate.set()
    time.sleep(0.5)  # it has all of it to read when it begins
    reply = connection.getresponse()
    text = reply.read().decode()
    assert text.endswith("data: [DONE]\n\n")
    leader.close()
    connection.close()


# ---- between the end of a reply and its entry --------------------------------------

def keep_the_pool_busy(proxy, pool, encoder):
    """Both threads of the pool have something to embed that takes about a second (under a
    sanitizer a single text takes that long). One loop serves connections in the order of their
    bytes, so what is asked afterwards comes later."""
    def embed(count):
        return proxy.call(path="/v1/embeddings", body=json.dumps({
            "model": "reprise/" + os.path.basename(encoder),
            "input": ["%d boats and harbours " % i + "lighthouse " * 250 for i in range(count)]}))

    begun = time.monotonic()
    assert embed(1).status == 200
    count = max(1, min(60, int(1 / (time.monotonic() - begun))))
    return [pool.submit(embed, count) for _ in range(2)]


@pytest.mark.parametrize("stream", [False, True])
def test_the_first_request_of_a_credential_is_not_fetched_twice(start, upstream, encoder, stream):
    proxy = start("threads: { loops: 1 }\nlookup_deadline: 60s", model=encoder)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        slow = keep_the_pool_busy(proxy, pool, encoder)
        first = proxy.chat("How do I reset my PIN?", stream=stream)
        again = [proxy.chat("How do I reset my PIN?", stream=stream) for _ in range(3)]
        assert all(future.result().status == 200 for future in slow)
    assert first.reason == "credential-unproven"
    assert upstream.count() == 1
    assert {reply.text for reply in again} == {first.text}
    if stream:
        assert all(reply.events[-1] == "[DONE]" for reply in again)
    assert proxy.wait_for_hit("How do I reset my PIN?", stream=stream).text == first.text
    assert proxy.wait_for_hit("How can I reset my PIN?", stream=stream).text == first.text


def test_a_reply_that_waits_for_a_verdict_is_not_fetched_twice(start, upstream, encoder):
    proxy = start("threads: { loops: 1 }\nlookup_deadline: 60s\n"
                  "routes: [ { match: { model: '*' }, cache: { policy: verified } } ]",
                  model=encoder)
    proxy.accept()
    proxy.chat("How do I reset my PIN?")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        slow = keep_the_pool_busy(proxy, pool, encoder)
        # A neighbor that the policy knows nothing about yet: explored.
        first = proxy.chat("How can I reset my PIN?")
        again = proxy.chat("How can I reset my PIN?")
        assert all(future.result().status == 200 for future in slow)
    assert first.cache == "miss" and upstream.count() == 2
    assert again.text == first.text


def test_what_may_not_be_kept_is_not_shared_after_its_end(start, upstream, encoder):
    proxy = start("threads: { loops: 1 }", model=encoder)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        slow = keep_the_pool_busy(proxy, pool, encoder)
        replies = [proxy.chat("Roll a die", temperature=1.7) for _ in range(2)]
        assert all(future.result().status == 200 for future in slow)
    assert replies[0].text != replies[1].text and upstream.count() == 2
