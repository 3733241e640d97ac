"""HUP: what can change while running changes, and the rest is said.

What could go wrong: a changed address or file that is silently ignored; a listener that closes
before the new one is open, or whose clients are cut off; half a change after a failure, or one
that is not tried again; a token that goes on working after it was replaced.
"""
import concurrent.futures
import os
import random
import signal
import socket

import pytest

from proxy import Admin, PATIENCE, wait_until
from test_tls import Certificate, get, Secured


def is_open(address):
    try:
        socket.create_connection(address, timeout=PATIENCE).close()
        return True
    except ConnectionRefusedError:
        return False


def take_a_port():
    """A listener where no connection's own end can be given a port once it is closed: below
    the range that the kernel draws from."""
    for port in random.Random(os.getpid()).sample(range(20000, 32000), 1000):
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError:
            pass
    raise AssertionError("not one of 1000 ports is free")


def wait_until_closed(address):
    """The loop closes the old one after the reload was said to be done."""
    wait_until(lambda: not is_open(address), "still open: %s:%d" % address)


def test_another_address_takes_over_and_requests_under_way_end(proxy, upstream):
    old = proxy.address
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        slow = pool.submit(proxy.chat, "Slow", {"X-Test": "gate"})
        upstream.wait_for(1)
        proxy.listen = "127.0.0.2:0"
        said = proxy.reload()
        assert "configuration reloaded" in said
        assert proxy.address != old and proxy.address[0] == "127.0.0.2"
        assert proxy.chat("Hello").status == 200
        wait_until_closed(old)
        upstream.gate.set()
        assert slow.result().status == 200
    assert proxy.chat("Slow").cache == "hit"


def test_an_address_in_use_leaves_the_old_listener_until_it_is_free(proxy):
    old = proxy.address
    taken = take_a_port()
    proxy.listen = "127.0.0.1:%d" % taken.getsockname()[1]
    said = proxy.reload("emit_aliases: true\n" + proxy.config)
    assert "the listener for clients stays as it was: cannot listen on " + proxy.listen in said
    assert proxy.address == old
    wait_until(lambda: "x-cache-status" in proxy.chat("Hello").headers, "the rest was not taken")
    taken.close()
    said = proxy.reload()
    assert "stays as it was" not in said
    assert "%s:%d" % proxy.address == proxy.listen
    assert proxy.chat("Hello").cache == "hit"


@pytest.mark.parametrize("listen", ["nowhere", "127.0.0.1", "192.0.2.1:0"])
def test_an_address_that_cannot_be_leaves_everything(proxy, listen):
    proxy.listen = listen
    if listen == "192.0.2.1:0":  # well-formed, but not of this machine
        assert "stays as it was: cannot listen" in proxy.reload()
    else:
        assert "the old configuration stays: " in proxy.reload()
    assert proxy.chat("Hello").status == 200


def test_certificates_may_move_to_other_files(start, tmp_path):
    first, second = Certificate(tmp_path, "first"), Certificate(tmp_path, "second")
    config = "tls: { certificate: %s, key: %s }\n"
    admin = "listen: 127.0.0.1:0, tls: { certificate: %s, key: %s }"
    proxy = start(config % (first.path, first.key), admin=admin % (first.path, first.key))
    secured = Secured(proxy, first, first)
    proxy.admin = admin % (second.path, second.key)
    rest = proxy.config.split("\n", 2)  # encoder, upstreams, tls
    proxy.reload("\n".join(rest[:2]) + "\n" + config % (second.path, second.key))
    for address, _ in secured.listeners:
        assert secured.renewed(address, second)
        connection = secured.connect(address, second.trust)
        assert get(connection, "/healthz").status == 200
        connection.close()


def test_tls_is_not_switched_on_while_running(proxy, tmp_path):
    certificate = Certificate(tmp_path, "new")
    proxy.admin = "listen: 127.0.0.1:0, tls: { certificate: %s, key: %s }" % (certificate.path,
                                                                            certificate.key)
    said = proxy.reload("tls: { certificate: %s, key: %s }\n%s"
                        % (certificate.path, certificate.key, proxy.config))
    for which in ("the listener for clients", "the admin listener"):
        assert which + " stays as it was: TLS is switched on or off at a start only" in said
    assert proxy.chat("Hello").status == 200
    assert Admin(proxy).call("GET", "/healthz").status == 200


