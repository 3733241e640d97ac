"""What users of other caches lost or complained about, and what must hold here instead.

Each test drives the running server as a client would. The facts that have a test of
their own elsewhere (isolation, streams, errors, polarity) are not repeated here.
"""
import os
import signal
import time

import pytest

from proxy import wait_until, while_it_lasts

LOOSE = "lookup_deadline: 60s\nroutes: [ { match: { model: '*' }, cache: { policy: " \
        "'static:min_similarity=0.5', min_similarity: 0.5 } } ]"


@pytest.fixture
def semantic(start, encoder):
    server = start(LOOSE, model=encoder)
    server.accept()
    return server


def test_what_differs_after_the_window_is_not_the_same(semantic):
    filler = "The committee met again to discuss the harbour and its many fishing boats. " * 60
    semantic.chat(filler + "Which city pays for the northern bridge?")
    semantic.chat("How do I bake bread at home?")
    semantic.wait_for_hit("How can I bake bread at home?")
    assert semantic.chat(filler + "How many cats live in the old castle?").cache == "miss"
    assert semantic.wait_for_hit(filler + "Which city pays for the northern bridge?").cache == "hit"


def test_very_long_prompts_are_served_exactly_only(semantic):
    text = "boats and harbours and lighthouses " * 3000
    assert semantic.chat(text + "a").cache == "miss"
    assert semantic.chat(text + "b").cache == "miss"
    assert semantic.wait_for_hit(text + "a").headers.get("x-reprise-cache-tier") == "exact"


def test_text_the_encoder_cannot_read_is_not_matched(semantic):
    semantic.chat("怎么重置我的密码？")
    semantic.chat("How do I bake bread at home?")
    semantic.wait_for_hit("How can I bake bread at home?")
    for other in ("今天北京的天气怎么样？", "推荐一家好吃的餐厅", "怎样重置密码？"):
        assert semantic.chat(other).cache == "miss"


def test_a_threshold_of_one_lets_no_paraphrase_through(start, encoder):
    strict = start("lookup_deadline: 60s\nroutes: [ { match: { model: '*' }, cache: "
                   "{ policy: 'static:min_similarity=1' } } ]", model=encoder)
    strict.accept()
    strict.chat("How do I reset a password?")
    time.sleep(0.5)
    assert strict.chat("How can I reset a password?").cache == "miss"


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
