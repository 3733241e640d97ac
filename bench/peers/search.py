#!/usr/bin/env python3
"""Reprise's vector index beside hnswlib and FAISS: the same vectors, alternately, one thread.

    python -m venv venv && venv/bin/pip install -r bench/peers/requirements-search.txt
    build/reprise embed --format npy --output QUESTIONS.npy QUESTIONS.txt
    venv/bin/python bench/peers/search.py --vectors QUESTIONS.npy --count 100000

The first COUNT vectors are indexed, the next ones are looked for; recall is against an
exact search by numpy. Every peer gets all queries in one call of its own library, so that
its Python binding costs it nothing; Reprise is called once a query. Times are CPU times of
one thread, the least of all rounds; a round measures each contender once.
`near@1` counts only queries whose nearest has a similarity of .8 or more: those that a
cache may answer. `build` is the CPU time from vectors to an index that can be searched.
"""
import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import argparse
import json
import subprocess
import time
from importlib.metadata import version

import faiss
import hnswlib
import numpy as np

NEAR = 0.8


def cpu_seconds(call):
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


class Peer:
    """One index of a peer and its settings of search: name -> how to apply it."""

    def __init__(self, name, build, search, settings, size):
        self.name, self.search, self.settings = name, search, settings
        self.build_s, self.index = cpu_seconds(build)
        self.bytes_per_vector = size(self.index)


def make_hnsw(base, m):
    index = hnswlib.Index(space="ip", dim=base.shape[1])
    index.init_index(max_elements=len(base), M=m, ef_construction=200, random_seed=1)
    index.set_num_threads(1)
    index.add_items(base)
    return index


def make_faiss(base, description):
    index = faiss.index_factory(base.shape[1], description, faiss.METRIC_INNER_PRODUCT)
    index.train(base)
    index.add(base)
    return index


def faiss_size(index, count):
    return faiss.serialize_index(index).nbytes / count


def make_peers(base, with_hnsw):
    count = len(base)

    def faiss_peer(name, description, settings):
        return Peer(name, lambda: make_faiss(base, description), lambda index, q: index.search(q, 1)[1][:, 0],
                    settings, lambda index: faiss_size(index, count))

    def probe(n):
        return lambda index: faiss.extract_index_ivf(index).__setattr__("nprobe", n)

    lists = max(16, int(round(count ** 0.5 / 64) * 64))
    yield faiss_peer("FAISS flat f32", "Flat", {"": lambda index: None})
    yield faiss_peer(f"FAISS IVF{lists} f32", f"IVF{lists},Flat",
                     {f"nprobe {n}": probe(n) for n in (8, 16, 32)})
    if with_hnsw:
        def ef(n):
            return lambda index: index.set_ef(n)
        yield Peer("hnswlib M=16 f32", lambda: make_hnsw(base, 16),
                   lambda index, q: index.knn_query(q, k=1, num_threads=1)[0][:, 0].astype(np.int64),
                   {f"ef {n}": ef(n) for n in (16, 64, 128, 400)},
                   lambda index: index.index_file_size() / count)


def run_ours(options, extra):
    command = [options.reprise, "bench", "search", "--json", "--vectors", options.vectors, "--rounds", "3",
               "--count", str(options.count), "--queries", str(options.queries), *extra]
    return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reprise", default="build/reprise")
    parser.add_argument("--vectors", required=True)
    parser.add_argument("--count", type=int, default=100000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-hnsw", action="store_true", help="its build takes a minute for 100,000 vectors")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    faiss.omp_set_num_threads(1)
    vectors = np.load(options.vectors, mmap_mode="r")
    if len(vectors) < options.count + options.queries:
        parser.error(f"{options.vectors} holds {len(vectors)} vectors; {options.count + options.queries} are needed")
    base = np.ascontiguousarray(vectors[:options.count], dtype=np.float32)
    queries = np.ascontiguousarray(vectors[options.count:options.count + options.queries], dtype=np.float32)
    nearest = np.concatenate([(queries[i:i + 100] @ base.T).argmax(axis=1) for i in range(0, len(queries), 100)])
    nearest_similarity = (queries * base[nearest]).sum(axis=1)
    near = nearest_similarity >= NEAR

    def right(found):
        """Another vector that is as near is right too."""
        similarity = (queries * base[np.maximum(found, 0)]).sum(axis=1)
        return (found == nearest) | (similarity >= nearest_similarity - 1e-6)

    rows = {}
    peers = list(make_peers(base, not options.no_hnsw))
    ours = [("Reprise flat", ["--lists-from", "0"]), ("Reprise lists", []),
            ("Reprise lists, no originals", ["--without-originals"])]
    for _ in range(options.rounds):
        for name, extra in ours:
            row = run_ours(options, extra)
            best = rows.setdefault(name, {"name": name, "us": 1e18})
            best.update(us=min(best["us"], row["search_us"]), recall_1=row["recall_at_1"], near_1=row["recall_at_1_near"],
                        bytes_per_vector=row["bytes_per_vector"], build_s=options.count / row["adds_per_second"])
        for peer in peers:
            for setting, apply in peer.settings.items():
                apply(peer.index)
                seconds, found = cpu_seconds(lambda: peer.search(peer.index, queries))
                name = f"{peer.name} {setting}".strip()
                best = rows.setdefault(name, {"name": name, "us": 1e18})
                is_right = right(found)
                best.update(us=min(best["us"], seconds / len(queries) * 1e6), recall_1=float(is_right.mean()),
                            near_1=float(is_right[near].mean()) if near.any() else None, build_s=peer.build_s,
                            bytes_per_vector=peer.bytes_per_vector)
    if options.json:
        print(json.dumps({"count": options.count, "queries": options.queries, "near": int(near.sum()),
                          "rows": list(rows.values())}))
        return
    print(f"{options.count} vectors of {base.shape[1]} numbers, {options.queries} queries, {int(near.sum())} of them "
          f"with a neighbor at {NEAR}; faiss {faiss.__version__}, hnswlib {version('hnswlib')}")
    print(f"{'':30}{'us/query':>10}{'recall@1':>10}{'near@1':>8}{'build s':>9}{'bytes/vector':>14}")
    for row in rows.values():
        print(f"{row['name']:30}{row['us']:>10.1f}{row['recall_1']:>10.3f}{row['near_1']:>8.3f}{row['build_s']:>9.1f}"
              f"{row['bytes_per_vector']:>14.0f}")


if __name__ == "__main__":
    main()
