#!/usr/bin/env python3
"""Send labelled pairs through a running server as a new user would, and count.

    build/reprise mock-llm --listen 127.0.0.1:9100 &
    build/reprise serve --upstream http://127.0.0.1:9100 --data /tmp/try &
    bench/try_pairs.py --pairs 100 PAIRS.tsv

PAIRS.tsv has the columns label, category, text_a, text_b (label 1: one answer serves
both). First every text_a is asked, then every text_b: a hit on a positive pair is right,
one on a negative pair is wrong unless the label is. Only the standard library is used.
"""
import argparse
import http.client
import json
import random
import time
import urllib.parse


def ask(connection, prompt, key):
    body = json.dumps({"model": "mock-small", "messages": [{"role": "user", "content": prompt}]})
    started = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", body,
                       {"Content-Type": "application/json", "Authorization": "Bearer " + key})
    reply = connection.getresponse()
    reply.read()
    assert reply.status == 200, reply.status
    return {"cache": reply.getheader("X-Reprise-Cache"), "tier": reply.getheader("X-Reprise-Cache-Tier"),
            "similarity": reply.getheader("X-Reprise-Similarity"), "reason": reply.getheader("X-Reprise-Reason"),
            "ms": (time.perf_counter() - started) * 1e3}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file")
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--pairs", type=int, default=100, help="half positive, half negative (100)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--key", default="sk-try")
    parser.add_argument("--show", action="store_true", help="print every hit")
    arguments = parser.parse_args()

    rows = [line.rstrip("\n").split("\t") for line in open(arguments.file, encoding="utf-8")][1:]
    rows = [row for row in rows if len(row) == 4]
    generator = random.Random(arguments.seed)
    chosen = []
    for label in "10":
        these = [row for row in rows if row[0] == label]
        chosen += generator.sample(these, min(arguments.pairs // 2, len(these)))

    url = urllib.parse.urlsplit(arguments.url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    first = [ask(connection, row[2], arguments.key) for row in chosen]
    second = [ask(connection, row[3], arguments.key) for row in chosen]

    print("first texts: %d asked, %d hits" % (len(first), sum(r["cache"] == "hit" for r in first)))
    for label, name in (("1", "positive"), ("0", "negative")):
        pairs = [(row, reply) for row, reply in zip(chosen, second) if row[0] == label]
        hits = [(row, reply) for row, reply in pairs if reply["cache"] == "hit"]
        times = sorted(reply["ms"] for _, reply in hits)
        print("%s pairs: %d asked, %d hits (%d exact, %d semantic)%s" % (
            name, len(pairs), len(hits), sum(r["tier"] == "exact" for _, r in hits),
            sum(r["tier"] == "semantic" for _, r in hits),
            ", median %.1f ms" % times[len(times) // 2] if times else ""))
        if arguments.show:
            for row, reply in hits:
                print("   %s  %s | %s" % (reply["similarity"], row[2], row[3]))
    reasons = {}
    for reply in first + second:
        if reply["cache"] != "hit":
            reasons[reply["reason"]] = reasons.get(reply["reason"], 0) + 1
    print("misses by reason: " + ", ".join("%s %d" % item for item in sorted(reasons.items())))


if __name__ == "__main__":
    main()
