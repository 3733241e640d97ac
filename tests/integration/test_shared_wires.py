"""One answer for several protocols, where a route asks for it (share_wires).

What could go wrong: protocols that share although nobody asked; questions that are not equal
and share; a reply that loses something on its way into another protocol; a stream that the
other protocol's own client does not understand.
"""
import json

import pytest

from mock import Mock
from proxy import Admin, wait_until

SHARED = "routes: [ { match: { model: '*' }, cache: { share_wires: true } } ]"
QUESTION = "Why is the sky blue?"


def ask(proxy, wire, question=QUESTION, stream=False, system=None, limit=100, model="gpt-test", **more):
    turn = {"role": "user", "content": question}
    if wire == "chat":
        body = {"messages": ([{"role": "system", "content": system}] if system else []) + [turn],
                "max_completion_tokens": limit}
        path = "/v1/chat/completions"
    elif wire == "responses":
        body = {"input": question, "max_output_tokens": limit, "store": False,
                **({"instructions": system} if system else {})}
        path = "/v1/responses"
    else:
        body = {"messages": [turn], "max_tokens": limit, **({"system": system} if system else {})}
        path = "/v1/messages"
    headers = {"anthropic-version": "2023-06-01"} if wire == "messages" else {}
    return proxy.call(path=path, body={"model": model, "stream": stream, **body, **more},
                      headers=headers)


def text_of(wire, reply):
    body = reply.json
    if wire == "chat":
        return body["choices"][0]["message"]["content"]
    return body["output"][0]["content"][0]["text"] if wire == "responses" else body["content"][0]["text"]


def tokens_of(wire, reply):
    usage = reply.json["usage"]
    return ((usage["prompt_tokens"], usage["completion_tokens"]) if wire == "chat"
            else (usage["input_tokens"], usage["output_tokens"]))


@pytest.fixture
def mock():
    service = Mock()
    yield service
    service.stop()


@pytest.fixture
def shared(start, mock):
    proxy = start(SHARED, upstreams="[ { name: mock, url: %s } ]" % mock.url)
    proxy.accept()
    return proxy


WIRES = ("chat", "responses", "messages")


@pytest.mark.parametrize("other", WIRES)
@pytest.mark.parametrize("first", WIRES)
def test_what_one_protocol_stored_answers_the_others(shared, mock, first, other):
    for stored_as_stream in (False, True):
        question = "%s Really %s?" % (QUESTION, stored_as_stream)
        miss = ask(shared, first, question, stored_as_stream, system="Be brief.")
        assert (miss.status, miss.cache) == (200, "miss")
        asked = mock.requests
        hit = ask(shared, other, question, system="Be brief.")
        assert hit.cache == "hit", hit.reason
        own = ask(shared, first, question, system="Be brief.")
        assert text_of(other, hit) == text_of(first, own) != ""
        assert tokens_of(other, hit) == tokens_of(first, own)
        assert mock.requests == asked
        stream = ask(shared, other, question, True, system="Be brief.")
        assert stream.cache == "hit"
        assert stream.headers["content-type"].startswith("text/event-stream")


def test_the_clients_of_the_protocols_understand_what_crossed(shared):
    """Stored by chat; read by the real packages, whole and streamed."""
    import openai
    client = openai.OpenAI(api_key="sk-test-1", base_url="http://%s:%d/v1" % shared.address,
                           max_retries=0)
    assert ask(shared, "chat").cache == "miss"
    wanted = text_of("chat", ask(shared, "chat"))
    plain = client.responses.create(model="gpt-test", input=QUESTION, max_output_tokens=100, store=False)
    assert plain.output_text == wanted and plain.status == "completed"
    with client.responses.stream(model="gpt-test", input=QUESTION, max_output_tokens=100,
                                 store=False) as events:
        for _ in events:
            pass
        assert events.get_final_response().output_text == wanted
    anthropic = pytest.importorskip("anthropic")
    claude = anthropic.Anthropic(api_key="sk-test-1", base_url="http://%s:%d" % shared.address,
                                 max_retries=0)
    asked = {"model": "gpt-test", "max_tokens": 100, "messages": [{"role": "user", "content": QUESTION}]}
    message = claude.messages.create(**asked)
    assert message.content[0].text == wanted and message.stop_reason == "end_turn"
    with claude.messages.stream(**asked) as events:
        assert events.get_final_message().content[0].text == wanted


