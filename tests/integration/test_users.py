"""What users of other caches lost or complained about, and what must hold here instead.

Each test drives the running server as a client would. The facts that have a test of
their own elsewhere (isolation, streams, errors) are not repeated here; docs/field-lessons.md
says which test stands for which lesson.
"""
import json
import math
import os
import shutil
import signal
import struct
import subprocess
import time

import pytest

from mock import Mock
from proxy import BINARY, PATIENCE, Admin, chat_body, wait_until, while_it_lasts

LOOSE = "lookup_deadline: 60s\nroutes: [ { match: { model: '*' }, cache: { policy: " \
        "'static:min_similarity=0.5', min_similarity: 0.5 } } ]"


def nearest(proxy, prompt, **arguments):
    """What explain says about the best candidate."""
    told = proxy.call(path="/v1/reprise/explain", body={"request": chat_body(prompt)}, **arguments)
    assert told.status == 200
    return told.json["candidates"][0]


@pytest.fixture
def semantic(start, encoder):
    server = start(LOOSE, model=encoder)
    server.accept()
    return server


def test_what_differs_after_the_window_is_not_the_same(semantic):
    """Both prompts begin with the same windows of the encoder."""
    filler = "The committee met again to discuss the harbour and its many fishing boats. " * 60
    bridge = "The northern bridge carries trains over a deep valley of steel and stone. " * 15
    cats = "Several friendly cats sleep beside warm ovens whenever bakers make bread. " * 15
    assert semantic.chat(filler + bridge).cache == "miss"
    semantic.wait_for_metric("reprise_vectors", 1)
    reply = semantic.chat(filler + cats, headers={"Cache-Control": "no-store"})
    assert (reply.cache, reply.reason) == ("miss", "similarity")
    # What decided is the pair of windows that differs, not the mean of all.
    assert nearest(semantic, filler + cats)["similarity"] < 0.5
    # As long, with the same beginning and a tail in other words: it is not the length that
    # kept them apart.
    near = filler + bridge.replace("deep valley", "deep gorge", 1)
    assert semantic.wait_for_hit(near).headers["x-reprise-cache-tier"] == "semantic"


def test_very_long_prompts_are_served_exactly_only(semantic):
    text = "boats and harbours and lighthouses " * 3000
    assert semantic.chat(text + "a").cache == "miss"
    assert semantic.chat(text + "b").cache == "miss"
    assert semantic.wait_for_hit(text + "a").headers.get("x-reprise-cache-tier") == "exact"


def test_text_the_encoder_cannot_read_is_not_matched(semantic):
    semantic.chat("怎么重置我的密码？")
    semantic.wait_for_metric("reprise_vectors", 1)
    for other in ("今天北京的天气怎么样？", "推荐一家好吃的餐厅", "怎样重置密码？"):
        reply = semantic.chat(other)
        assert (reply.cache, reply.reason) == ("miss", "gate-unknown")


def test_a_threshold_of_one_lets_no_paraphrase_through(start, encoder):
    strict = start("lookup_deadline: 60s\nroutes: [ { match: { model: '*' }, cache: "
                   "{ policy: 'static:min_similarity=1' } } ]", model=encoder)
    strict.accept()
    strict.chat("How do I reset a password?")
    strict.wait_for_metric("reprise_vectors", 1)
    reply = strict.chat("How can I reset a password?")
    assert (reply.cache, reply.reason) == ("miss", "similarity")


def test_the_same_follow_up_in_another_conversation_is_another_question(semantic):
    def ask(name):
        return semantic.call(body={"model": "gpt-test", "messages": [
            {"role": "user", "content": "Who is %s?" % name},
            {"role": "assistant", "content": "A person."},
            {"role": "user", "content": "How old is he?"}]})
    assert ask("Alan Turing").cache == "miss"
    assert ask("Paul Erdos").cache == "miss"
    assert ask("Alan Turing").cache == "hit"


