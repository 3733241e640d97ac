"""An upstream that speaks HTTP/2 over TLS, written out by hand so that it can misbehave.

What could go wrong: a stream that the upstream refused unread is an error for the client although
nothing happened yet; one that may have been worked on is sent, and billed, twice; events wait
for the end of a stream; a length that the frames do not have is announced to the client.
"""
import json
import socket
import ssl
import struct
import threading

import pytest

from proxy import chat_body
from test_tls import Certificate

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
REFUSED_STREAM, INTERNAL_ERROR = 7, 2
ANSWER = json.dumps({
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": "gpt-test",
    "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None,
                 "message": {"role": "assistant", "content": "over two", "refusal": None}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}).encode()


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def field(index, value):
    """A field of HPACK's static table with another value, not to be remembered."""
    return b"\x0f" + bytes([index - 15, len(value)]) + value


OK_HEAD = b"\x88" + field(31, b"application/json")  # :status 200, content-type


class Http2:
    """Each request's fate is the next of `fates`, then "answer": "refuse", "fail" (in the middle
    of the work), "goaway" (the request was not looked at), "close" and "notify" (TLS only), "length" (a lie)."""

    def __init__(self, certificate):
        self.fates, self.bodies, self.connections = [], [], 0
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate.path, certificate.key)
        self.context.set_alpn_protocols(["h2"])
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "https://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, plain):
        try:
            with self.context.wrap_socket(plain, server_side=True) as connection:
                assert connection.selected_alpn_protocol() == "h2"
                self.connections += 1
                self._talk(connection, connection.makefile("rb"))
        except OSError:
            pass

    def _talk(self, connection, reader):
        assert reader.read(24) == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        connection.sendall(frame(SETTINGS, 0, 0))
        bodies = {}
        while head := reader.read(9):
            kind, flags, stream = struct.unpack(">BBI", head[3:])
            payload = reader.read(int.from_bytes(head[:3], "big"))
            if kind == SETTINGS and not flags & ACK:
                connection.sendall(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                connection.sendall(frame(PING, ACK, 0, payload))
            elif kind in (HEADERS, DATA):
                if kind == DATA and payload:
                    connection.sendall(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", len(payload))))
                bodies[stream] = bodies.get(stream, b"") + (payload if kind == DATA else b"")
                if flags & END_STREAM:
                    self.bodies.append(bodies.pop(stream))
                    if not self._decide(connection, stream):
                        return

    def _decide(self, connection, stream):
        """False: the connection ends."""
        fate = self.fates.pop(0) if self.fates else "answer"
        if fate in ("refuse", "fail"):
            code = REFUSED_STREAM if fate == "refuse" else INTERNAL_ERROR
            connection.sendall(frame(RST_STREAM, 0, stream, struct.pack(">I", code)))
            return True
        if fate == "goaway":
            connection.sendall(frame(GOAWAY, 0, 0, struct.pack(">II", max(stream - 2, 0), 0)))
            return True  # it is the client that closes
        if fate == "notify":
            connection.unwrap()  # TLS ends, and waits for the other side; TCP does not
        if fate in ("close", "notify"):
            return False
        length = len(ANSWER) + (10 if fate == "length" else 0)
        connection.sendall(
            frame(HEADERS, END_HEADERS, stream, OK_HEAD + field(28, b"%d" % length)) +
            frame(DATA, 0, stream, ANSWER[:50]) + frame(DATA, END_STREAM, stream, ANSWER[50:]))
        return True


@pytest.fixture
def http2(tmp_path):
    certificate = Certificate(tmp_path, "upstream")
    service = Http2(certificate)
    service.certificate = certificate
    yield service
    service.stop()


@pytest.fixture
def proxy(start, http2):
    return start(upstreams="[ { name: two, url: %s, certificate_authorities: %s } ]"
                 % (http2.url, http2.certificate.path))


def test_an_answer_over_http_2_is_kept_like_any_other(proxy, http2):
    first = proxy.chat("Hello")
    assert (first.status, first.cache, first.text) == (200, "miss", "over two")
    second = proxy.chat("Hello")
    assert (second.cache, second.text) == ("hit", "over two")
    assert proxy.chat("Hello again").text == "over two"
    assert http2.connections == 1
    assert [json.loads(body) for body in http2.bodies] == [chat_body("Hello"),
                                                           chat_body("Hello again")]


@pytest.mark.parametrize("warm", [False, True])
def test_a_refused_stream_is_sent_again(proxy, http2, warm):
    """The upstream says that it has not looked at it (RFC 9113, 8.7)."""
    if warm:
        assert proxy.chat("Before").status == 200
    http2.bodies.clear()
    http2.fates = ["refuse"]
    reply = proxy.chat("Hello")
    assert (reply.status, reply.text) == (200, "over two")
    assert [json.loads(body) for body in http2.bodies] == [chat_body("Hello")] * 2


def test_what_may_have_been_worked_on_is_not_sent_again(proxy, http2):
    assert proxy.chat("Before").status == 200
    http2.bodies.clear()
    http2.fates = ["fail"]
    reply = proxy.chat("Hello")
    assert (reply.status, reply.json["error"]["code"]) == (502, "upstream_broken")
    assert len(http2.bodies) == 1
    assert proxy.chat("Hello").text == "over two"  # and the next one is served


def test_an_upstream_that_always_refuses_is_a_502(proxy, http2):
    http2.fates = ["refuse"] * 1000
    reply = proxy.chat("Hello")
    assert (reply.status, reply.json["error"]["type"]) == (502, "upstream_error")
    assert len(http2.bodies) < 20


def test_a_length_that_the_frames_do_not_have_is_no_whole_reply(proxy, http2):
    http2.fates = ["length"]
    with pytest.raises(Exception):
        assert proxy.chat("Hello").status == 502
        raise ConnectionError  # told as an error in the head: as good
    assert proxy.chat("Hello").cache == "miss"  # nothing was kept


def test_a_connection_that_is_given_notice_costs_nobody_an_answer(proxy, http2):
    """As when the service restarts: what came after the notice is sent again, elsewhere."""
    for round_ in range(3):
        assert proxy.chat("Before %d" % round_).status == 200
        http2.fates = ["goaway"]
        reply = proxy.chat("Hello %d" % round_)
        assert (reply.status, reply.text) == (200, "over two")
    assert http2.connections == 4


@pytest.mark.parametrize("fate", ["close", "notify"])
def test_a_connection_that_is_lost_may_have_been_heard(proxy, http2, fate):
    """Closed in the middle of a request that was read: a POST is not sent again."""
    assert proxy.chat("Before").status == 200
    http2.bodies.clear()
    http2.fates = [fate]
    assert proxy.chat("Hello").status == 502
    assert len(http2.bodies) == 1