def test_the_admin_listener_moves_and_changes_its_token(proxy):
    old = Admin(proxy)
    assert old.call("GET", "/v1/reprise/stats").status == 200
    proxy.admin = "listen: 127.0.0.3:0, token: another-token-of-ours"
    proxy.reload()
    new = Admin(proxy)
    assert new.address[0] == "127.0.0.3"
    bearer = {"Authorization": "Bearer another-token-of-ours"}
    assert new.call("GET", "/v1/reprise/stats", token=False, headers=bearer).status == 200
    assert new.call("GET", "/v1/reprise/stats").status == 401  # the old token
    wait_until_closed(old.address)


def test_the_admin_listener_does_not_open_to_others_without_a_token(proxy):
    admin = Admin(proxy)
    proxy.admin = "listen: 0.0.0.0:0"
    assert "the admin listener stays as it was: admin.listen is 0.0.0.0:0" in proxy.reload()
    assert admin.call("GET", "/v1/reprise/stats").status == 200


def test_tenants_and_routes_change_at_once(proxy, upstream):
    proxy.chat("Hello")
    assert proxy.chat("Hello").cache == "hit"
    proxy.reload(proxy.config + "\nroutes: [ { match: { model: '*' }, cache: { mode: 'off' } } ]")
    # Each loop takes it when it gets to it; until then the stored reply is served.
    wait_until(lambda: proxy.chat("Hello").cache == "bypass", "the route is still cached")
    assert upstream.count() == 2


@pytest.mark.parametrize("key,line", [
    ("memory_max", "memory_max: 64MiB"), ("disk_max", "disk_max: 1GiB"),
    ("threads.loops", "threads: { loops: 7 }"), ("threads.pool", "threads: { pool: 7 }"),
    ("connections_max", "connections_max: 99"), ("cacheable_max", "cacheable_max: 8MiB"),
    ("body_max", "body_max: 65MiB"), ("head_timeout", "head_timeout: 11s"),
    ("body_timeout", "body_timeout: 61s"), ("idle_timeout", "idle_timeout: 121s"),
    ("seed", "seed: 7"), ("encoder.model", None), ("encoder.precision", None),
])
def test_what_has_to_wait_is_said(proxy, key, line):
    if line:
        config = proxy.config + "\n" + line
    elif key == "encoder.model":
        config = proxy.config.replace("model: none", "model: /nowhere")
    else:
        config = proxy.config.replace("model: none", "model: none, precision: int8")
    said = proxy.reload(config)
    assert "%s changed in the configuration; it takes effect at the next start" % key in said
    assert said.count("takes effect at the next start") == 1
    assert proxy.chat("Hello").status == 200


def test_systemd_is_told_when_it_asks(start, tmp_path):
    """Each state once, in order: ready, reloading and ready again, also of a file that cannot
    be used, and stopping."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(PATIENCE)
        proxy = start(environment={"NOTIFY_SOCKET": path})
        assert listener.recv(200) == b"READY=1"
        for config in (proxy.config, "nonsense: 1"):
            proxy.write_config(config)
            proxy.signal(signal.SIGHUP)
            assert listener.recv(200).startswith(b"RELOADING=1")
            assert listener.recv(200) == b"READY=1"
        proxy.signal(signal.SIGTERM)
        assert listener.recv(200) == b"STOPPING=1"


def test_a_policy_that_nobody_could_answer_is_said_at_the_start(start):
    proxy = start("routes: [ { name: careful, cache: { policy: 'judge' } } ]")
    assert "careful" in proxy.wait_for_line("the server has none yet")
    proxy.accept()
    assert proxy.chat("Who judges?").cache == "miss"
    assert proxy.wait_for_hit("Who judges?").cache == "hit"  # the exact tier asks nobody