def test_personal_and_temporal_prompts_need_the_same_user_in_both_tiers(semantic):
    for stored, asked in (("What is my balance?", "What is my balance now?"),
                          ("What is the latest news about Mars?",
                           "What is the latest news on Mars?")):
        semantic.chat(stored, user="anna")
        semantic.chat("How do I bake bread at home?")
        semantic.wait_for_hit("How can I bake bread at home?")
        assert semantic.chat(stored, user="bert").cache == "miss"
        assert semantic.chat(asked, user="carl").cache == "miss"


def test_a_temporal_answer_is_old_after_volatile_ttl(start):
    def ask_twice(seconds):
        server = start("routes: [ { match: { model: '*' }, cache: { volatile_ttl: %ds } } ]" % seconds)
        server.accept()
        server.chat("What is a hot-air balloon?", user="u")
        server.chat("What is the weather today?", user="u")
        return server, server.chat("What is the weather today?", user="u")

    seconds, (server, hit) = while_it_lasts(ask_twice)
    assert hit.cache == "hit"
    time.sleep(seconds + 0.3)
    assert server.chat("What is the weather today?", user="u").cache == "miss"
    assert server.chat("What is a hot-air balloon?", user="u").cache == "hit"


def test_truncated_and_filtered_answers_are_never_kept(proxy):
    for reason in ("length", "content_filter"):
        for stream in (False, True):
            prompt = "Tell a story %s %s" % (reason, stream)
            wish = {"X-Test": "finish=" + reason}
            proxy.chat(prompt, headers=wish, stream=stream)
            assert proxy.chat(prompt, stream=stream).cache == "miss"
            assert proxy.chat(prompt, stream=stream).cache == "hit"


def test_a_lifetime_is_clamped(start):
    server = start("routes: [ { match: { model: '*' }, cache: { ttl: 50s, ttl_max: 100s } } ]")
    server.accept()
    server.chat("Hello", headers={"X-Reprise-TTL": "99999999"})
    status = server.chat("Hello").headers["cache-status"]
    assert 50 < int(status.split("ttl=")[1].split(";")[0]) <= 100


def test_a_hit_says_that_its_latency_is_not_the_services(proxy):
    miss = proxy.chat("Hello")
    hit = proxy.chat("Hello")
    assert "x-reprise-latency" not in miss.headers
    assert hit.headers["x-reprise-latency"] == "synthetic"
    assert hit.headers["x-reprise-billed-tokens"] == "0"


def test_another_encoder_is_loud_and_exact_only(start, encoder, tmp_path):
    first = start(LOOSE, model=encoder, folder=tmp_path)
    first.accept()
    first.chat("How do I reset my PIN?")
    first.stop()
    other = tmp_path / "other"
    other.mkdir()
    for name in os.listdir(encoder):
        if name != "model.safetensors":
            (other / name).symlink_to(os.path.join(encoder, name))
    data = bytearray(open(os.path.join(encoder, "model.safetensors"), "rb").read())
    data[-1000] ^= 1
    (other / "model.safetensors").write_bytes(data)
    second = start(LOOSE, model=str(other), folder=tmp_path)
    second.accept()
    second.wait_for_line("reembed")
    assert second.chat("How do I reset my PIN?").headers.get("x-reprise-cache-tier") == "exact"
    assert second.chat("How can I reset my PIN?").cache == "miss"
    os.remove(other / "model.safetensors")


def test_a_broken_configuration_at_hup_changes_nothing(proxy):
    proxy.chat("Hello")
    with open(proxy.config_path, "a") as file:
        file.write("\nnonsense: [ 1, \n")
    proxy.signal(signal.SIGHUP)
    proxy.wait_for_line("reprise.yaml:")
    assert proxy.chat("Hello").cache == "hit"


