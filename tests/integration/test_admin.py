"""The admin listener, the native calls on both listeners, and the commands that use them.

What could go wrong: management without the token or from a browser's page; a client that
sees or removes another tenant's entries; a native look-up that misses what the proxied
request stored because its scope differs; an export that is cut short, or an import that
loses entries; a command line that says done when nothing was.
"""
import http.client
import json
import os
import re
import socket
import subprocess
import threading

import pytest

from mock import Mock
from proxy import BINARY, PATIENCE, Admin, chat_body, wait_until


@pytest.fixture
def admin(proxy):
    return Admin(proxy)


def tenant_of(admin, proxy):
    """The name of the default key's tenant, as an export shows it."""
    lines = admin.call("GET", "/v1/reprise/export").body.decode().splitlines()
    return json.loads(lines[0])["tenant"]


def test_health_and_metrics_are_open_and_the_rest_is_not(admin):
    assert admin.call("GET", "/healthz", token=False).status == 200
    ready = admin.call("GET", "/readyz", token=False)
    assert ready.status == 200 and ready.json["ready"] is True
    metrics = admin.call("GET", "/metrics", token=False)
    assert metrics.status == 200 and metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    for name in ("reprise_cache_requests_total", "reprise_stage_duration_seconds_bucket",
                 "reprise_entries", "reprise_memory_bytes", "reprise_build_info"):
        assert name in metrics.body.decode(), name
    for method, path in (("GET", "stats"), ("GET", "export"), ("POST", "import"), ("POST", "lookup"),
                         ("POST", "flush"), ("POST", "invalidate"), ("POST", "explain")):
        assert admin.call(method, "/v1/reprise/" + path, "{}", token=False).status == 401
        assert admin.call(method, "/v1/reprise/" + path, "{}", token=False,
                          headers={"Authorization": "Bearer " + "0" * 48}).status == 401
    assert admin.call("GET", "/nothing").status == 404
    assert admin.call("POST", "/v1/reprise/stats", "{}").status == 405


def test_a_page_of_another_host_or_origin_is_refused(admin):
    assert admin.call("GET", "/metrics", headers={"Host": "evil.example"}).status == 403
    assert admin.call("GET", "/v1/reprise/stats", headers={"Origin": "https://evil.example"}).status == 403
    own = "%s:%d" % admin.address
    assert admin.call("GET", "/v1/reprise/stats", headers={"Origin": "http://" + own}).status == 200


def test_a_native_lookup_finds_what_the_proxied_request_stored(proxy, admin):
    proxy.chat("What is kept?", headers={"X-Reprise-Namespace": "n1"})
    found = proxy.call(path="/v1/reprise/lookup", body={"request": chat_body("What is kept?")},
                       headers={"X-Reprise-Namespace": "n1"})
    assert found.status == 200
    assert found.json["outcome"] == "hit" and found.json["tier"] == "exact"
    assert found.json["reply"]["choices"][0]["message"]["content"]
    assert re.fullmatch("[0-9a-f]{32}", found.json["entry"])
    # Another namespace, another model, another key: nothing.
    for body, headers, key in (
            ({"request": chat_body("What is kept?")}, {}, "sk-test-1"),
            ({"request": dict(chat_body("What is kept?"), model="other")}, {"X-Reprise-Namespace": "n1"}, "sk-test-1"),
            ({"request": chat_body("What is kept?")}, {"X-Reprise-Namespace": "n1"}, "sk-test-2")):
        other = proxy.call(path="/v1/reprise/lookup", body=body, headers=headers, key=key)
        assert other.json["outcome"] == "miss", other.json
    assert proxy.call(path="/v1/reprise/lookup", body={"prompt": "x"}, key=None).status == 401
    # The admin asks for the tenant by name.
    tenant = tenant_of(admin, proxy)
    again = admin.native("lookup", tenant=tenant, namespace="n1", request=chat_body("What is kept?"))
    assert again.json["entry"] == found.json["entry"]
    assert admin.native("lookup", request=chat_body("What is kept?")).status == 400


