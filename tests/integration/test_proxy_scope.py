"""Nobody gets an answer that belongs to somebody else.

What could go wrong: two callers share by accident; a caller without a credential, or with
one that was revoked, is answered from the store.
"""
import concurrent.futures
import http.client
import json
import os
import time

import pytest

from proxy import Admin, PATIENCE, wait_until, while_it_lasts


def test_callers_with_different_keys_share_nothing(proxy, upstream):
    proxy.accept("sk-test-2")
    proxy.chat("My balance is what?", key="sk-test-1")
    assert proxy.chat("My balance is what?", key="sk-test-2").cache == "miss"
    assert upstream.count() == 2


def test_without_a_credential_the_cache_has_no_part(proxy, upstream):
    for _ in range(2):
        reply = proxy.chat("Hello", key=None)
        assert (reply.status, reply.cache) == (200, "bypass")
        assert "detail=no-credential" in reply.headers["cache-status"]
    assert upstream.count() == 2


def test_a_key_gets_hits_only_after_the_upstream_accepted_it(start, upstream):
    proxy = start()
    first = proxy.chat("Hello", key="sk-new")
    assert (first.cache, first.reason) == ("miss", "credential-unproven")
    assert proxy.chat("Hello", key="sk-new").cache == "hit"


@pytest.mark.parametrize("status", [401, 403])
def test_a_revoked_key_gets_no_hits(proxy, upstream, status):
    proxy.chat("Hello", key="sk-gone")
    assert proxy.chat("Hello", key="sk-gone").cache == "hit"
    upstream.rejection = status
    upstream.rejected_keys.add("sk-gone")
    # Until the upstream has spoken again, the key is still good for what is stored.
    assert proxy.chat("Something else", key="sk-gone").status == status
    reply = proxy.chat("Hello", key="sk-gone")
    assert (reply.status, reply.cache) == (status, "miss")


def test_what_anybody_may_see_accepts_no_key(start, upstream):
    """A service that lists its models without a look at the key: a revoked one stays revoked."""
    proxy = start()
    assert proxy.chat("Hello", key="sk-old").status == 200
    assert proxy.chat("Hello", key="sk-old").cache == "hit"
    upstream.rejected_keys.add("sk-old")
    assert proxy.chat("Other", key="sk-old").status == 401
    upstream.rejected_keys.clear()  # the list of models is public
    for method, path in (("GET", "/v1/models"), ("HEAD", "/v1/models"), ("POST", "/v1/files")):
        assert proxy.call(method, path, key="sk-old").status == 200
    upstream.rejected_keys.add("sk-old")
    reply = proxy.chat("Hello", key="sk-old")
    assert (reply.status, reply.reason) == (401, "credential-unproven")


def test_a_crash_does_not_bring_a_revoked_key_back(start, upstream, tmp_path):
    first = start(folder=tmp_path)
    for key in ("sk-gone", "sk-stays"):
        first.chat("Hello", key=key)
        assert first.chat("Hello", key=key).cache == "hit"
    Admin(first).wait_until_committed(2)
    upstream.rejected_keys.add("sk-gone")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:  # work for the writer
        list(pool.map(lambda i: first.chat(os.urandom(1 << 20).hex(), key="sk-stays"), range(12)))
    assert first.chat("Something else", key="sk-gone").status == 401
    first.kill()  # who has seen the 401 can rely on it
    second = start(folder=tmp_path)
    reply = second.chat("Hello", key="sk-gone")
    assert (reply.status, reply.cache, reply.reason) == (401, "miss", "credential-unproven")
    assert second.chat("Hello", key="sk-stays").cache == "hit"


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_long_refusal_is_held_as_a_short_one(start, upstream, tmp_path, framing):
    """However long its body is and however it is framed: whoever has seen its head can rely
    on it. All of it arrives, also when nothing had to be held."""
    first = start(folder=tmp_path)
    for key in ("sk-gone", "sk-stays"):
        first.chat("Hello", key=key)
    Admin(first).wait_until_committed(2)
    upstream.rejected_keys.add("sk-gone")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:  # work for the writer
        list(pool.map(lambda i: first.chat(os.urandom(1 << 20).hex(), key="sk-stays"), range(12)))
    body = json.dumps({"model": "gpt-test", "messages": [{"role": "user", "content": "Else"}]})
    connection = http.client.HTTPConnection(*first.address, timeout=PATIENCE)
    connection.request("POST", "/v1/chat/completions", body, {
        "Authorization": "Bearer sk-gone", "X-Test": "long=" + framing})
    assert connection.getresponse().status == 401
    first.kill()
    second = start(folder=tmp_path)
    reply = second.chat("Hello", {"X-Test": "long=" + framing}, key="sk-gone")
    assert (reply.status, reply.cache, reply.reason) == (401, "miss", "credential-unproven")
    assert len(reply.json["error"]["message"]) == 300000
    upstream.rejected_keys.clear()
    second.chat("Hello", key="sk-gone")
    upstream.rejected_keys.add("sk-gone")
    reply = second.chat("Again", {"X-Test": "long=" + framing}, key="sk-gone")
    assert (reply.status, len(reply.json["error"]["message"])) == (401, 300000)