def test_a_full_disk_is_a_miss_and_never_an_error(start):
    server = start("disk_max: 8MiB\nmemory_max: 16MiB")
    server.accept()
    for i in range(200):
        assert server.chat("Question %d %s" % (i, os.urandom(60000).hex())).status == 200
    assert os.path.getsize(server.folder + "/data/data.mdb") <= 8 << 20
    # The writer may still be at work on what came before, and then takes nothing new.
    wait_until(lambda: server.chat("Hello").cache == "hit", "nothing is kept any more")
    # What is new goes in, large as it is: something old has made room.
    large = "The last one %s" % os.urandom(60000).hex()
    wait_until(lambda: server.chat(large).cache == "hit", "nothing large is kept any more")


# ---- wrong answers ----------------------------------------------------------------------

# The first is stored, the second must not get its answer, however near the encoder finds it.
OPPOSITES = [
    ("How do I enable two-factor authentication?", "How do I disable two-factor authentication?"),
    ("Is port 6379 open by default?", "Is port 6379 closed by default?"),
    ("Can a cat eat a mouse?", "Can a mouse eat a cat?"),
    ("Is Paris larger than Rome?", "Is Rome larger than Paris?"),
    ("Is it safe to restart the server?", "Is it not safe to restart the server?"),
    ("What does the option --max-cost do?", "What does the option --max-heads do?"),
    ("What does the option --cost-max do?", "What does the option --cost-min do?"),
    ("What is the dose for a child of 5 years?", "What is the dose for a child of 15 years?"),
    ("When was the treaty of 1648 signed?", "When was the treaty of 1748 signed?"),
    ("What does the Chinese word 银行 mean in English?",
     "What does the Chinese word 学校 mean in English?"),
]


@pytest.mark.parametrize("turned", [False, True])
def test_near_questions_with_other_answers_are_refused_by_a_gate(semantic, turned):
    """Similarity alone serves every one of them here: only a gate can have refused."""
    for at, pair in enumerate(OPPOSITES):
        stored, asked = reversed(pair) if turned else pair
        semantic.chat(stored)
        semantic.wait_for_metric("reprise_vectors", at + 1)
        assert nearest(semantic, asked)["similarity"] > 0.5
        reply = semantic.chat(asked, headers={"Cache-Control": "no-store"})
        assert reply.cache == "miss" and reply.reason.startswith("gate-"), (stored, asked)


def test_among_many_options_none_is_taken_for_another(semantic):
    """66 pairs that differ in one name only; each name asked against all the others."""
    names = ["--max-cost", "--max-heads", "--min-cost", "--max-depth", "--max-tokens", "--top-k",
             "--top-p", "--dry-run", "--no-cache", "--cache", "--verbose", "--version"]
    for at, name in enumerate(names):
        reply = semantic.chat("What does the option %s do?" % name)
        assert reply.cache == "miss", (name, reply.text)
        semantic.wait_for_metric("reprise_vectors", at + 1)
    for name in names:
        assert name in semantic.chat("What does the option %s do?" % name).text


def test_without_configuration_a_doubtful_likeness_is_a_miss(start, encoder):
    server = start("lookup_deadline: 60s", model=encoder)
    server.accept()
    server.chat("How do I learn to play the piano?")
    server.wait_for_metric("reprise_vectors", 1)
    asked = "What is a good way of learning the piano?"
    assert 0.5 < nearest(server, asked)["similarity"] < 0.95
    assert server.chat(asked).cache == "miss"


