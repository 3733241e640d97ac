"""Everything that is not cached: passed through, answered here, or refused; and the process."""
import gzip
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import zlib

import pytest

from proxy import BINARY, PATIENCE, chat_body, wait_until
from test_proxy_flight import open_chat


def test_health(proxy, upstream):
    reply = proxy.call("GET", "/healthz", key=None)
    assert (reply.status, reply.json) == (200, {"status": "ok"})
    assert upstream.count("/healthz") == 0


def test_other_paths_are_passed_through_untouched(proxy, upstream):
    reply = proxy.call("GET", "/v1/other/thing?a=1&b=%20", headers={"X-Custom": "yes"})
    assert (reply.status, reply.cache) == (404, "bypass")
    sent = upstream.requests[-1]
    assert (sent.method, sent.target) == ("GET", "/v1/other/thing?a=1&b=%20")
    assert sent.headers["x-custom"] == "yes"
    assert sent.headers["authorization"] == "Bearer sk-test-1"
    assert "x-reprise-request" in reply.headers
    for method in ("PUT", "DELETE", "PATCH"):
        proxy.call(method, "/v1/other", body="x")
        assert upstream.requests[-1].method == method


@pytest.mark.parametrize("target", ["http://elsewhere.invalid/v1/models",
                                    "http://x@elsewhere.invalid/v1/models", "@elsewhere.invalid/",
                                    "//elsewhere.invalid/v1/models", ".elsewhere.invalid/"])
def test_a_client_cannot_choose_the_upstream(proxy, upstream, target):
    before = len(upstream.requests)
    client = socket.create_connection(proxy.address, timeout=PATIENCE)
    client.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % target.encode())
    reply = b""
    while piece := client.recv(65536):
        reply += piece
    client.close()
    # Refused, or sent to the configured upstream; never anywhere else (502).
    assert reply.split(b" ")[1] in (b"200", b"400", b"404"), reply
    assert len(upstream.requests) - before == (reply.split(b" ")[1] != b"400")


@pytest.mark.parametrize("size", [0, 1, 100000, 12 << 20])
def test_uploads_arrive_whole(proxy, size):
    body = os.urandom(size)
    reply = proxy.call(path="/v1/files", body=body,
                       headers={"Content-Type": "application/octet-stream"})
    assert reply.json == {"received": size, "crc": zlib.crc32(body)}


