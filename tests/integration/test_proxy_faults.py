"""An upstream that is down, slow or lying, and clients that leave.

What could go wrong: a client that waits for ever, an error it cannot read, half an
answer that looks whole, half an answer that is stored.
"""
import http.client
import json
import socket
import time

import pytest

from proxy import PATIENCE, chat_body, wait_until
from test_proxy_flight import open_chat


@pytest.fixture
def closed_port():
    """Bound, so that nobody else gets it meanwhile, and never listened on."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        yield silent.getsockname()[1]


def test_an_upstream_that_is_down_is_a_502_in_the_protocols_words(start, closed_port):
    proxy = start(upstreams="[ { name: down, url: http://127.0.0.1:%d } ]" % closed_port)
    reply = proxy.chat("Hello")
    assert (reply.status, reply.cache) == (502, "miss")
    assert reply.json["error"]["code"] == "upstream_unreachable"
    anthropic = proxy.call(path="/v1/messages", key=None,
                           headers={"x-api-key": "k", "anthropic-version": "2023-06-01"},
                           body={"model": "m", "max_tokens": 5,
                                 "messages": [{"role": "user", "content": "Hello"}]})
    assert anthropic.status == 502
    assert anthropic.json["type"] == "error" and "message" in anthropic.json["error"]
    # Any other path too.
    assert proxy.call("GET", "/v1/other").status == 502


def test_who_speaks_anthropic_gets_its_error_object_on_every_path(start, closed_port):
    proxy = start(upstreams="[ { name: down, url: http://127.0.0.1:%d } ]" % closed_port)
    reply = proxy.call("GET", "/v1/models/claude", headers={"x-api-key": "sk-ant-1"}, key=None)
    assert reply.status == 502 and reply.json["type"] == "error"
    assert set(reply.json["error"]) == {"type", "message"}


def test_a_silent_upstream_is_a_504(start, upstream):
    proxy = start(upstreams="[ { name: t, url: %s, first_byte_timeout: 1s } ]" % upstream.url)
    reply = proxy.chat("Hello", headers={"X-Test": "stall"})
    assert (reply.status, reply.json["error"]["code"]) == (504, "upstream_timeout")


def calls():
    """A request of each protocol, whole and streamed."""
    ask = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
    for path, body in (("/v1/chat/completions", ask), ("/v1/messages", {**ask, "max_tokens": 5}),
                       ("/v1/completions", {"model": "m", "prompt": "Hello"}),
                       ("/v1/responses", {"model": "m", "input": "Hello", "store": False})):
        yield path, body
        yield path, {**body, "stream": True}
    yield "/v1/embeddings", {"model": "e", "input": "Hello"}
    yield "/v1/chat/completions", {**ask, "n": 2}  # nobody may share this one


@pytest.mark.parametrize("transport", ["ours", "libcurl"])
@pytest.mark.parametrize("fault,status,code", [
    ("refused", 502, "upstream_unreachable"), ("reset", 502, "upstream_broken"),
    ("garbage", 502, "upstream_broken"), ("stall", 504, "upstream_timeout")])
def test_a_dead_upstream_is_told_in_the_callers_own_words(start, upstream, closed_port, transport,
                                                          fault, status, code):
    url = "http://127.0.0.1:%d" % closed_port if fault == "refused" else upstream.url
    proxy = start(upstreams="[ { name: dead, url: %s%s%s } ]"
                  % (url, ", proxy: " + url if transport == "libcurl" else "",
                     ", first_byte_timeout: 100ms" if fault == "stall" else ""))
    for number, (path, body) in enumerate(calls()):
        anthropic = path == "/v1/messages"
        # By its path, not only by where the key stands: a bearer may speak Anthropic too.
        key = {"x-api-key": "k"} if anthropic and number % 2 else {"Authorization": "Bearer k"}
        reply = proxy.call(path=path, body=body, key=None, headers={"X-Test": fault, **key})
        assert (reply.status, reply.headers["content-type"]) == (status, "application/json")
        error = reply.json["error"]
        if anthropic:
            assert reply.json["type"] == "error" and set(reply.json) == {"type", "error"}
            assert error["type"] == ("timeout_error" if status == 504 else "api_error")
            assert set(error) == {"type", "message"} and error["message"]
        else:
            assert set(reply.json) == {"error"} and set(error) == {"message", "type", "param", "code"}
            assert (error["type"], error["code"], error["param"]) == ("upstream_error", code, None)


@pytest.mark.parametrize("wish", ["reset", "garbage"])
def test_a_reply_that_never_begins_is_a_502(proxy, wish):
    reply = proxy.chat("Hello " + wish, headers={"X-Test": wish})
    assert (reply.status, reply.headers["content-type"]) == (502, "application/json")
    assert reply.json["error"]["type"] == "upstream_error"


@pytest.mark.parametrize("wish,fields", [("reset-mid", {}), ("short", {}),
                                         ("reset-mid", {"stream": True})])
def test_half_a_reply_does_not_look_whole(proxy, wish, fields):
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        proxy.chat("Half", headers={"X-Test": wish}, **fields)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 503])
def test_errors_of_the_upstream_arrive_as_they_are(proxy, upstream, status):
    reply = proxy.chat("Hello %d" % status, headers={"X-Test": "status=%d" % status})
    assert (reply.status, reply.json["error"]["code"]) == (status, "wished")
    assert reply.headers["retry-after"] == "7"


def test_a_client_that_leaves_mid_stream_aborts_and_stores_nothing(proxy, upstream):
    client = open_chat(proxy, "Long story " * 50, "gate-mid", stream=True)
    assert client.recv(100)
    client.close()
    wait_until(lambda: upstream.broken_pipes, "the upstream call was not aborted")
    assert proxy.chat("Long story " * 50, stream=True).cache == "miss"


def test_finish_on_disconnect_finishes_and_stores(start, upstream):
    proxy = start("finish_on_disconnect: true")
    proxy.accept()
    client = open_chat(proxy, "Long story", "gate-mid", stream=True)
    assert client.recv(100)
    client.close()
    proxy.wait_for_leavers(1)
    assert upstream.broken_pipes == 0
    upstream.gate.set()
    assert proxy.wait_for_hit("Long story").status == 200


@pytest.mark.parametrize("body,status,code", [
    ("{", 400, "invalid_json"), ("", 400, "invalid_json"), ('{"model":"m"} x', 400, "invalid_json"),
    (b'{"model":"\xff"}', 400, "invalid_json"), ('{"n":NaN}', 400, "invalid_json"),
])
def test_malformed_json_is_a_400(proxy, upstream, body, status, code):
    reply = proxy.call(body=body)
    assert (reply.status, reply.json["error"]["code"]) == (status, code)
    assert upstream.count() == 0


@pytest.mark.parametrize("body,reason", [
    ('{"model":"gpt-test","model":"gpt-test","messages":[{"role":"user","content":"x"}]}',
     "duplicate-key"),
    ('{"model":"gpt-test","messages":[{"role":"user","content":"x"}],"deep":'
     + "[" * 100 + "]" * 100 + "}", "depth"),
    ('{"model":"gpt-test","messages":[{"role":"user","content":"x"}],'
     '"big":123456789012345678901234567890}', "number"),
    # What json.dumps writes of a file name that is no UTF-8.
    ('{"model":"gpt-test","messages":[{"role":"user","content":"a \\ud83d b"}]}', "surrogate"),
])
def test_json_that_only_we_refuse_is_forwarded_untouched(proxy, upstream, body, reason):
    reply = proxy.call(body=body)
    assert (reply.status, reply.cache, reply.reason) == (200, "bypass", reason)
    assert upstream.requests[-1].body.decode() == body


def test_a_body_over_cacheable_max_is_streamed_through(start, upstream):
    proxy = start("cacheable_max: 64KiB")
    proxy.accept()
    for _ in range(2):
        reply = proxy.chat("x" * 100000)
        assert (reply.status, reply.cache, reply.reason) == (200, "bypass", "too-large")
    assert upstream.count() == 2
    assert upstream.requests[-1].json == chat_body("x" * 100000)


def test_a_slow_reader_holds_the_upstream_back(proxy, upstream):
    size = 64 << 20
    before = proxy.resident()
    client = socket.create_connection(proxy.address, timeout=PATIENCE)
    client.sendall(b"GET /v1/blob HTTP/1.1\r\nHost: x\r\nX-Test: large=%d\r\n"
                   b"Connection: close\r\n\r\n" % size)
    time.sleep(1)
    grown = proxy.resident() - before
    received = b""
    while b"\r\n\r\n" not in received:
        received += client.recv(65536)
    count = len(received) - received.index(b"\r\n\r\n") - 4
    while piece := client.recv(1 << 20):
        count += len(piece)
    assert count == size
    # The 64 MiB were not held in memory while nobody read.
    assert grown < size // 2


def test_a_client_that_leaves_during_a_look_up_or_wait_harms_nobody(proxy, upstream):
    for n in range(20):
        client = open_chat(proxy, "Leave %d" % n, "gate")
        if n % 2:
            time.sleep(0.01)
        client.close()
    upstream.gate.set()
    assert proxy.chat("Still there?").status == 200