def degenerate_copy(encoder, folder):
    """An encoder whose last layer norm says the same for every token: all vectors are equal."""
    shutil.copytree(encoder, folder, symlinks=False,
                    ignore=lambda _, names: [n for n in names if n == "model.safetensors"])
    data = bytearray(open(os.path.join(encoder, "model.safetensors"), "rb").read())
    size, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    for name, value in (("weight", 0.0), ("bias", 1.0)):
        row = next(row for key, row in header.items()
                   if key.endswith("encoder.layer.5.output.LayerNorm." + name))
        begin, end = (8 + size + offset for offset in row["data_offsets"])
        assert row["dtype"] == "F32"
        data[begin:end] = struct.pack("<f", value) * ((end - begin) // 4)
    path = os.path.join(folder, "model.safetensors")
    with open(path, "wb") as file:
        file.write(data)
    return path


def test_an_encoder_that_finds_everything_alike_is_not_used(start, encoder, tmp_path):
    folder = str(tmp_path / "degenerate")
    path = degenerate_copy(encoder, folder)
    server = start(LOOSE, model=folder)
    server.accept()
    assert any("self-test" in line and "exact tier only" in line for line in server.lines)
    assert server.metric("reprise_semantic") == 0
    server.chat("How do I bake bread at home?")
    Admin(server).wait_until_committed(1)
    assert server.chat("What is the capital of France?").cache == "miss"
    assert server.chat("How do I bake bread at home?").cache == "hit"
    os.remove(path)


# ---- one similarity, in one unit ----------------------------------------------------------

def test_similarity_is_the_same_cosine_wherever_it_is_said(semantic, encoder):
    """Headers, native look-up, explain and the vectors themselves; larger is nearer."""
    stored, near, far = ("How do I bake bread at home?", "How can I bake bread in my kitchen?",
                         "How many moons has the planet Jupiter?")
    vectors = semantic.call(path="/v1/embeddings", body={
        "model": "reprise/" + os.path.basename(encoder.rstrip("/")),
        "input": [stored, near, far]}).json["data"]

    def cosine(a, b):
        a, b = vectors[a]["embedding"], vectors[b]["embedding"]
        return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))

    semantic.chat(stored)
    semantic.wait_for_metric("reprise_vectors", 1)
    hit = semantic.chat(near)
    native = semantic.call(path="/v1/reprise/lookup", body={"request": chat_body(near)}).json
    assert hit.cache == native["outcome"] == "hit"
    wanted = cosine(0, 1)
    assert float(hit.headers["x-reprise-similarity"]) == pytest.approx(wanted, abs=1e-3)
    assert native["similarity"] == pytest.approx(wanted, abs=1e-3)
    assert nearest(semantic, near)["similarity"] == pytest.approx(wanted, abs=1e-3)
    assert nearest(semantic, far)["similarity"] == pytest.approx(cosine(0, 2), abs=1e-3)
    assert nearest(semantic, stored)["similarity"] == pytest.approx(1, abs=1e-3)
    assert cosine(0, 2) < wanted < 1
    # A threshold just below lets it through, one just above does not, zero is not "unset".
    for limit, outcome in ((wanted - 0.01, "hit"), (wanted + 0.01, "miss"), (0, "hit")):
        reply = semantic.chat(near, headers={"X-Reprise-Min-Similarity": "%.4f" % limit,
                                             "Cache-Control": "no-store"})
        assert reply.cache == outcome, limit
    assert semantic.chat(far, headers={"X-Reprise-Min-Similarity": "0",
                                       "Cache-Control": "no-store"}).cache == "miss"


# ---- who may know what ----------------------------------------------------------------------

def test_a_hit_can_be_traced_to_its_entry_and_whose_it_is(semantic):
    semantic.accept("sk-other")
    asked = "How can I bake bread at home?"
    semantic.chat("How do I bake bread at home?")
    hit = semantic.wait_for_hit(asked)
    best = nearest(semantic, asked)
    assert best["entry"] == hit.headers["x-reprise-entry"]
    assert best["prompt"] == "How do I bake bread at home?"
    told = semantic.call(path="/v1/reprise/explain", body={"request": chat_body(asked)}).json
    tenant = told["fields"]["caller"]["tenant"]
    assert told["fields"]["body"]["model"] == "gpt-test" and tenant.startswith("key-")

    def line():
        with open(semantic.access_log) as file:
            return [row for row in map(json.loads, file)
                    if row["request"] == hit.headers["x-reprise-request"]]
    wait_until(line, "never in the access log")
    row, = line()
    assert (row["tenant"], row["entry"], row["tier"]) == (tenant, best["entry"], "semantic")
    # Somebody else is told nothing about it.
    other = semantic.call(path="/v1/reprise/explain", body={"request": chat_body(asked)},
                          key="sk-other").json
    assert other["candidates"] == [] and other["fields"]["caller"]["tenant"] != tenant


