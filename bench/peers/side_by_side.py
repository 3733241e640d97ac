#!/usr/bin/env python3
"""GPTCache and Reprise on the same stream with the same encoder, one after the other.

    bench/peers/side_by_side.py [--reprise build/reprise] [--count 2000] STREAM.jsonl

Sets up a Python environment of its own (bench/peers/requirements-gptcache.txt, in
build/peers), embeds the stream once with Reprise's encoder, and runs

  gptcache          the package with its defaults, SQLite and FAISS: threshold .8 of its own
                    scale, 1,000 entries
  gptcache, all     the same with room for every request
  and Reprise       `eval stream`: GPTCache's rule as a baseline, the shipped default,
                    calibrated (--error-max .01); and `serve` in front of `mock-llm`, as fast as answers
                    come, so that some entries are not committed when they are asked for

Prints hits, wrong hits and time a request. Embedding counts for neither in the first two
tables (GPTCache gets the vectors from a table), and for Reprise in the third. Where the
packages cannot be had it says so and ends with status 77.
"""
import argparse
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import venv

HERE = os.path.dirname(os.path.abspath(__file__))


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * (len(values) - 1) + .5))]


def environment(folder):
    """The interpreter of the pinned environment; ends the program where it cannot be had."""
    wanted = open(os.path.join(HERE, "requirements-gptcache.txt")).read()
    python, stamp = os.path.join(folder, "bin", "python"), os.path.join(folder, ".requirements")
    if os.path.exists(stamp) and open(stamp).read() == wanted:
        return python
    venv.create(folder, with_pip=True)
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r",
                           os.path.join(HERE, "requirements-gptcache.txt")], capture_output=True, text=True)
    if done.returncode:
        print("skipped: the packages of requirements-gptcache.txt cannot be had: "
              + (done.stderr.strip().splitlines() or ["pip says nothing"])[-1])
        sys.exit(77)
    with open(stamp, "w") as file:
        file.write(wanted)
    return python


