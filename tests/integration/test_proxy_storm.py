"""Everything at once: faults, clients that leave, streams, sharing, several callers and loops.

What could go wrong: a crash, a hang, an answer to another question or of another caller.
The upstream numbers its answers: one that two callers saw is a leak. What is asserted holds
in every order of events. The seed is fixed; REPRISE_STORM_SEED and REPRISE_STORM_SECONDS
take others, and longer.
"""
import os
import random
import re
import threading
import time

from proxy import PATIENCE
from test_proxy_flight import open_chat

WISHES = ["", "", "", "", "status=500", "status=429", "reset", "reset-mid", "truncate", "short",
          "pace=0.002", "garbage", "finish=length", "empty", "error-event"]
SECONDS = float(os.environ.get("REPRISE_STORM_SECONDS", "4"))


def visit(proxy, rng, seen, lock):
    prompt = "Question %d of the storm" % rng.randrange(6)
    key = "sk-storm-%d" % rng.randrange(3)
    stream = rng.random() < 0.5
    wish = rng.choice(WISHES)
    if rng.random() < 0.25:  # leave after some bytes, or none
        client = open_chat(proxy, prompt, wish, key=key, stream=stream)
        client.settimeout(5)
        try:
            if rng.random() < 0.5:
                client.recv(rng.choice([1, 200, 2000]))
        except OSError:
            pass
        client.close()
        return
    headers = {"X-Test": wish}
    if rng.random() < 0.3:
        headers["Cache-Control"] = rng.choice(["no-cache", "no-store", "only-if-cached", "max-age=1"])
    try:
        reply = proxy.chat(prompt, headers, key, stream=stream)
        if reply.status != 200 or "error-event" in wish:
            return
        text = reply.text
    except Exception:  # broken transfers are what the faults are for
        return
    if not text:
        return
    found = re.match(r"Answer (\d+) to: (.*)", text)
    assert found, text
    # Truncated streams end early; what came must still be of this question.
    assert prompt.startswith(found.group(2).rstrip()), (prompt, text)
    with lock:
        seen.setdefault(int(found.group(1)), set()).add((key, prompt))


def test_nobody_crashes_hangs_or_gets_anothers_answer(start, upstream):
    proxy = start("threads: { loops: 3 }")
    seed = int(os.environ.get("REPRISE_STORM_SEED", 986054))
    print("REPRISE_STORM_SEED=%d" % seed)
    seen, lock, failures = {}, threading.Lock(), []
    until = time.monotonic() + SECONDS

    def run(number):
        rng = random.Random(seed * 100 + number)
        try:
            while time.monotonic() < until:
                visit(proxy, rng, seen, lock)
        except Exception as problem:  # noqa: BLE001
            failures.append(problem)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS + 2 * PATIENCE)
        assert not thread.is_alive(), "a request hangs"
    assert not failures, failures[0]
    shared = {number: who for number, who in seen.items() if len(who) > 1}
    assert not shared, shared
    assert proxy.chat("And now?").status == 200
