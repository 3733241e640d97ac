#!/usr/bin/env python3
"""GPTCache over a stream, as its users set it up; started by side_by_side.py.

    gptcache_run.py STREAM.jsonl VECTORS.npy DECISIONS.jsonl [--max-size N]

SQLite and FAISS, SearchDistanceEvaluation, similarity_threshold .8 (the package's defaults),
`get`, and on a miss `put` with the answer. The embedding function looks the vector up that
Reprise made of the text, so that both see the same encoder and its time counts for neither.
Prints one JSON object.
"""
import argparse
import json
import os
import resource
import sys
import tempfile
import time

import numpy

# Without this GPTCache would try to install what it misses.
import sqlalchemy  # noqa: F401
import faiss

from gptcache import Cache, Config
from gptcache.adapter.api import get, put
from gptcache.manager import CacheBase, VectorBase, get_data_manager
from gptcache.processor.pre import get_prompt
from gptcache.similarity_evaluation.distance import SearchDistanceEvaluation


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("stream")
    parser.add_argument("vectors")
    parser.add_argument("decisions")
    parser.add_argument("--max-size", type=int, default=1000, help="entries; GPTCache's default is 1000")
    parser.add_argument("--threshold", type=float, default=0.8, help="GPTCache's default is .8")
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    lines = [json.loads(line) for line in open(options.stream, encoding="utf-8")]
    vectors = numpy.load(options.vectors)
    by_text = {line["prompt"]: vectors[i] for i, line in enumerate(lines)}
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache()
        cache.init(
            pre_embedding_func=get_prompt,
            embedding_func=lambda text, **_: by_text[text],
            data_manager=get_data_manager(
                CacheBase("sqlite", sql_url="sqlite:///" + os.path.join(folder, "cache.db")),
                VectorBase("faiss", dimension=vectors.shape[1],
                           index_path=os.path.join(folder, "faiss.index")),
                max_size=options.max_size),
            similarity_evaluation=SearchDistanceEvaluation(),
            config=Config(similarity_threshold=options.threshold))
        gets, puts, hits, wrong, decisions = [], [], 0, 0, []
        cpu = time.process_time()
        for i, line in enumerate(lines):
            started = time.perf_counter_ns()
            answer = get(line["prompt"], cache_obj=cache)
            gets.append(time.perf_counter_ns() - started)
            # What is stored is the number of the line that asked first.
            decisions.append(None if answer is None else int(answer))
            if answer is None:
                started = time.perf_counter_ns()
                put(line["prompt"], str(i), cache_obj=cache)
                puts.append(time.perf_counter_ns() - started)
            else:
                hits += 1
                wrong += lines[int(answer)]["answer_id"] != line["answer_id"]
        cpu = time.process_time() - cpu
        cache.data_manager.close()  # else it writes when the folder is gone
    with open(options.decisions, "w", encoding="utf-8") as out:
        for i, entry in enumerate(decisions):
            out.write(json.dumps({"i": i, "entry_i": entry}) + "\n")
    import gptcache
    print(json.dumps({
        "version": gptcache.__version__, "requests": len(lines), "hits": hits, "wrong_hits": wrong,
        "get_us_p50": float(numpy.percentile(gets, 50)) / 1000,
        "get_us_p99": float(numpy.percentile(gets, 99)) / 1000,
        "put_us_p50": float(numpy.percentile(puts, 50)) / 1000 if puts else None,
        "request_us_mean": (sum(gets) + sum(puts)) / len(lines) / 1000,
        "cpu_us_mean": cpu / len(lines) * 1e6,
        "resident_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    sys.exit(main())
