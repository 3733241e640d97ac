"""TLS on the listener for clients and on the one for management, with certificates made here.

What could go wrong: a listener that answers in the clear although it has a certificate, or
takes an old version of TLS; one broken handshake that stops the next; HUP that renews only
one of the two listeners, cuts connections that stand, or drops the old certificate for a
new one that cannot be read."""
import http.client
import json
import re
import signal
import socket
import ssl
import subprocess

import pytest

from proxy import PATIENCE, Reply, chat_body, wait_until


class Certificate:
    """A self-signed one for 127.0.0.1, in the files that the configuration names."""

    def __init__(self, folder, name):
        self.path, self.key = str(folder / (name + ".pem")), str(folder / (name + ".key"))
        self.renew()

    def renew(self):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
             "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", self.key, "-out", self.path], check=True, capture_output=True)
        with open(self.path) as file:
            self.der = ssl.PEM_cert_to_DER_cert(file.read())

    @property
    def trust(self):
        return ssl.create_default_context(cafile=self.path)


class Secured:
    """A proxy with a certificate of its own on each listener."""

    def __init__(self, proxy, client, admin):
        self.proxy, self.client, self.admin = proxy, client, admin
        self.listeners = ((proxy.address, client), (proxy.admin_address, admin))

    def connect(self, address, trust):
        return http.client.HTTPSConnection(*address, timeout=PATIENCE, context=trust)

    def renewed(self, address, certificate):
        """Whether a new connection is shown what is in the file now."""
        context = ssl._create_unverified_context()
        with socket.create_connection(address, timeout=PATIENCE) as plain:
            with context.wrap_socket(plain) as wrapped:
                return wrapped.getpeercert(binary_form=True) == certificate.der


@pytest.fixture
def secured(start, tmp_path):
    client, admin = Certificate(tmp_path, "client"), Certificate(tmp_path, "admin")
    proxy = start("tls: { certificate: %s, key: %s }\n" % (client.path, client.key),
                  admin="listen: 127.0.0.1:0, tls: { certificate: %s, key: %s }" % (admin.path, admin.key))
    return Secured(proxy, client, admin)


def get(connection, path, headers=None):
    connection.request("GET", path, headers=headers or {})
    reply = connection.getresponse()
    return Reply(reply.status, reply.getheaders(), reply.read())


def test_both_listeners_answer_over_tls(secured):
    connection = secured.connect(secured.proxy.address, secured.client.trust)
    key = {"Authorization": "Bearer sk-test-1", "Content-Type": "application/json"}
    assert get(connection, "/v1/models", key).status == 200
    answers = []
    for _ in range(2):  # on one connection: stored, then replayed as a stream
        connection.request("POST", "/v1/chat/completions",
                           json.dumps(chat_body("why is the sky blue?", stream=True)), key)
        reply = connection.getresponse()
        answers.append(Reply(reply.status, reply.getheaders(), reply.read()))
    assert [answer.status for answer in answers] == [200, 200]
    assert [answer.cache for answer in answers] == ["miss", "hit"]
    assert answers[0].text == answers[1].text != ""
    connection.close()

    address, certificate = secured.listeners[1]
    with open(secured.proxy.folder + "/data/admin.token") as file:
        token = {"Authorization": "Bearer " + file.read().strip()}
    connection = secured.connect(address, certificate.trust)
    assert get(connection, "/healthz").status == 200
    assert get(connection, "/v1/reprise/stats").status == 401
    assert get(connection, "/v1/reprise/stats", token).status == 200
    connection.close()


def test_large_bodies_pass_in_both_directions(secured, upstream):
    connection = secured.connect(secured.proxy.address, secured.client.trust)
    size = 3 << 20
    connection.request("POST", "/v1/chat/completions", json.dumps(chat_body("a" * size)),
                       {"Authorization": "Bearer sk-test-1", "Content-Type": "application/json",
                        "X-Test": "large=%d" % size})
    reply = connection.getresponse()
    assert reply.status == 200
    assert json.loads(reply.read())["choices"][0]["message"]["content"].count("a") >= size
    assert len(upstream.requests[-1].json["messages"][0]["content"]) == size
    connection.close()


def test_what_is_no_tls_gets_no_service_and_stops_nobody(secured):
    for address, certificate in secured.listeners:
        stuck = socket.create_connection(address, timeout=PATIENCE)  # a handshake never begun
        with socket.create_connection(address, timeout=PATIENCE) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            try:
                assert b"HTTP/1.1 200" not in plain.recv(65536)
            except ConnectionResetError:
                pass
        with pytest.raises(ssl.SSLError):  # a client that does not know the certificate
            secured.connect(address, ssl.create_default_context()).connect()
        connection = secured.connect(address, certificate.trust)
        assert get(connection, "/healthz").status in (200, 404)
        connection.close()
        stuck.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_versions_before_1_2_are_refused(secured):
    context = ssl._create_unverified_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    for address, _ in secured.listeners:
        with socket.create_connection(address, timeout=PATIENCE) as plain:
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                context.wrap_socket(plain)


def test_hup_takes_new_certificates_and_keeps_standing_connections(secured):
    standing = [secured.connect(address, certificate.trust)
                for address, certificate in secured.listeners]
    for connection in standing:
        get(connection, "/healthz")
    sockets = [connection.sock for connection in standing]
    for address, certificate in secured.listeners:
        certificate.renew()
        assert not secured.renewed(address, certificate)  # not before it is told to
    secured.proxy.signal(signal.SIGHUP)
    for address, certificate in secured.listeners:
        wait_until(lambda: secured.renewed(address, certificate),
                   "never the new certificate on %s:%d" % address)
    for connection, before in zip(standing, sockets):
        assert get(connection, "/healthz").status in (200, 404)
        assert connection.sock is before
        connection.close()


def test_an_unreadable_new_certificate_leaves_the_old_one(secured):
    for _, certificate in secured.listeners:
        with open(certificate.path, "w") as file:
            file.write("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    secured.proxy.signal(signal.SIGHUP)
    secured.proxy.wait_for_line("the listener for clients stays as it was")
    secured.proxy.wait_for_line("the admin listener stays as it was")
    for address, certificate in secured.listeners:
        assert secured.renewed(address, certificate)


def test_a_missing_certificate_is_said_at_the_start(start, tmp_path):
    with pytest.raises(AssertionError, match=re.escape(str(tmp_path / "none.pem"))):
        start("tls: { certificate: %s, key: %s }\n" % (tmp_path / "none.pem", tmp_path / "none.key"))
