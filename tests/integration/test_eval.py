"""`reprise eval` prints what others would compute from the same files.

Oracles: scikit-learn and SciPy where they are installed (tests/requirements-extended.txt, which
`./dev check` does; then REPRISE_EXTENDED=1), else the definitions in plain Python; for
streams, the decisions that --decisions-out writes, recomputed from the vectors. Needs no
encoder: scores and vectors come from files."""
import json
import os
import random
import signal
import struct
import subprocess

import pytest

REPRISE = os.environ.get("REPRISE_BINARY") or os.path.join(
    os.path.dirname(__file__), "..", "..", "build", "reprise")


def run(*arguments, status=0):
    done = subprocess.run([REPRISE, "eval", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done


def objects(*arguments):
    return [json.loads(line) for line in run(*arguments, "--json").stdout.splitlines()]


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Pairs of two categories and scores with many ties."""
    draw = random.Random(11)
    folder = tmp_path_factory.mktemp("pairs")
    labels = [draw.random() < .4 for _ in range(700)]
    scores = [round(min(1, max(0, draw.gauss(.6 if y else .45, .2))), 2) for y in labels]
    (folder / "pairs.tsv").write_text("label\tcategory\ttext_a\ttext_b\n" + "".join(
        "%d\t%s\ta %d\tb %d\n" % (y, "odd" if i % 2 else "even", i % 300, i)
        for i, y in enumerate(labels)))
    (folder / "scores.txt").write_text("".join("%.9g\n" % s for s in scores))
    return folder, labels, scores


def or_plain(import_them, plain):
    """What `import_them` gives, or `plain` where the extended requirements are not there."""
    try:
        return import_them()
    except ImportError:
        if os.environ.get("REPRISE_EXTENDED") == "1":
            raise
        return plain


def plain_auc(labels, scores):
    right = [s for y, s in zip(labels, scores) if y]
    wrong = [s for y, s in zip(labels, scores) if not y]
    return sum((p > q) + .5 * (p == q) for p in right for q in wrong) / len(right) / len(wrong)


def plain_ap(labels, scores):
    total, before, positives = 0, 0, sum(labels)
    for limit in sorted(set(scores), reverse=True):
        taken = [y for y, s in zip(labels, scores) if s >= limit]
        total += (sum(taken) - before) / positives * sum(taken) / len(taken)
        before = sum(taken)
    return total


def test_pairs_agree_with_scikit_learn_or_the_definitions(scored):
    folder, labels, scores = scored
    rows = objects("pairs", "--scores-in", folder / "scores.txt", folder / "pairs.tsv")
    assert [row["category"] for row in rows] == ["*", "even", "odd"]
    def scikit_learn():
        from sklearn.metrics import average_precision_score, roc_auc_score
        return average_precision_score, roc_auc_score
    ap, auc = or_plain(scikit_learn, (plain_ap, plain_auc))
    for row, pick in zip(rows, (slice(None), slice(0, None, 2), slice(1, None, 2))):
        y, s = labels[pick], scores[pick]
        assert row["n"] == len(y) and row["positives"] == sum(y)
        assert abs(row["auc"] - auc(y, s)) < 1e-9
        assert abs(row["ap"] - ap(y, s)) < 1e-9
        taken = [a for a, b in zip(y, s) if b >= row["threshold"]]
        assert abs(row["precision"] - sum(taken) / len(taken)) < 1e-9
        assert abs(row["recall"] - sum(taken) / sum(y)) < 1e-9


def plain_best_f1(labels, scores):
    best = 0
    for limit in set(scores):
        taken = [y for y, s in zip(labels, scores) if s >= limit]
        best = max(best, 2 * sum(taken) / (len(taken) + sum(labels)))
    return best


def test_the_best_f1_and_false_accepts_agree_too(scored):
    folder, labels, scores = scored
    whole = objects("pairs", "--scores-in", folder / "scores.txt", folder / "pairs.tsv")[0]

    def scikit_learn():
        from sklearn.metrics import precision_recall_curve
        precision, recall, _ = precision_recall_curve(labels, scores)
        return max(2 * p * r / (p + r) for p, r in zip(precision, recall) if p + r)
    assert abs(whole["f1"] - or_plain(scikit_learn, plain_best_f1(labels, scores))) < 1e-9
    for name, share in ("recall_far_1", .01), ("recall_far_5", .05):
        limits = [t for t in set(scores) if sum(s >= t for y, s in zip(labels, scores) if not y)
                  <= share * (len(labels) - sum(labels))]
        assert abs(whole[name] - max(sum(s >= t for y, s in zip(labels, scores) if y)
                                     for t in limits) / sum(labels)) < 1e-9
    # P-CHR AUC (arXiv:2606.19719): precision over the share accepted, tied scores together.
    area, before = 0, 0
    for limit in sorted(set(scores), reverse=True):
        taken = [y for y, s in zip(labels, scores) if s >= limit]
        area += sum(taken) / len(taken) * (len(taken) - before) / len(labels)
        before = len(taken)
    assert abs(whole["p_chr_auc"] - area) < 1e-9
    assert abs(whole["orr"] - whole["p_chr_auc"] / whole["ap"]) < 1e-9


def test_several_systems_in_one_call_and_intervals_over_groups(scored, tmp_path):
    folder, labels, scores = scored
    (tmp_path / "other.txt").write_text("".join("%.9g\n" % -s for s in scores))
    rows = objects("pairs", "--scores-in", folder / "scores.txt", "--scores-in", tmp_path / "other.txt",
                   "--bootstrap", "200", folder / "pairs.tsv")
    assert [r["model"] for r in rows] == ["scores.txt"] * 3 + ["other.txt"] * 3
    assert abs(rows[0]["auc"] + rows[3]["auc"] - 1) < 1e-9  # the same turned round
    for row in rows:
        for name in "auc", "ap", "f1", "p_chr_auc":
            low, high = row[name + "_95"]
            assert low < row[name] < high or (name == "f1" and low <= row[name] <= high)
    assert objects("pairs", "--scores-in", folder / "scores.txt", "--bootstrap", "200",
                   folder / "pairs.tsv") == rows[:3]


def test_graded_pairs_are_correlated(tmp_path):
    draw = random.Random(6)
    grades = [draw.randrange(11) / 2 for _ in range(300)]
    scores = [round(g / 5 + draw.gauss(0, .3), 1) for g in grades]  # ties in both
    path = tmp_path / "graded.tsv"
    path.write_text("label\tcategory\ttext_a\ttext_b\n" + "".join(
        "%.1f\t%s\ta %d\tb %d\n" % (g, "xy"[i % 2], i, i) for i, g in enumerate(grades)))
    (tmp_path / "scores.txt").write_text("".join("%.9g\n" % s for s in scores))
    rows = objects("pairs", "--scores-in", tmp_path / "scores.txt", "--bootstrap", "100", path)
    assert [r["category"] for r in rows] == ["*", "x", "y"] and "auc" not in rows[0]

    def plain_pearson(x, y):
        mx, my = sum(x) / len(x), sum(y) / len(y)
        return sum((a - mx) * (b - my) for a, b in zip(x, y)) / (
            sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y)) ** .5

    def plain_spearman(x, y):
        ranks = [[sum(a < b for a in z) + (z.count(b) + 1) / 2 for b in z] for z in (x, y)]
        return plain_pearson(*ranks)

    def scipy():
        from scipy.stats import pearsonr, spearmanr
        return lambda x, y: pearsonr(x, y)[0], lambda x, y: spearmanr(x, y)[0]
    pearson, spearman = or_plain(scipy, (plain_pearson, plain_spearman))
    for row, pick in zip(rows, (slice(None), slice(0, None, 2), slice(1, None, 2))):
        assert abs(row["pearson"] - pearson(scores[pick], grades[pick])) < 1e-9
        assert abs(row["spearman"] - spearman(scores[pick], grades[pick])) < 1e-9
        assert row["spearman_95"][0] < row["spearman"] < row["spearman_95"][1]
    for bad in "1\tx\ta\tb\n4.5\tx\tc\td\n", "4.5\tx\ta\tb\nfour\tx\tc\td\n":
        path.write_text("label\tcategory\ttext_a\ttext_b\n" + bad)
        said = run("pairs", "--scores-in", path, path, status=2).stderr
        assert ":3:" in said and "grades" in said and said.count("\n") == 1


def test_a_place_that_cannot_be_written_is_said_at_once(scored, tmp_path):
    folder, _, _ = scored
    place = tmp_path / "no such folder" / "scores.txt"
    said = run("pairs", "--scores-out", place, folder / "pairs.tsv", status=2)
    assert str(place) in said.stderr and said.stderr.count("\n") == 1 and not said.stdout


def test_ctrl_c_ends_pairs_at_once(scored, tmp_path):
    """After a first file is done, in the midst of a bootstrap that would take hours."""
    folder, labels, scores = scored
    header = "label\tcategory\ttext_a\ttext_b\n"
    (tmp_path / "few.tsv").write_text(header + "".join(
        "%d\tx\ta %d\tb %d\n" % (i % 2, i, i) for i in range(8)))
    (tmp_path / "many.tsv").write_text(header + "".join(
        "%d\tx\tc %d\td %d\n" % (i % 2, i, i) for i in range(50000)))
    (tmp_path / "scores.txt").write_text("".join("%.9g\n" % (i % 97 / 97) for i in range(50008)))
    process = subprocess.Popen(
        [REPRISE, "eval", "pairs", "--json", "--bootstrap", "100000", "--scores-in",
         tmp_path / "scores.txt", tmp_path / "few.tsv", tmp_path / "many.tsv"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert json.loads(process.stdout.readline())["n"] == 8
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGINT and said == b""


@pytest.mark.parametrize("text, says", [
    ("", "empty"),
    ("label\ttext_a\ttext_b\n1\ta\tb\n", ":1:"),
    ("label\tcategory\ttext_a\ttext_b\n", "no pairs"),
    ("label\tcategory\ttext_a\ttext_b\n1\tx\ta\tb\n1\tx\ta\n", ":3:"),
    ("label\tcategory\ttext_a\ttext_b\n2\tx\ta\tb\n", ":2:"),
])
def test_bad_pairs_get_one_sentence(tmp_path, text, says):
    path = tmp_path / "bad.tsv"
    path.write_text(text)
    said = run("pairs", "--scores-in", path, path, status=2).stderr
    assert says in said and said.count("\n") == 1


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """Requests around 25 centres, ten numbers each, some texts twice, with their vectors."""
    draw = random.Random(5)
    folder = tmp_path_factory.mktemp("stream")
    centres = [[draw.gauss(0, 1) for _ in range(10)] for _ in range(25)]
    lines, vectors = [], []
    for i in range(300):
        if i % 13 == 12:  # an equal text
            lines.append(lines[i - 5])
            vectors.append(vectors[i - 5])
            continue
        answer = draw.randrange(25)
        lines.append({"prompt": "text %d" % i, "answer_id": str(answer), "scope": "ab"[i % 2]})
        row = [x + draw.gauss(0, .35) for x in centres[answer]]
        size = sum(x * x for x in row) ** .5
        vectors.append([x / size for x in row])
    (folder / "s.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (300, 10), }".ljust(117) + "\n"
    (folder / "v.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) +
                                   header.encode() +
                                   b"".join(struct.pack("<10f", *v) for v in vectors))
    return folder, lines, vectors


def test_static_decisions_are_those_of_a_plain_cache(stream):
    folder, lines, vectors = stream
    out = folder / "d.jsonl"
    told, = objects("stream", "--vectors", folder / "v.npy", "--gates", "off", "--policy",
                    "static:min_similarity=0.8", "--decisions-out", out, folder / "s.jsonl")
    entries, exact, hits, wrong, exact_hits = [], {}, 0, 0, 0
    for i, said in enumerate(map(json.loads, out.read_text().splitlines())):
        assert said["i"] == i
        key = lines[i]["scope"], lines[i]["prompt"]
        if key in exact:
            exact_hits += 1
            assert (said["outcome"], said["tier"], said["entry_i"]) == ("hit", "exact", exact[key])
            continue
        near = [(sum(a * b for a, b in zip(vectors[i], vectors[j])), -j) for j in entries
                if lines[j]["scope"] == lines[i]["scope"]]
        best = max(near, default=(None, 0))
        if best[0] is not None:
            assert abs(said["similarity"] - best[0]) < 1e-5
        if best[0] is not None and best[0] >= .8:
            right = lines[-best[1]]["answer_id"] == lines[i]["answer_id"]
            assert (said["outcome"], said["matched_i"], said["right"]) == ("hit", -best[1], right)
            hits, wrong = hits + 1, wrong + (not right)
        else:
            assert said["outcome"] == "miss" and said["entry_i"] is None
            entries.append(i)
            exact[key] = i
    assert hits > 50 and exact_hits > 0
    assert (told["hits"], told["wrong_hits"], told["exact_hits"]) == (hits, wrong, exact_hits)
    assert told["upstream_calls"] == 300 - hits - exact_hits
    assert told["error_95"][0] <= told["error"] <= told["error_95"][1]


def test_the_same_seed_repeats_every_byte(stream):
    folder, *_ = stream
    for out in "a", "b":
        run("stream", "--vectors", folder / "v.npy", "--order", "shuffled", "--seed", 9, "--policy",
            "verified", "--policy", "calibrated", "--labels", "audit:0.2", "--label-delay", 7,
            "--decisions-out", folder / out, folder / "s.jsonl")
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()


def test_without_labels_a_learning_policy_learns_nothing(stream):
    folder, *_ = stream
    told, = objects("stream", "--vectors", folder / "v.npy", "--labels", "none", "--policy",
                    "verified", folder / "s.jsonl")
    assert told["labels_known"] == 0 and told["hits"] == 0
    told, = objects("stream", "--vectors", folder / "v.npy", "--labels", "audit:1", "--policy",
                    "static:min_similarity=0.8", folder / "s.jsonl")
    assert told["audits"] == told["hits"] > 0
    assert told["upstream_calls"] == told["requests"] - told["exact_hits"]


@pytest.mark.parametrize("text, says", [
    ("", "no requests"),
    ('{"prompt":"a","answer_id":"1"}\n{"prompt":\n', ":2:"),
    ('{"prompt":"a"}\n', "answer_id"),
    ('{"prompt":"","answer_id":"1"}\n', "prompt"),
    ('{"prompt":"a","answer_id":"1"}\n\n', ":2:"),
    ('{"prompt":"a","answer_id":"1","history":"x"}\n', "history"),
    ('{"prompt":"a","answer_id":"1","time":"x"}\n', "time"),
])
def test_bad_streams_get_one_sentence(tmp_path, text, says):
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    said = run("stream", "--vectors", path, path, status=2).stderr
    assert says in said and said.count("\n") == 1


def test_bad_policies_get_one_sentence(stream):
    folder, *_ = stream
    for spec in "nonsense", "static:min_similarity=2", "static:colour=red":
        said = run("stream", "--policy", spec, folder / "s.jsonl", status=2).stderr
        assert "policy" in said and said.count("\n") == 1


def test_make_stream_is_its_construction(tmp_path):
    table = tmp_path / "t.tsv"
    table.write_text("split\tlabel\ttext\n" + "".join(
        "train\tlabel %d\ttext %d\n" % (i % 40, i % 190) for i in range(200)))
    first = run("make-stream", table, "--seed", 4).stdout
    assert first == run("make-stream", table, "--seed", 4).stdout
    assert first != run("make-stream", table, "--seed", 5).stdout
    rows = [json.loads(line) for line in first.splitlines()]
    assert len({row["prompt"] for row in rows}) == len(rows) == 190
    assert {row["answer_id"] for row in rows} == {"label %d" % i for i in range(40)}
    drawn = [json.loads(line) for line in run(
        "make-stream", table, "--count", 4000, "--zipf", 1.2, "--novel", .005).stdout.splitlines()]
    counts = sorted((sum(r["answer_id"] == "label %d" % i for r in drawn) for i in range(40)),
                    reverse=True)
    assert len(drawn) == 4000 and counts[0] > 5 * counts[10] and counts[-1] <= 1
    said = run("make-stream", "--kind", "log", table).stdout.splitlines()
    assert len(said) == 201 and json.loads(said[1])["answer_id"] == "text 0"