def test_chunked_uploads_arrive_whole(proxy):
    connection = proxy.connect()
    pieces = [os.urandom(300000) for _ in range(30)]
    connection.request("POST", "/v1/files", body=iter(pieces), encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked", "Authorization": "Bearer sk-test-1"})
    reply = connection.getresponse()
    assert b'"received": 9000000' in reply.read()
    connection.close()


@pytest.mark.parametrize("status", [413, 200])
def test_a_reply_before_the_upload_has_ended_arrives(proxy, status):
    client = socket.create_connection(proxy.address, timeout=PATIENCE)
    client.sendall(b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n"
                   b"X-Test: early=%d\r\n\r\n" % status + b"x" * (5 << 20))
    reply = b""
    while b"early" not in reply and (piece := client.recv(65536)):
        reply += piece
    assert reply.startswith(b"HTTP/1.1 %d" % status) and b'"early"' in reply
    client.close()


def test_large_downloads_arrive_whole(proxy):
    reply = proxy.call("GET", "/v1/blob", headers={"X-Test": "large=%d" % (20 << 20)})
    assert len(reply.body) == 20 << 20
    assert reply.body == bytes(range(256)) * ((20 << 20) // 256)


def test_our_own_paths_never_reach_the_upstream(proxy, upstream):
    before = len(upstream.requests)
    assert proxy.call("POST", "/v1/reprise/nothing", body={}).status in (400, 401, 404, 405)
    assert len(upstream.requests) == before


def test_methods_that_a_path_of_ours_does_not_have_are_refused_with_those_it_has(proxy):
    """RFC 9110, 15.5.6."""
    for method in ("PUT", "DELETE", "TRACE", "OPTIONS", "POST"):
        reply = proxy.call(method, "/healthz")
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
    connection = http.client.HTTPConnection(*proxy.admin_address, timeout=PATIENCE)
    connection.request("POST", "/metrics")
    assert connection.getresponse().getheader("Allow") == "GET, HEAD"
    connection.close()
    for address in (proxy.address, proxy.admin_address):
        with open(proxy.folder + "/data/admin.token") as file:
            token = file.read().strip() if address == proxy.admin_address else "sk-test-1"
        for method in ("GET", "PUT", "OPTIONS"):
            connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
            connection.request(method, "/v1/reprise/lookup", headers={"Authorization": "Bearer " + token})
            reply = connection.getresponse()
            assert (reply.status, reply.getheader("Allow")) == (405, "POST")
            connection.close()


def test_head_is_a_get_without_a_body(proxy, upstream):
    reply = proxy.call("HEAD", "/healthz", key=None)
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "16")
    assert proxy.call("HEAD", "/v1/models").body == b""
    assert upstream.requests[-1].method == "HEAD"


def test_options_without_a_path_are_the_servers_own(proxy, upstream):
    """RFC 9110, 9.3.7."""
    before = len(upstream.requests)
    client = socket.create_connection(proxy.address, timeout=PATIENCE)
    client.sendall(b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    reply = b""
    while piece := client.recv(65536):
        reply += piece
    client.close()
    assert reply.startswith(b"HTTP/1.1 204") and b"\r\nAllow: GET, HEAD, POST" in reply
    assert len(upstream.requests) == before
    # Those for a path of the upstream's are its to answer.
    proxy.call("OPTIONS", "/v1/chat/completions")
    assert upstream.requests[-1].method == "OPTIONS"


def test_an_upgrade_is_refused_but_h2c_is_only_declined(proxy):
    reply = proxy.call("GET", "/v1/realtime", headers={"Connection": "Upgrade",
                                                       "Upgrade": "websocket"})
    assert reply.status == 501
    reply = proxy.chat("Hello", headers={"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c",
                                         "HTTP2-Settings": "AAMAAABkAAQAAP__"})
    assert reply.status == 200


def test_browsers_only_where_configured(start, proxy):
    preflight = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST",
                 "Access-Control-Request-Headers": "authorization"}
    assert "access-control-allow-origin" not in proxy.call(
        "OPTIONS", "/v1/chat/completions", headers=preflight).headers
    open_ = start("cors: { origin: https://app.example }")
    reply = open_.call("OPTIONS", "/v1/chat/completions", headers=preflight, key=None)
    assert reply.status == 204
    assert reply.headers["access-control-allow-origin"] == "https://app.example"
    assert reply.headers["access-control-allow-headers"] == "authorization"
    assert open_.chat("Hello").headers["access-control-allow-origin"] == "https://app.example"
    # A browser sends no credential with it, on our own paths either.
    assert open_.call("OPTIONS", "/v1/reprise/lookup", headers=preflight, key=None).status == 204


def test_hup_takes_a_new_configuration_and_keeps_serving(proxy, upstream):
    proxy.chat("Hello")
    config = "encoder: { model: none }\nupstreams: [ { name: test, url: %s } ]\n" % upstream.url
    proxy.write_config(config + "emit_aliases: true")
    proxy.signal(signal.SIGHUP)
    proxy.wait_for_line("configuration reloaded")  # each loop takes it when it gets to it

    def has_alias():
        hit = proxy.chat("Hello")
        assert hit.cache == "hit"
        return hit.headers.get("x-cache-status") == "Hit"

    wait_until(has_alias, "the new configuration is never used")

    proxy.write_config("nonsense: true")
    proxy.signal(signal.SIGHUP)
    proxy.wait_for_line("the old configuration stays")
    assert proxy.chat("Hello").headers["x-cache-status"] == "Hit"


def test_term_lets_requests_under_way_end(proxy, upstream):
    client = open_chat(proxy, "Last words", "gate")
    upstream.wait_for(1)
    proxy.signal(signal.SIGTERM)
    proxy.wait_for_line("stopping")

    def refused():
        try:
            socket.create_connection(proxy.address, timeout=PATIENCE).close()
        except OSError:
            return True
        return False

    wait_until(refused, "a stopping server still takes connections")
    upstream.gate.set()
    reply = b""
    while piece := client.recv(65536):
        reply += piece
    assert reply.startswith(b"HTTP/1.1 200") and b"Last words" in reply
    proxy.stop()


def test_term_does_not_wait_for_ever(start, upstream):
    proxy = start("drain_timeout: 1s")
    proxy.accept()
    client = open_chat(proxy, "Never", "stall")
    upstream.wait_for(1)
    proxy.signal(signal.SIGTERM)
    proxy.process.wait(PATIENCE)
    proxy.stop()
    client.close()


def test_check_prints_the_values_and_no_secret(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("upstreams: [ { name: a, url: http://127.0.0.1:1/v1 } ]\n"
                    "tenants: [ { name: t, keys: [ sk-secret-key ], upstream_key: sk-other } ]\n")
    run = subprocess.run([BINARY, "serve", "--check", "-c", str(file)], capture_output=True, text=True)
    assert run.returncode == 0 and "secret" not in run.stdout and "sk-other" not in run.stdout
    file.write_text("upstreams: [ { name: a, url: http://127.0.0.1:1, tmieout: 3s } ]\n")
    run = subprocess.run([BINARY, "serve", "--check", "-c", str(file)], capture_output=True, text=True)
    assert run.returncode == 2 and re.search(r"r\.yaml:1:\d+", run.stderr)


def test_bad_command_lines_are_refused():
    for arguments in (["--nonsense"], ["extra"], []):
        run = subprocess.run([BINARY, "serve", *arguments, "--listen", "127.0.0.1:0"],
                             capture_output=True, text=True, timeout=PATIENCE)
        assert run.returncode == 2, (arguments, run.stderr)


def test_a_compressed_request_is_forwarded_as_it_is(proxy, upstream):
    body = gzip.compress(json.dumps(chat_body("Hello")).encode())
    for _ in range(2):
        reply = proxy.call(body=body, headers={"Content-Encoding": "gzip", "X-Test": "status=415"})
        assert (reply.status, reply.cache, reply.reason) == (415, "bypass", "encoded")
        assert upstream.requests[-1].body == body
        assert upstream.requests[-1].headers["content-encoding"] == "gzip"