def test_without_the_key_protocols_never_meet(start, mock):
    proxy = start(upstreams="[ { name: mock, url: %s } ]" % mock.url)
    proxy.accept()
    for wire in WIRES:
        assert ask(proxy, wire).cache == "miss"
        assert ask(proxy, wire).cache == "hit"


@pytest.mark.parametrize("wire", ["responses", "messages"])
@pytest.mark.parametrize("change", [
    {"system": "Be verbose."}, {"limit": 101}, {"model": "gpt-other"}, {"temperature": 0.5},
    {"question": "Why is the sea blue?"}])
def test_what_separates_within_a_protocol_separates_between_them(shared, change, wire):
    ask(shared, "chat", system="Be brief.")
    assert ask(shared, wire, system="Be brief.").cache == "hit"
    assert ask(shared, wire, **{"system": "Be brief.", **change}).cache == "miss"


def test_a_reply_that_the_service_keeps_does_not_cross(shared):
    ask(shared, "chat")
    assert ask(shared, "responses", store=True).cache == "miss"
    assert ask(shared, "responses", store=True).cache == "hit"  # its own


def test_what_has_no_place_in_the_other_protocol_does_not_cross(start, upstream):
    """A reply with a member that only chat has: the other protocol asks for itself, and what it
    gets takes the entry's place instead of never being kept."""
    proxy = start(SHARED)
    proxy.accept()
    upstream.extra_members = {"citations": ["https://example.org"]}
    try:
        assert ask(proxy, "chat").cache == "miss"
        crossed = ask(proxy, "messages")
    finally:
        upstream.extra_members = {}
    assert (crossed.cache, crossed.reason) == ("miss", "form")
    assert ask(proxy, "chat").cache == "hit"


def test_similar_questions_cross_too(start, mock, encoder):
    proxy = start("lookup_deadline: 60s\nroutes: [ { match: { model: '*' }, cache: { share_wires: true, "
                  "policy: 'static:min_similarity=0.8' } } ]", model=encoder,
                  upstreams="[ { name: mock, url: %s } ]" % mock.url)
    proxy.accept()
    ask(proxy, "messages", "How do I bake bread at home?")
    proxy.wait_for_metric("reprise_vectors", 1)
    reply = ask(proxy, "chat", "How can I bake bread at home?")
    assert (reply.cache, reply.headers["x-reprise-cache-tier"]) == ("hit", "semantic")
    wait_until(lambda: proxy.metric("reprise_vectors") == 1, "another entry was made")


def test_a_reply_that_is_kept_late_remembers_its_own_callers_headers(start, encoder):
    """The vector is made after the reply was sent, when the request's bytes are gone."""
    proxy = start("lookup_deadline: 60s\n" + SHARED, model=encoder)
    proxy.accept()
    wanted = set()
    for i in range(20):
        wanted.add("org-%d-%s" % (i, "x" * 40))
        for _ in range(2):  # the second overwrites what the first may have left behind
            reply = proxy.chat("Question %d?" % i, {
                "Cache-Control": "no-cache", "OpenAI-Organization": "org-%d-%s" % (i, "x" * 40)})
            assert reply.cache == "refresh"
            assert proxy.call("GET", "/nothing", headers={"X-Filler": "y" * 400}).status == 404
    admin = Admin(proxy)

    def exported():
        lines = admin.call("GET", "/v1/reprise/export").body.decode().splitlines()
        return [json.loads(line)["scope"]["attributes"] for line in lines]

    wait_until(lambda: len(exported()) == 20, "not all were kept")
    assert {value for attributes in exported() for _, value in attributes} == wanted
    assert {name for attributes in exported() for name, _ in attributes} == {"openai-organization"}