def test_what_a_native_store_keeps_answers_the_proxied_request(proxy, upstream):
    reply = {"id": "chatcmpl-own", "object": "chat.completion", "created": 1, "model": "gpt-test",
             "choices": [{"index": 0, "message": {"role": "assistant", "content": "By hand."},
                          "finish_reason": "stop"}],
             "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}
    stored = proxy.call(path="/v1/reprise/store", body={
        "request": chat_body("Stored by hand?"), "reply": reply, "ttl_seconds": 60, "tags": ["doc:1"]})
    assert stored.status == 201 and re.fullmatch("[0-9a-f]{32}", stored.json["entry"])
    hit = proxy.chat("Stored by hand?")
    assert hit.cache == "hit" and hit.text == "By hand."
    # A bare prompt is a family of its own.
    bare = proxy.call(path="/v1/reprise/store", body={"prompt": "bare?", "reply": "yes"})
    assert bare.status == 201
    assert proxy.call(path="/v1/reprise/lookup", body={"prompt": "bare?"}).json["reply"] == "yes"
    assert proxy.chat("bare?").cache == "miss"
    # What may not be kept is refused with a reason.
    reply["choices"][0]["finish_reason"] = "length"
    refused = proxy.call(path="/v1/reprise/store", body={"request": chat_body("cut?"), "reply": reply})
    assert refused.status == 400 and "not kept" in refused.json["error"]["message"]
    for body in ({}, {"prompt": "x"}, {"prompt": "x", "reply": "y", "tags": "t"}, {"prompt": "x", "replay": "y"}, []):
        assert proxy.call(path="/v1/reprise/store", body=body).status == 400


def test_explain_says_why(proxy):
    proxy.chat("Why is this so?")
    told = proxy.call(path="/v1/reprise/explain", body={"request": chat_body("Why is this so?")}).json
    assert told["outcome"] == "hit" and told["tier"] == "exact"
    assert told["fields"] and told["key"] and told["scope"]


def test_a_wrong_answer_is_removed_by_feedback(proxy):
    proxy.chat("Is it right?")
    hit = proxy.chat("Is it right?")
    assert hit.cache == "hit"
    entry, request = hit.headers["x-reprise-entry"], hit.headers["x-reprise-request"]
    assert proxy.call(path="/v1/reprise/feedback", body={"request_id": request, "correct": True}).status == 200
    assert proxy.call(path="/v1/reprise/feedback", body={"entry": entry, "correct": False},
                      key="sk-test-2").status == 404
    assert proxy.chat("Is it right?").cache == "hit"
    assert proxy.call(path="/v1/reprise/feedback",
                      body={"entry": entry, "correct": False, "reason": "old"}).status == 200
    assert proxy.chat("Is it right?").cache == "miss"


def test_invalidate_is_a_dry_run_until_confirmed_and_stays_with_its_tenant(proxy, admin):
    proxy.accept("sk-test-2")
    for key in ("sk-test-1", "sk-test-2"):
        proxy.chat("tagged", headers={"X-Reprise-Tags": "doc:42@v7"}, key=key)
        proxy.chat("plain", key=key)
    dry = proxy.call(path="/v1/reprise/invalidate", body={"tag": "doc:42@v7"})
    assert dry.json == {"matched": 1, "removed": 0}
    assert proxy.chat("tagged").cache == "hit"
    done = proxy.call(path="/v1/reprise/invalidate", body={"tag": "doc:42@v7", "confirm": True})
    assert done.json == {"matched": 1, "removed": 1}
    assert proxy.chat("tagged", headers={"Cache-Control": "no-store"}).cache == "miss"
    assert proxy.chat("plain").cache == "hit"
    assert proxy.chat("tagged", key="sk-test-2").cache == "hit"
    assert proxy.call(path="/v1/reprise/invalidate", body={}).status == 400
    assert proxy.call(path="/v1/reprise/invalidate", body={"tag": "x", "confirm": "yes"}).status == 400
    # A client cannot name a tenant; an admin may mean all of them.
    assert proxy.call(path="/v1/reprise/invalidate", body={"tag": "x", "tenant": "y"}).status == 400
    assert admin.native("invalidate", model="gpt-*", confirm=True).json["removed"] == 3
    assert proxy.chat("plain", key="sk-test-2").cache == "miss"


def test_a_flush_forgets_one_tenant_or_all(proxy, admin):
    proxy.accept("sk-test-2")
    for key in ("sk-test-1", "sk-test-2"):
        proxy.chat("to be flushed", key=key)
    assert proxy.call(path="/v1/reprise/flush", body={}).status == 400
    assert proxy.call(path="/v1/reprise/flush", body={"confirm": "flush"}).status == 200
    assert proxy.chat("to be flushed").cache == "miss"
    assert proxy.chat("to be flushed", key="sk-test-2").cache == "hit"
    assert admin.native("flush", confirm="flush").status == 200
    assert proxy.chat("to be flushed", key="sk-test-2").cache == "miss"


def test_what_is_exported_can_be_imported_elsewhere(proxy, admin, start):
    for i in range(300):
        proxy.chat("exported %d %s" % (i, "long " * (i % 50)))
    exported = admin.call("GET", "/v1/reprise/export").body
    lines = exported.decode().splitlines()
    assert len(lines) == 300 and all(json.loads(line)["prompt"].startswith("exported") for line in lines)
    other = start()
    other_admin = Admin(other)
    broken = exported + b'{"nonsense": 1}\nnot json\n'
    report = other_admin.call("POST", "/v1/reprise/import", broken).json
    assert report["imported"] == 300 and report["refused"] == 2
    assert report["first_error"].startswith("line 301: ")
    assert other_admin.call("GET", "/v1/reprise/stats").json["entries"] == 300
    # Tenants without a configured name are keyed hashes: another store's secret makes others.
    assert len(other_admin.call("GET", "/v1/reprise/export").body.decode().splitlines()) == 300


def test_an_export_that_nobody_reads_holds_nothing_up(proxy, admin):
    for i in range(50):
        proxy.chat("abandoned %d %s" % (i, "x" * 20000))
    connection = http.client.HTTPConnection(*admin.address, timeout=PATIENCE)
    connection.request("GET", "/v1/reprise/export", headers={"Authorization": "Bearer " + admin.token})
    connection.getresponse().read(10)
    connection.close()
    assert admin.call("GET", "/v1/reprise/stats").json["entries"] == 50


def run(admin, *arguments, stdin=None):
    return subprocess.run([BINARY, *arguments, "--admin", admin.url, "--token", admin.token],
                          input=stdin, capture_output=True, text=True, timeout=PATIENCE)


def test_the_commands_talk_to_a_server(proxy, admin, tmp_path):
    stored = run(admin, "store", "--tenant", "team", "--prompt", "asked by hand", "--reply", "told", "--tag", "t1")
    assert stored.returncode == 0, stored.stderr
    found = json.loads(run(admin, "lookup", "--tenant", "team", "--prompt", "asked by hand").stdout)
    assert found["outcome"] == "hit" and found["reply"] == "told"
    assert json.loads(run(admin, "stats").stdout)["entries"] == 1
    assert json.loads(run(admin, "explain", "--tenant", "team", "--prompt", "asked by hand").stdout)["tier"] == "exact"
    file = tmp_path / "entries.jsonl"
    assert run(admin, "export", str(file)).returncode == 0
    assert json.loads(file.read_text())["prompt"] == "asked by hand"
    assert json.loads(run(admin, "invalidate", "--tag", "t1").stdout) == {"matched": 1, "removed": 0}
    assert json.loads(run(admin, "invalidate", "--tag", "t1", "--confirm").stdout)["removed"] == 1
    imported = run(admin, "import", str(file))
    assert imported.returncode == 0 and json.loads(imported.stdout)["imported"] == 1
    entry = json.loads(run(admin, "lookup", "--tenant", "team", "--prompt", "asked by hand").stdout)["entry"]
    assert run(admin, "feedback", "--tenant", "team", "--entry", entry, "--wrong").returncode == 0
    assert json.loads(run(admin, "lookup", "--tenant", "team", "--prompt", "asked by hand").stdout)["outcome"] == "miss"
    assert run(admin, "flush", "--confirm").returncode == 0
    # What cannot be: a sentence and a status.
    assert run(admin, "lookup", "--tenant", "team").returncode == 2
    assert run(admin, "lookup", "--nonsense").returncode == 2
    refused = run(admin, "flush")
    assert refused.returncode == 1 and "confirm" in refused.stderr
    with socket.socket() as silent:  # bound, so that nobody else listens there, and never listened on
        silent.bind(("127.0.0.1", 0))
        url = "http://127.0.0.1:%d" % silent.getsockname()[1]
        nobody = subprocess.run([BINARY, "stats", "--admin", url], capture_output=True, text=True)
    assert nobody.returncode == 1 and "is `reprise serve` running there?" in nobody.stderr


def test_the_commands_look_into_a_stopped_store(start):
    server = start()
    server.accept()
    server.chat("kept when stopped")
    data = server.folder + "/data"
    busy = subprocess.run([BINARY, "flush", "--confirm", "--data", data, "--model", "none"],
                          capture_output=True, text=True)
    assert busy.returncode == 1, busy.stdout
    server.stop()
    exported = subprocess.run([BINARY, "export", "--data", data, "--model", "none"],
                              capture_output=True, text=True, timeout=PATIENCE)
    assert exported.returncode == 0, exported.stderr
    line = json.loads(exported.stdout)
    assert line["prompt"] == "kept when stopped"
    stats = subprocess.run([BINARY, "stats", "--data", data, "--model", "none"], capture_output=True, text=True)
    assert json.loads(stats.stdout)["entries"] == 1
    flushed = subprocess.run([BINARY, "flush", "--confirm", "--data", data, "--model", "none"],
                             capture_output=True, text=True)
    assert flushed.returncode == 0, flushed.stderr
    stats = subprocess.run([BINARY, "stats", "--data", data, "--model", "none"], capture_output=True, text=True)
    assert json.loads(stats.stdout)["entries"] == 0


def test_many_calls_at_once_are_all_answered(proxy, admin):
    wrong = []

    def ask(number):
        for i in range(20):
            reply = admin.native("store", tenant="t%d" % number, prompt="p%d" % i, reply="r%d" % i)
            if reply.status != 201:
                wrong.append(reply.body)
            if admin.native("lookup", tenant="t%d" % number, prompt="p%d" % i).json["reply"] != "r%d" % i:
                wrong.append(i)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def kept(admin):
    return admin.call("GET", "/v1/reprise/stats").json["entries"]


def test_a_member_of_another_type_is_refused_and_never_means_all(proxy, admin):
    for i in range(3):
        proxy.chat("of which type %d?" % i, headers={"X-Reprise-Namespace": "n", "X-Reprise-Tags": "t"})
    admin.wait_until_committed(3)
    # Each of these selected more than it says: a member that was not understood was left out.
    for body in ({"tenant": 7}, {"tenant": ""}, {"tenant": None}):
        assert admin.native("flush", confirm="flush", **body).status == 400, body
    for body in ({"tag": 5, "namespace": "n"}, {"tag": "", "namespace": "n"}, {"entry": None, "tag": "t"},
                 {"tenant": 5, "tag": "t"}, {"tenant": "", "tag": "t"}, {"model": ["*"], "tag": "t"},
                 {"tag": "t", "older_than_seconds": "1d"}, {"tag": "t", "older_than_seconds": -5},
                 {"tag": "t", "older_than_seconds": 0}, {"tag": "t", "older_than_seconds": 1.5},
                 {"tag": "t", "confirm": 1}):
        refused = admin.native("invalidate", **{"confirm": True, **body})
        assert refused.status == 400 and "must be" in refused.json["error"]["message"], body
    assert kept(admin) == 3
    # The calendar's end is no type error: nothing is so old.
    for seconds in (10**18, 2**64 - 1):
        assert admin.native("invalidate", tag="t", older_than_seconds=seconds).json["matched"] == 0
    assert admin.native("invalidate", tag="t", namespace="n").json["matched"] == 3
    for name, body in (("lookup", {"min_similarity": "0.9"}), ("lookup", {"min_similarity": 1.5}),
                       ("lookup", {"error_max": -1}), ("lookup", {"max_age_seconds": "1"}),
                       ("lookup", {"namespace": 5}), ("lookup", {"reply": "y"}), ("explain", {"ttl_seconds": 5}),
                       ("store", {"reply": 5}), ("store", {"reply": "y", "ttl_seconds": "5"}),
                       ("store", {"reply": "y", "ttl_seconds": 0}), ("store", {"reply": "y", "min_similarity": 1})):
        assert admin.native(name, tenant="t", prompt="x", **body).status == 400, (name, body)
    assert admin.native("lookup", tenant="t", request="x").status == 400
    # Not given, as a client's library writes it.
    assert admin.native("lookup", tenant="t", prompt="x", namespace=None, user=None).status == 200
    assert kept(admin) == 3


def test_a_lifetime_beyond_the_calendar_is_for_ever(proxy, admin):
    for seconds in (1, 315360000000, 9 * 10**12, (2**63 - 1) // 10**6 - 1, 10**18, 2**64 - 1):
        prompt = "how long is %d?" % seconds
        assert proxy.call(path="/v1/reprise/store", body={"prompt": prompt, "reply": "long", "ttl_seconds": seconds}).status == 201
    for line in admin.call("GET", "/v1/reprise/export").body.decode().splitlines():
        entry = json.loads(line)
        seconds = int(re.search(r"\d+", entry["prompt"]).group())
        whole = entry["created"] + seconds * 10**6
        assert entry["expires"] == (whole if whole < 2**63 else 0), entry
    assert proxy.call(path="/v1/reprise/lookup", body={"prompt": "how long is %d?" % 10**18}).json["outcome"] == "hit"


def test_a_query_that_is_not_understood_exports_nothing(proxy, admin):
    proxy.chat("exported to whom?")
    admin.wait_until_committed(1)
    for query in ("tennant=x", "tenant=", "tenant=%00", "tenant=%zz", "tenant", "vectors=yes", "tenant=a&tenant=b",
                  "tenant=" + "x" * 300, "&"):
        refused = admin.call("GET", "/v1/reprise/export?" + query)
        assert refused.status == 400 and "prompt" not in refused.body.decode(), query
    assert admin.call("POST", "/v1/reprise/import?trust_vectors=1", "").status == 400
    assert admin.call("GET", "/v1/reprise/export?tenant=nobody").body == b""
    assert len(admin.call("GET", "/v1/reprise/export?model=gpt-%2A&vectors=false").body.splitlines()) == 1


def test_what_is_read_is_a_get(admin):
    for path in ("/healthz", "/readyz", "/metrics", "/v1/reprise/stats"):
        assert admin.call("HEAD", path).status == 200
        for method in ("POST", "PUT", "DELETE"):
            assert admin.call(method, path).status == 405, (method, path)
    assert admin.call("DELETE", "/v1/reprise/export").status == 404


def test_an_import_takes_lines_longer_than_its_buffers(admin, tmp_path):
    """A line of more than a MiB once waited for room that only its own end would have made."""
    file = tmp_path / "long.jsonl"
    sizes = (10, 3 << 20, 2 << 20, 5 << 20, 100)
    file.write_text("".join(json.dumps({"tenant": "t", "prompt": "of %d" % size, "reply": "x" * size}) + "\n"
                            for size in sizes).rstrip("\n"))
    report = run(admin, "import", str(file))
    # Five MiB are more than may be cached, and a line that is refused is a failure.
    assert report.returncode == 1
    assert json.loads(report.stdout) == {"imported": 4, "expired": 0, "refused": 1,
                                         "first_error": "line 4: the reply is not kept: size"}
    for size in sizes[:3]:
        found = admin.native("lookup", tenant="t", prompt="of %d" % size).json
        assert found["outcome"] == "hit" and len(found["reply"]) == size


def test_a_line_that_never_ends_is_refused(admin):
    with socket.create_connection(admin.address, timeout=PATIENCE) as connection:
        connection.sendall(b"POST /v1/reprise/import HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n"
                           b"Transfer-Encoding: chunked\r\n\r\n" % admin.token.encode())
        piece = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
        try:
            for _ in range(70):
                connection.sendall(piece)
        except OSError:
            pass  # it has said what it has to say
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_the_commands_refuse_what_would_mean_everything(proxy, admin, tmp_path, start):
    proxy.chat("kept by the commands")
    admin.wait_until_committed(1)
    data = ("--data", proxy.folder + "/data", "--model", "none")

    def both(*arguments):
        def ask(where):
            return subprocess.run([BINARY, *arguments, *where], capture_output=True, text=True, timeout=PATIENCE)
        return ask(("--admin", admin.url, "--token", admin.token)), ask(data)

    wrong = (("flush", "--confirm", "--tenant", ""), ("invalidate", "--tag", "", "--namespace", "n"),
             ("invalidate", "--older-than", "0"), ("invalidate", "--older-than", "-1"),
             ("lookup", "--tenant", "t", "--prompt", "x", "--min-similarity", "9"),
             ("store", "--tenant", "t", "--prompt", "x", "--reply", "y", "--ttl", "0"),
             ("import", str(tmp_path)), ("import", str(tmp_path / "nothing")))
    for arguments in wrong:
        assert both(*arguments)[0].returncode == 2, arguments
    assert kept(admin) == 1
    tenant = tenant_of(admin, proxy)
    served = json.loads(both("lookup", "--tenant", tenant, "--prompt", "nothing so")[0].stdout)
    proxy.stop()
    for arguments in wrong:
        assert both(*arguments)[1].returncode == 2, arguments
    stopped = json.loads(both("lookup", "--tenant", tenant, "--prompt", "nothing so")[1].stdout)
    assert stopped == served  # one shape, whoever answers
    assert json.loads(both("stats")[1].stdout)["entries"] == 1
    # Looking into or emptying a folder without a store does not make one.
    for arguments in (("stats",), ("flush", "--confirm"), ("invalidate", "--tag", "t"), ("export",)):
        absent = subprocess.run([BINARY, *arguments, "--data", str(tmp_path / "absent"), "--model", "none"],
                                capture_output=True, text=True, timeout=PATIENCE)
        assert absent.returncode == 2 and "no store" in absent.stderr, (arguments, absent.stderr)
    assert not (tmp_path / "absent").exists()


def test_what_is_exported_answers_byte_for_byte_elsewhere(start):
    """In every protocol, as a body and as a stream; ids and times of a replay aside."""
    service = Mock()
    try:
        tenants = "tenants: [ { name: support, keys: [ sk-support-1 ] } ]"
        upstreams = "[ { name: service, url: %s } ]" % service.url
        asked = [("/v1/chat/completions", chat_body('plain "\u00fcnicode"\n\t\u2028 \U0001f600')),
                 ("/v1/chat/completions", chat_body("as a stream", stream=True)),
                 ("/v1/completions", {"model": "m", "prompt": "completed"}),
                 ("/v1/embeddings", {"model": "m", "input": "embedded"}),
                 ("/v1/messages", {"model": "m", "max_tokens": 500,
                                   "messages": [{"role": "user", "content": "message"}]}),
                 ("/v1/responses", {"model": "m", "store": False, "input": "responded"})]

        def ask(server, path, body, **headers):
            return server.call(path=path, body=body, key="sk-support-1",
                               headers={"X-Reprise-Namespace": "n 1", "X-Reprise-Tags": "a,b", **headers})

        def answers(server):
            replies = []
            for path, body in asked:
                for form in (body, dict(body, stream=not body.get("stream"))):
                    if path == "/v1/embeddings" and form is not body:
                        continue
                    reply = ask(server, path, form, **{"Cache-Control": "only-if-cached"})
                    assert reply.cache == "hit", (path, form, reply.reason)
                    replies.append(re.sub(rb'"(id|item_id|created|created_at)":("[^"]*"|[0-9.]+)', b"", reply.body))
            return replies

        first = start(tenants, upstreams=upstreams)
        for path, body in asked:
            assert ask(first, path, body).status == 200
        Admin(first).wait_until_committed(len(asked))
        exported = Admin(first).call("GET", "/v1/reprise/export").body
        second = start(tenants, upstreams=upstreams)
        report = Admin(second).call("POST", "/v1/reprise/import", exported).json
        assert report == {"imported": len(asked), "expired": 0, "refused": 0, "first_error": None}
        second.accept("sk-support-1")
        assert answers(second) == answers(first)
        again = Admin(second).call("GET", "/v1/reprise/export").body
        assert sorted(again.splitlines()) == sorted(exported.splitlines())
    finally:
        service.stop()


def test_the_least_budgets_that_are_accepted_are_kept(start):
    server = start("memory_max: 8MiB\ndisk_max: 4MiB")
    server.accept()
    admin = Admin(server)
    for i in range(300):
        assert server.chat("entry %d %s" % (i, "of some size " * 800)).status == 200
    wait_until(lambda: admin.metrics()['reprise_evictions_total{reason="budget"}'] > 0, "nothing was evicted")
    stats = admin.call("GET", "/v1/reprise/stats").json
    assert 0 < stats["entries"] < 300 and not stats["admission_paused"]
    assert stats["disk_bytes"] <= 4 << 20 and stats["memory_bytes"] <= 8 << 20
    assert os.path.getsize(server.folder + "/data/data.mdb") <= 4 << 20
    assert admin.call("GET", "/readyz").status == 200