def gptcache(python, stream, vectors, decisions, max_size):
    done = subprocess.run([python, os.path.join(HERE, "gptcache_run.py"), stream, vectors, decisions,
                           "--max-size", str(max_size)], capture_output=True, text=True)
    if done.returncode:
        sys.exit("gptcache_run.py failed:\n" + done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def simulated(options, stream, vectors, decisions, *arguments):
    done = subprocess.run([options.reprise, "eval", "stream", "--json", "--vectors", vectors,
                           "--decisions-out", decisions, *arguments, stream], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


class Server:
    """A child that says where it listens, on the stream `where` in a line that matches."""

    def __init__(self, where, pattern, *command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.address = None
        for line in getattr(self.process, where):
            found = re.search(pattern, line)
            if found:
                self.address = found.group(1)
                break
        if not self.address:
            sys.exit("a server did not start: " + " ".join(command))

    def stop(self):
        self.process.terminate()
        self.process.communicate()


def served(options, stream, lines, policy):
    """Every request over one connection, one after the other; answers name who asked first."""
    with tempfile.TemporaryDirectory() as folder:
        script = os.path.join(folder, "script.jsonl")
        with open(script, "w", encoding="utf-8") as file:
            for line in lines:
                file.write(json.dumps({"prompt": line["prompt"], "answer": line["answer_id"]}) + "\n")
        mock = Server("stdout", r"(http://\S+)", options.reprise, "mock-llm", "--listen", "127.0.0.1:0",
                      "--script", script)
        server = Server("stderr", r"listening on (127\S+?),", options.reprise, "serve", "--listen",
                        "127.0.0.1:0", "--admin", "127.0.0.1:0", "--upstream", mock.address, "--data",
                        os.path.join(folder, "data"), "--model", options.model, "--policy", policy,
                        "--seed", "1")
        try:
            return talk(server.address, lines)
        finally:
            server.stop()
            mock.stop()


def talk(address, lines):
    connection = http.client.HTTPConnection(address, timeout=60)
    headers = {"Authorization": "Bearer sk-peers", "Content-Type": "application/json"}
    connection.request("GET", "/v1/models", headers=headers)  # the key is accepted
    connection.getresponse().read()
    times, hits, wrong = {"hit": [], "miss": []}, 0, 0
    for line in lines:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": line["prompt"]}]})
        started = time.perf_counter_ns()
        connection.request("POST", "/v1/chat/completions", body, headers)
        reply = connection.getresponse()
        answer = json.loads(reply.read())["choices"][0]["message"]["content"]
        times.setdefault(reply.getheader("X-Reprise-Cache"), []).append(time.perf_counter_ns() - started)
        if reply.getheader("X-Reprise-Cache") == "hit":
            hits += 1
            wrong += answer != line["answer_id"]
    return {"hits": hits, "wrong_hits": wrong, "bypasses": len(times.get("bypass", [])),
            **{name + "_us_" + label: percentile(values, share) / 1000 if values else None
               for name, values in times.items() for label, share in (("p50", .5), ("p99", .99))}}


def show(name, requests, told, *rest):
    print("%-34s %6d hits (%5.1f %%)  %5d wrong (%5.2f %% of requests, %4.1f %% of hits)  %s" % (
        name, told["hits"], 100 * told["hits"] / requests, told["wrong_hits"],
        100 * told["wrong_hits"] / requests, 100 * told["wrong_hits"] / max(told["hits"], 1),
        "  ".join(rest)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--reprise", default="build/reprise")
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--count", type=int, default=2000, help="first requests of the stream")
    parser.add_argument("--environment", default="build/peers")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("stream")
    options = parser.parse_args()
    options.reprise = os.path.abspath(options.reprise)
    python = environment(options.environment)
    text = open(options.stream, encoding="utf-8").read().splitlines(keepends=True)[:options.count]
    lines = [json.loads(line) for line in text]
    n, results = len(lines), {}
    with tempfile.TemporaryDirectory() as folder:
        def path(name):
            return os.path.join(folder, name)
        with open(path("s.jsonl"), "w", encoding="utf-8") as file:
            file.writelines(text)
        with open(path("texts.jsonl"), "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": line["prompt"]}) + "\n" for line in lines)
        subprocess.run([options.reprise, "embed", "--model", options.model, "--format", "npy", "--output",
                        path("v.npy"), path("texts.jsonl")], check=True)
        results["gptcache"] = gptcache(python, path("s.jsonl"), path("v.npy"), path("g"), 1000)
        results["gptcache, all kept"] = gptcache(python, path("s.jsonl"), path("v.npy"), path("ga"), 10 ** 7)
        baseline = results["reprise, its rule"] = simulated(
            options, path("s.jsonl"), path("v.npy"), path("r"), "--baseline", "gptcache")
        theirs = [json.loads(line)["entry_i"] for line in open(path("ga"))]
        ours = [json.loads(line)["entry_i"] for line in open(path("r"))]
        results["agreement"] = sum(a == b for a, b in zip(theirs, ours)) / n
        for name, spec in (("reprise, shipped default", "default"), ("reprise, calibrated", "calibrated")):
            results[name] = simulated(options, path("s.jsonl"), path("v.npy"), path("x"), "--baseline", spec,
                                      "--error-max", ".01")
        results["serve, shipped default"] = served(options, path("s.jsonl"), lines, "static")
    if options.json:
        print(json.dumps(results))
        return
    print("%d requests of %s, GPTCache %s" % (n, options.stream, results["gptcache"]["version"]))
    for name, told in results.items():
        if name.startswith("gptcache"):
            show(name, n, told, "get %.0f us, put %.0f us, CPU %.0f us a request" % (
                told["get_us_p50"], told["put_us_p50"] or 0, told["cpu_us_mean"]))
        elif name.startswith("reprise"):
            show(name, n, told, "search %.0f us, decision %.0f us, CPU %.0f us a request" % (
                told["search_us_p50"] or 0, told["decide_us_p50"] or 0, told["cpu_seconds"] / n * 1e6))
        elif name.startswith("serve"):
            show(name, n, told, "over HTTP with embedding: hit %.0f us, miss %.0f us; %d were too late to "
                 "be looked up" % (told["hit_us_p50"] or 0, told["miss_us_p50"] or 0, told["bypasses"]))
    print("GPTCache and its rule in Reprise serve the same entry in %.2f %% of requests"
          % (100 * results["agreement"]))


if __name__ == "__main__":
    main()