def test_what_others_have_asked_leaves_no_trace(semantic, upstream):
    """A caller cannot tell a prompt that another has stored from one that nobody knows, by
    anything but the clock; and what the clock could show, the work done, is the same."""
    semantic.accept("sk-other")
    semantic.chat("Is the merger with Acme going to happen?")
    semantic.wait_for_metric("reprise_vectors", 1)

    def trace(prompt):
        calls = upstream.count()
        reply = semantic.chat(prompt, key="sk-other", headers={"Cache-Control": "no-store"})
        told = semantic.call(path="/v1/reprise/explain", body={"request": chat_body(prompt)},
                             key="sk-other").json
        moving = {"x-reprise-request", "x-reprise-overhead-us", "server-timing", "date",
                  "x-request-id", "set-cookie", "content-length"}
        return ({name: value for name, value in reply.headers.items() if name not in moving},
                upstream.count() - calls, told["outcome"], told["reason"], told["candidates"])

    known, unknown = (trace("Is the merger with %s going to happen?" % name)
                      for name in ("Acme", "Ajax"))
    assert known == unknown
    assert known[1] == 1 and known[4] == []


def test_an_answer_planted_by_one_caller_does_not_reach_another(semantic):
    prompt = "What is the address of the help desk?"
    reply = {"id": "x", "object": "chat.completion", "created": 1, "model": "gpt-test",
             "choices": [{"index": 0, "finish_reason": "stop",
                          "message": {"role": "assistant", "content": "evil.example"}}]}
    planted = semantic.call(path="/v1/reprise/store", key="sk-evil",
                            body={"request": chat_body(prompt), "reply": reply})
    assert planted.status == 401 or planted.status == 403 or planted.status == 201
    # Not by naming the victim either: that member is the admin listener's.
    named = semantic.call(path="/v1/reprise/store", key="sk-evil", body={
        "tenant": "key-8ed96e3c151769def23ac921b7db579e", "request": chat_body(prompt),
        "reply": reply})
    assert named.status == 400
    for asked in (prompt, "What is the help desk's address?"):
        assert "evil" not in semantic.chat(asked).text


# ---- streams ----------------------------------------------------------------------------

