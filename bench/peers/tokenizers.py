#!/usr/bin/env python3
"""Reprise's tokenizer and Hugging Face tokenizers on the same texts, alternately, one thread.

    pip install -r tests/requirements.txt
    python bench/peers/tokenizers.py --reprise build/reprise --tokenizer TOKENIZER.json TEXTS

TEXTS is a file with a text a line. The package is called through its Python binding, one
text at a time and in batches, as a Python service would call it; so its figures include
what the binding costs. The CPU time of the least round is printed for each.
"""
import os
import sys

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
sys.path = [p for p in sys.path if os.path.abspath(p or ".") != os.path.dirname(os.path.abspath(__file__))]

import argparse
import json
import subprocess
import time

import tokenizers


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--reprise", default="build/reprise")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("texts")
    options = parser.parse_args()
    texts = open(options.texts, encoding="utf-8").read().splitlines()
    tokenizer = tokenizers.Tokenizer.from_file(options.tokenizer)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    best = {"reprise": 1e18, "one by one": 1e18, "batches of 1000": 1e18}
    for _ in range(options.rounds):
        ours = subprocess.run([options.reprise, "bench", "tokenize", "--json", "--rounds", "3", "--tokenizer",
                               options.tokenizer, options.texts], capture_output=True, check=True)
        best["reprise"] = min(best["reprise"], json.loads(ours.stdout)["ns_per_text"])
        start = time.thread_time_ns()
        for text in texts:
            tokenizer.encode(text)
        best["one by one"] = min(best["one by one"], (time.thread_time_ns() - start) / len(texts))
        start = time.thread_time_ns()
        for i in range(0, len(texts), 1000):
            tokenizer.encode_batch_fast(texts[i:i + 1000])
        best["batches of 1000"] = min(best["batches of 1000"], (time.thread_time_ns() - start) / len(texts))
    print(f"{len(texts)} texts, tokenizers {tokenizers.__version__}, ns per text:")
    for name, ns in best.items():
        print(f"  {name:16} {ns:9.0f}   {ns / best['reprise']:6.1f}x")


if __name__ == "__main__":
    main()
