"""Many connections that want nothing, or very slowly, do not stop service.

What could go wrong: idle or dripping connections that hold a thread, a place or memory each,
so that a request behind them waits; a limit on connections that turns away for good; a drip
that is allowed for ever. Small counts: 10,000 connections are measured by the benchmarks."""
import json
import resource
import select
import socket

import pytest

from proxy import PATIENCE, chat_body, wait_until

CROWD = 500
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sk-test-1\r\n"


@pytest.fixture
def crowd():
    """crowd(proxy, count) opens so many connections; all are closed at the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CROWD + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            pytest.skip("only %d files may be open" % hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    opened = []

    def gather(proxy, count):
        fresh = []
        for _ in range(count):
            fresh.append(socket.create_connection(proxy.address, timeout=PATIENCE))
            opened.append(fresh[-1])
        return fresh

    yield gather
    for connection in opened:
        connection.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def closed(connection):
    """Whether the server has ended it; what it said before is thrown away."""
    while select.select([connection], [], [], 0)[0]:
        try:
            if not connection.recv(65536):
                return True
        except (ConnectionResetError, BrokenPipeError):
            return True
    return False


def test_a_crowd_of_idle_connections_costs_little_and_hinders_nobody(proxy, crowd):
    proxy.chat("warm")
    before = proxy.resident()
    idle = crowd(proxy, CROWD)
    # Each is known to the server: it has answered once and is kept alive.
    for connection in idle:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    for connection in idle:
        assert connection.recv(65536).startswith(b"HTTP/1.1 ")
    assert proxy.chat("what is asked behind a crowd?").cache == "miss"
    assert proxy.chat("what is asked behind a crowd?").cache == "hit"
    # The header promises about 1 KiB for an idle connection; a sanitizer's red zones and
    # quarantine multiply that. 64 KiB would mean that each keeps its buffers.
    grown = proxy.resident() - before
    print("%d bytes for each idle connection" % (grown // CROWD))
    assert grown < CROWD * (64 << 10)
    # And each is still good for a request of its own.
    body = json.dumps(chat_body("what is asked behind a crowd?")).encode()
    for connection in idle[::50]:
        connection.sendall(HEAD + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                           % len(body) + body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_dripping_heads_and_bodies_hinder_nobody_and_end(start, crowd):
    # Longer than any of our own requests takes to arrive, even on a busy machine.
    server = start("head_timeout: 5s\nbody_timeout: 5s\n")
    server.accept()
    drips = crowd(server, CROWD)
    for at, connection in enumerate(drips):
        connection.sendall(HEAD + (b"Content-Length: 100000\r\n\r\n" if at % 2 else b"X-Drip: "))
        connection.setblocking(False)
    gone = []

    def drip():
        for connection in [c for c in drips if c not in gone]:
            try:
                connection.send(b"a")
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                pass  # closed: `closed` says so next
            if closed(connection):
                gone.append(connection)

    for number in range(5):  # between the drops others are served
        drip()
        assert server.chat("question number %d" % number).status == 200
        assert server.chat("question number %d" % number).cache == "hit"

    def all_gone():
        drip()
        return len(gone) == len(drips)

    # They never pause, so only a deadline from the first byte ends them.
    wait_until(all_gone, "some may drip for ever")
    assert server.chat("afterwards").status == 200


def test_beyond_the_limit_a_client_is_told_and_a_leaver_makes_room(start, crowd):
    server = start("connections_max: 20\n")
    idle = crowd(server, 20)
    for connection in idle:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 ")
    [late] = crowd(server, 1)
    assert late.recv(65536).startswith(b"HTTP/1.1 503 ")
    for connection in idle[:5]:
        connection.close()

    def served():
        try:
            return server.call("GET", "/v1/models").status == 200
        except (ConnectionResetError, BrokenPipeError):
            return False  # refused before it had sent all

    wait_until(served, "the places of those who left stay taken")