@pytest.mark.parametrize("path,body", [
    ("/v1/responses", {"input": "Why is the sky blue?", "store": False}),
    ("/v1/messages", {"messages": [{"role": "user", "content": "Why is the sky blue?"}],
                      "max_tokens": 100}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Why is the sky blue?"}]}),
])
def test_streams_of_every_protocol_are_kept_and_answer_both_forms(start, path, body):
    mock = Mock()
    try:
        proxy = start(upstreams="[ { name: mock, url: %s } ]" % mock.url)
        proxy.accept()
        ask = [proxy.call(path=path, body={"model": "gpt-test", "stream": stream, **body})
               for stream in (True, True, False)]
        assert [reply.cache for reply in ask] == ["miss", "hit", "hit"]
        assert [reply.headers["content-type"].split(";")[0] for reply in ask] == \
            ["text/event-stream", "text/event-stream", "application/json"]
    finally:
        proxy.stop()
        mock.stop()


def test_who_asks_for_no_stream_gets_none_and_errors_are_no_events(proxy):
    proxy.chat("Hello", stream=True)
    for fields in ({}, {"stream": False}, {"stream": None}):
        reply = proxy.chat("Hello", **fields)
        assert reply.cache == "hit" and reply.headers["content-type"] == "application/json"
        assert reply.json["choices"][0]["message"]["content"]
        assert b"data:" not in reply.body
    for wish, status in (("status=429", 429), ("status=500", 500), ("reset", 502)):
        reply = proxy.chat("Broken " + wish, headers={"X-Test": wish}, stream=True)
        assert reply.status == status and reply.headers["content-type"] == "application/json"
        assert reply.json["error"]["message"] and b"data:" not in reply.body
    good = proxy.chat("Whole", stream=True)
    assert good.events[-1] == "[DONE]" and not any("error" in chunk for chunk in good.chunks)


# ---- availability -------------------------------------------------------------------------

def test_a_prompt_is_encoded_once(semantic):
    """A miss encodes for the look-up and not again to store; an exact hit does not at all."""
    def encoded():
        return semantic.metric("reprise_encoded_texts_total")
    for at in range(5):
        assert semantic.chat("Question about the number %d and the word %s" % (at, "abcde"[at]),
                             temperature=0.1 * at).cache == "miss"
    semantic.wait_for_metric("reprise_vectors", 5)
    assert encoded() == 5
    for at in range(5):
        assert semantic.chat("Question about the number %d and the word %s" % (at, "abcde"[at]),
                             temperature=0.1 * at).headers["x-reprise-cache-tier"] == "exact"
    assert encoded() == 5


def test_an_encoder_that_is_always_late_stops_nobody(start, encoder):
    """100 us are less than any text takes: to every look-up the encoder looks dead. The reply
    is here before the look-up has come back, and is kept all the same."""
    server = start("lookup_deadline: 100us", model=encoder)
    server.accept()
    for at in range(10):
        reply = server.chat("Question %d" % at)
        assert reply.status == 200 and reply.cache in ("bypass", "miss")
        assert reply.reason in ("deadline", "encoder-busy")
    # The exact tier does not wait for it.
    assert server.wait_for_hit("Question 3").headers["x-reprise-cache-tier"] == "exact"


def test_a_hit_that_comes_too_late_is_kept_as_an_entry_of_its_own(start, encoder):
    """Its client got the upstream's reply, and shall get that again."""
    server = start(LOOSE.replace("60s", "3ms"), model=encoder + ", tier: plain")
    server.accept()
    server.chat("How do I reset my password?", user="u")
    server.wait_for_metric("reprise_vectors", 1)
    late = server.chat("How can I reset my password?", user="u")
    assert late.cache == "bypass" and late.reason in ("deadline", "encoder-busy")
    again = server.wait_for_hit("How can I reset my password?", user="u")
    assert again.headers["x-reprise-cache-tier"] == "exact" and again.text == late.text


def test_a_hit_that_was_found_after_all_does_not_stand_in_the_way(start, encoder, tmp_path):
    """All threads that read disks embed for somebody, so a look-up comes back with a hit when
    its client has the upstream's new reply: that reply takes the entry's place."""
    config = "threads: { loops: 1 }\n"
    questions = ["What is the number %d?" % at for at in range(30)]
    server = start(config, model=encoder, folder=tmp_path)
    server.accept()
    old = [server.chat(question, seed=1) for question in questions]
    Admin(server).wait_until_committed(len(questions))
    server.stop()
    server = start(config, model=encoder, folder=tmp_path)  # whose replies lie on the disk
    body = json.dumps({"model": "reprise/" + os.path.basename(encoder.rstrip("/")),
                       "input": ["%d " % at + "some words of a long text " * 50 for at in range(32)]})
    busy = [server.connect() for _ in range(4)]  # more than there are such threads
    for connection in busy:
        connection.request("POST", "/v1/embeddings", body, {"Authorization": "Bearer sk-test-1"})
    for question, before in zip(questions, old):  # some may come before the texts are read
        late = server.chat(question, seed=1)
        if late.cache == "bypass":
            break
        assert (late.cache, late.text) == ("hit", before.text)
    assert late.reason == "deadline" and late.text != before.text
    for connection in busy:
        connection.close()

    def is_new():
        again = server.chat(question, headers={"Cache-Control": "only-if-cached"}, seed=1)
        return again.status == 200 and again.text == late.text

    wait_until(is_new, "the old reply stays")


def test_an_encoder_that_cannot_be_loaded_is_said_at_the_start(encoder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(encoder, broken, ignore=lambda _, names: [n for n in names
                                                              if n == "model.safetensors"])
    with open(os.path.join(encoder, "model.safetensors"), "rb") as file:
        (broken / "model.safetensors").write_bytes(file.read(1 << 20))
    done = subprocess.run(
        [BINARY, "serve", "--upstream", "http://127.0.0.1:9", "--listen", "127.0.0.1:0", "--admin",
         "127.0.0.1:0", "--data", str(tmp_path / "data"), "--model", str(broken)],
        capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode in (1, 2)
    assert "model.safetensors" in done.stderr and done.stderr.startswith("reprise serve: ")


# ---- what is kept -----------------------------------------------------------------------

def test_evictions_do_not_blind_the_search(start, encoder):
    """Far more than fits; what is left, and what is new, is found by paraphrases."""
    server = start("disk_max: 8MiB\nmemory_max: 32MiB\n" + LOOSE, model=encoder)
    server.accept()
    for at in range(120):
        reply = server.chat("Remember this: %d %s" % (at, os.urandom(60000).hex()),
                            cache={"namespace": "bulk"})
        assert reply.cache == "miss"
    server.wait_for_metric("reprise_evictions_total", 20)
    server.chat("How do I bake bread at home?")
    assert server.wait_for_hit("How can I bake bread at home?").headers[
        "x-reprise-cache-tier"] == "semantic"
    assert server.metric("reprise_entries") < 120
    assert server.metric("reprise_memory_bytes") <= 32 << 20


def test_tokens_are_billed_once_however_often_they_are_replayed(proxy):
    admin = Admin(proxy)

    def tokens(kind):
        seen = admin.metrics()
        return tuple(seen['reprise_tokens_total{kind="%s",direction="%s"}' % (kind, direction)]
                     for direction in ("input", "output"))
    proxy.chat("Hello")
    wait_until(lambda: tokens("billed") == (11, 7), "never billed")
    for _ in range(3):
        assert proxy.chat("Hello").json["usage"]["total_tokens"] == 18
    wait_until(lambda: tokens("saved") == (33, 21), "never saved")
    assert tokens("billed") == (11, 7)


def test_both_tiers_work_in_one_configuration(semantic):
    semantic.chat("How do I bake bread at home?")
    tiers = [semantic.wait_for_hit(prompt).headers["x-reprise-cache-tier"]
             for prompt in ("How do I bake bread at home?", "How can I bake bread at home?")]
    assert tiers == ["exact", "semantic"]


def test_a_warmed_cache_answers_the_first_who_asks(start, upstream, encoder, tmp_path):
    """What one server exported another imports: its first visitor gets a hit, in both tiers."""
    tenant = "tenants: [ { name: shop, keys: [ sk-shop-key ], upstream_key: x } ]\n"
    first = start(tenant + LOOSE, model=encoder)
    first.chat("How do I return a parcel?", key="sk-shop-key")
    Admin(first).wait_until_committed(1)
    lines = Admin(first).call("GET", "/v1/reprise/export").body
    second = start(tenant + LOOSE, model=encoder)
    assert Admin(second).call("POST", "/v1/reprise/import", lines).json["imported"] == 1
    calls = upstream.count()
    assert second.chat("How do I return a parcel?", key="sk-shop-key").cache == "hit"
    assert second.wait_for_hit("How can I return a parcel?", key="sk-shop-key").cache == "hit"
    assert upstream.count() == calls