def test_a_refusal_that_is_held_is_the_upstreams(proxy, upstream):
    proxy.chat("Hello", key="sk-gone")
    upstream.rejected_keys.add("sk-gone")
    replies = [proxy.chat("Something else", key="sk-gone") for _ in range(2)]  # held, not held
    for reply in replies:
        assert reply.status == 401 and reply.json["error"]["code"] == "invalid_api_key"
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["x-reprise-cache"] == "miss"


def test_an_acceptance_ends_with_credential_ttl(start, upstream):
    def ask_twice(seconds):
        proxy = start("credential_ttl: %ds" % seconds)
        proxy.chat("Hello")
        return proxy, proxy.chat("Hello")

    seconds, (proxy, hit) = while_it_lasts(ask_twice)
    assert hit.cache == "hit"
    time.sleep(seconds + 0.1)
    assert proxy.chat("Hello").cache == "miss"


def test_a_configured_tenant_joins_its_callers(start, upstream):
    proxy = start('tenants: [ { name: support, keys: [ sk-support-1, sk-support-2 ], '
                  'upstream_key: sk-upstream } ]')
    text = proxy.chat("Opening hours?", key="sk-support-1").text
    reply = proxy.chat("Opening hours?", key="sk-support-2")
    assert (reply.cache, reply.text) == ("hit", text)
    assert upstream.requests[0].headers["authorization"] == "Bearer sk-upstream"
    assert proxy.chat("Opening hours?", key="sk-stranger").cache == "miss"


def test_a_tenant_that_forwards_keys_waits_for_each_to_be_accepted(start, upstream):
    proxy = start("tenants: [ { name: support, keys: [ sk-support-1, sk-support-2 ] } ]")
    proxy.chat("Opening hours?", key="sk-support-1")
    upstream.rejected_keys.add("sk-support-2")
    assert proxy.chat("Opening hours?", key="sk-support-2").status == 401
    assert proxy.chat("Opening hours?", key="sk-support-1").cache == "hit"


def test_a_revoked_key_is_not_vouched_for_by_another(start, upstream):
    # The test's upstream looks at Authorization; here another header brings a second key.
    proxy = start("tenants: [ { name: public, anonymous: true } ]")
    for _ in range(2):
        reply = proxy.chat("Hello", headers={"x-api-key": "sk-other"}, key="sk-test-1")
        assert (reply.cache, reply.reason) == ("bypass", "several-credentials")
    assert proxy.chat("Hello", headers={"api-key": "sk-test-1"}, key="sk-test-1").cache == "miss"
    assert proxy.chat("Hello", headers={"api-key": "sk-test-1"}, key="sk-test-1").cache == "hit"


def test_anonymous_callers_only_where_configured(start, upstream):
    proxy = start("tenants: [ { name: public, anonymous: true } ]")
    assert proxy.chat("Hello", key=None).cache == "miss"
    assert proxy.chat("Hello", key=None).cache == "hit"
    assert proxy.chat("Hello", key="sk-somebody").cache == "miss"


def test_namespaces_divide_a_tenant(proxy):
    proxy.chat("Hello", headers={"X-Reprise-Namespace": "a"})
    assert proxy.chat("Hello", headers={"X-Reprise-Namespace": "a"}).cache == "hit"
    assert proxy.chat("Hello", headers={"X-Reprise-Namespace": "b"}).cache == "miss"
    assert proxy.chat("Hello").cache == "miss"
    assert proxy.chat("Hello", headers={"x-portkey-cache-namespace": "a"}).cache == "hit"


def test_personal_prompts_answer_the_same_user_only(proxy):
    proxy.chat("What is on my calendar?", user="anna")
    assert proxy.chat("What is on my calendar?", user="anna").cache == "hit"
    assert proxy.chat("What is on my calendar?", user="bert").cache == "miss"


def test_no_secret_and_no_prompt_reaches_logs(proxy):
    def logged():
        with open(proxy.access_log) as file:
            return file.read()

    proxy.chat("zebra crossing prompt", key="sk-very-secret")
    proxy.chat("zebra crossing prompt", key="sk-very-secret")
    wait_until(lambda: '"outcome":"hit"' in logged() and '"outcome":"miss"' in logged(),
               "the two requests are never logged")
    text = logged() + "".join(proxy.lines)
    assert "zebra" not in text and "very-secret" not in text


def test_a_tenant_holds_no_more_of_the_disk_than_its_share(start):
    tenants = ("disk_max: 8MiB\ntenants: [ { name: small, keys: [ sk-small-1 ], share_max: %s, "
               "upstream_key: sk-up }, { name: usual, keys: [ sk-usual-1 ], upstream_key: sk-up } ]")
    proxy = start(tenants % "0.03")
    prompts = [os.urandom(5000).hex() for _ in range(30)]

    def kept(key):
        asked = [proxy.chat(prompt, {"Cache-Control": "only-if-cached"}, key=key)
                 for prompt in prompts]
        return sum(reply.cache == "hit" for reply in asked)

    for key in ("sk-small-1", "sk-usual-1"):
        for prompt in prompts:
            assert proxy.chat(prompt, key=key).status == 200
    wait_until(lambda: kept("sk-small-1") < 20, "the share does not hold")
    assert kept("sk-usual-1") == 30 and kept("sk-small-1") > 0
    proxy.reload("\n".join(proxy.config.split("\n")[:2]) + "\n" + tenants % "0.5")
    for prompt in prompts:
        proxy.chat(prompt, key="sk-small-1")
    wait_until(lambda: kept("sk-small-1") == 30, "the new share does not hold")
