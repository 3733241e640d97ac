"""What no HTTP library would send: doubtful and hostile requests on raw sockets, to a real
`reprise serve` and to `reprise mock-llm` (one HTTP layer, two programs around it).

Each refused request is followed by another one that must never be answered: two replies
would mean that the server and a proxy before it disagree where a request ends."""
import json
import socket
import time

import pytest

from mock import Mock
from proxy import PATIENCE

HOST = b"Host: a\r\n"
NEXT = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST


@pytest.fixture(scope="module")
def mock():
    service = Mock()
    yield service
    service.stop()


@pytest.fixture(params=["serve", "mock-llm"])
def address(request):
    if request.param == "serve":
        return request.getfixturevalue("proxy").address
    host, _, port = request.getfixturevalue("mock").url[len("http://"):].rpartition(":")
    return host, int(port)


def connect(address):
    return socket.create_connection(address, timeout=PATIENCE)


def read_all(connection, may_be_reset=False):
    parts = []
    while True:
        try:
            part = connection.recv(65536)
        except ConnectionResetError:
            if not may_be_reset:
                raise
            part = b""
        if not part:
            return b"".join(parts)
        parts.append(part)


def talk(address, request):
    """Send all, then read until the server closes. A reset is an error: it loses replies."""
    with connect(address) as connection:
        try:
            connection.sendall(request)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return read_all(connection)


def status(reply):
    assert reply.startswith(b"HTTP/1.1 "), reply
    return int(reply[9:12])


@pytest.mark.parametrize("request_bytes, wanted", [
    (b"GET /healthz HTTP/1.1\r\n\r\n" + NEXT, 400),
    (POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + NEXT, 400),
    (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}" + NEXT, 400),
    (POST + b"Content-Length: +2\r\n\r\n{}" + NEXT, 400),
    (POST + b"Content-Length : 2\r\n\r\n{}" + NEXT, 400),
    (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n" + NEXT, 400),
    (b"GET /healthz HTTP/1.1\n" + HOST + b"\r\n" + NEXT, 400),
    (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n" + NEXT, 400),
    (POST + b"Transfer-Encoding: gzip\r\n\r\n" + NEXT, 501),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}x" + NEXT, 400),
    (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 65536 + b"\r\n\r\n" + NEXT, 431),
    (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 500 + b"\r\n" + NEXT, 431),
    (b"GET /healthz HTTP/2.0\r\n" + HOST + b"\r\n" + NEXT, 505),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    (POST + b"Content-Length: 99999999999\r\n\r\n" + NEXT, 413),
])
def test_doubtful_requests_end_the_connection(address, request_bytes, wanted):
    reply = talk(address, request_bytes)
    assert status(reply) == wanted
    head, _, body = reply.partition(b"\r\n\r\n")
    assert b"\r\nConnection: close" in head
    told = json.loads(body)  # one body, and nothing behind it
    error = told["error"]
    assert error["message"] and error["type"]
    assert told["type"] == "error"  # Anthropic's clients look there first


def test_a_body_over_the_limit_hears_why(address):
    size = (64 << 20) + 1
    with connect(address) as connection:
        connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % size)
        try:  # as a client that sends before it reads
            for _ in range(64):
                connection.sendall(b" " * 65536)
        except (BrokenPipeError, ConnectionResetError):
            pass
        # A server reads on for two seconds only; on a busy machine we may be slower.
        assert status(read_all(connection, may_be_reset=True)) == 413


def test_chunks_with_extensions_and_trailers_are_understood(address):
    body = b'{"model": "m", "messages": [{"role": "user", "content": "hello"}]}'
    request = (POST + b"Authorization: Bearer sk-test-1\r\nContent-Type: application/json\r\n"
               b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
               b"%x;a=b\r\n" % 10 + body[:10] + b"\r\n%X ; c=\"d e\"\r\n" % (len(body) - 10)
               + body[10:] + b"\r\n0\r\nX-Trailer: 1\r\n\r\n")
    reply = talk(address, request)
    assert status(reply) == 200
    assert b'"choices"' in reply


def test_continue_is_said_to_who_expects_it(address):
    body = b'{"model": "m", "messages": [{"role": "user", "content": "hello"}]}'
    with connect(address) as connection:
        connection.sendall(POST + b"Authorization: Bearer sk-test-1\r\nExpect: 100-continue\r\n"
                           b"Content-Type: application/json\r\nConnection: close\r\n"
                           b"Content-Length: %d\r\n\r\n" % len(body))
        interim = connection.recv(len(b"HTTP/1.1 100 Continue\r\n\r\n"), socket.MSG_WAITALL)
        assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert status(read_all(connection)) == 200


def test_pipelined_requests_are_answered_in_order(address):
    missing = [b"GET /v1/reprise/no-such-%d HTTP/1.1\r\n" % i + HOST + b"\r\n" for i in range(20)]
    last = b"HEAD /v1/reprise/last HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    reply = talk(address, b"".join(missing) + last)
    assert reply.count(b"HTTP/1.1 ") == 21
    assert reply.endswith(b"\r\n\r\n")  # HEAD gets no body


def test_http_1_0_is_closed_after_its_reply(address):
    reply = talk(address, b"GET /v1/reprise/nothing HTTP/1.0\r\n\r\n" + NEXT)
    assert reply.count(b"HTTP/1.1 ") == 1
    assert b"Transfer-Encoding" not in reply


def test_a_leaving_client_does_no_harm(address):
    for request in (b"GET ", POST + b"Content-Length: 100\r\n\r\n{", POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n"):
        for _ in range(20):
            with connect(address) as connection:
                connection.sendall(request)
    assert talk(address, b"GET /v1/reprise/x HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")


@pytest.mark.parametrize("start_bytes", [
    b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: ",
    POST + b"Content-Length: 100000\r\n\r\n",
])
def test_dripping_ends_at_an_absolute_deadline(start, start_bytes):
    server = start("head_timeout: 500ms\nbody_timeout: 500ms\n")
    with connect(server.address) as connection:
        connection.sendall(start_bytes)
        connection.settimeout(0.02)
        until = time.monotonic() + PATIENCE
        while True:
            try:
                reply = connection.recv(65536)
                break
            except socket.timeout:
                assert time.monotonic() < until, "it may drip for ever"
            try:
                connection.sendall(b"a")
            except (BrokenPipeError, ConnectionResetError):
                pass  # closed: what it said is read next
        assert status(reply) == 408
