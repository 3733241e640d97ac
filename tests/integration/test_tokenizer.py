"""`reprise tokenize` gives the ids of Hugging Face tokenizers, on all of Unicode.

What could go wrong: a Unicode table of another version, the order of combining marks, a
border between words, a rule for added tokens. Golden files hold chosen texts without the
package; the package itself (pinned) is the oracle for every single code point and for
seeded random texts. Both sides read the same tokenizer.json.
"""
import json
import os
import pathlib
import random
import subprocess
import unicodedata
import zlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("REPRISE_BINARY", str(ROOT / "build" / "reprise"))


def minilm():
    folders = [os.environ.get("REPRISE_TEST_MODEL"),
               os.path.join(os.environ["REPRISE_MODELS"], "all-MiniLM-L6-v2") if os.environ.get("REPRISE_MODELS") else None]
    for folder in filter(None, folders):
        if os.path.exists(os.path.join(folder, "tokenizer.json")):
            return os.path.join(folder, "tokenizer.json")
    assert not os.environ.get("REPRISE_REQUIRE_MODEL"), "the model is required but not there"
    pytest.skip("neither REPRISE_TEST_MODEL nor REPRISE_MODELS names the model")


def modernbert():
    data = os.environ.get("REPRISE_DATA")
    if not data:
        pytest.skip("REPRISE_DATA is not set")
    return os.path.join(data, "tokenizers", "modernbert_tokenizer.json")


FILES = {"minilm": minilm, "modernbert": modernbert}


def tokenize(tokenizer_json, texts):
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    done = subprocess.run([BINARY, "tokenize", "--model", tokenizer_json, "--input", "jsonl"],
                          input=lines.encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


def oracle(tokenizer_json):
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(tokenizer_json)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda texts: [encoding.ids for encoding in tokenizer.encode_batch(texts)]


def compare(tokenizer_json, texts):
    encode = oracle(tokenizer_json)
    ours = tokenize(tokenizer_json, texts)
    assert len(ours) == len(texts)
    wrong = []
    for start in range(0, len(texts), 1000):
        for text, theirs, got in zip(texts[start:start + 1000], encode(texts[start:start + 1000]), ours[start:]):
            if theirs != got:
                wrong.append(ascii(text))
    assert not wrong, f"{len(wrong)} of {len(texts)}, first {wrong[:3]}"


@pytest.mark.parametrize("name", FILES)
def test_golden_texts_have_their_ids(name):
    rows = [json.loads(line) for line in open(ROOT / "tests" / "golden" / f"tokenizer_{name}.jsonl")]
    assert len(rows) > 50
    ours = tokenize(FILES[name](), [row["text"] for row in rows])
    assert ours == [row["ids"] for row in rows]


@pytest.mark.parametrize("name", FILES)
def test_every_code_point_is_read_alone_and_between_letters(name):
    points = [chr(p) for p in range(0x110000) if not 0xD800 <= p < 0xE000]
    # Many to a text, so that a million of them take seconds: a space apart, and as words.
    texts = []
    for start in range(0, len(points), 64):
        part = points[start:start + 64]
        texts += [" ".join(part), " ".join("a" + c + "b" for c in part)]
    compare(FILES[name](), texts)


# The whole of both tests below takes minutes: REPRISE_TEXTS=all. Last run whole on 2026-11-21:
# 1,746,312 texts and 1,112,064 code points, both tokenizers, no difference.
SHARE = 1 if os.environ.get("REPRISE_TEXTS") == "all" else 25


@pytest.mark.parametrize("name", FILES)
def test_code_points_are_texts(name):
    """Alone, without a space around: those that are stripped, joined or made of others."""
    points = [chr(p) for p in range(0x110000) if not 0xD800 <= p < 0xE000]
    odd = {"Cc", "Cf", "Mn", "Mc", "Me", "Zs", "Zl", "Zp"}
    compare(FILES[name](), [c for c in points if ord(c) % SHARE == 0 or unicodedata.category(c) in odd])


def strings_in(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for part in (value.values() if isinstance(value, dict) else value):
            yield from strings_in(part)


def texts_of_the_data():
    """Every line, every field of a table and every string of JSON lines; of these a share that
    is the same each time."""
    if not os.environ.get("REPRISE_DATA"):
        pytest.skip("REPRISE_DATA is not set")
    texts = set()
    for path in pathlib.Path(os.environ["REPRISE_DATA"]).rglob("*"):
        if path.suffix not in (".tsv", ".txt", ".md", ".json", ".jsonl", ".inp", ".out", ".snap"):
            continue
        for line in path.read_text("utf-8", "replace").split("\n"):
            parts = [line, *(line.split("\t") if path.suffix == ".tsv" else ())]
            if path.suffix == ".jsonl" and line.strip():
                parts += strings_in(json.loads(line))
            texts.update(part for part in parts if zlib.crc32(part.encode("utf-8", "replace")) % SHARE == 0)
    return sorted(texts)


@pytest.mark.parametrize("name", FILES)
def test_the_texts_of_the_data_have_the_ids_of_the_package(name):
    compare(FILES[name](), texts_of_the_data())


def random_texts(count, seed):
    rng = random.Random(seed)
    blocks = [(0x20, 0x7F), (0, 0x250), (0x300, 0x370), (0x370, 0x600), (0x600, 0x1000), (0x1000, 0x3000),
              (0x3000, 0xA000), (0xAC00, 0xD7A4), (0x1100, 0x1200), (0xF900, 0x10000), (0x1D100, 0x1D250),
              (0x10000, 0x20000), (0x20000, 0x110000)]
    marks = [chr(p) for p in range(0x110000) if unicodedata.combining(chr(p))]
    special = ["[CLS]", "[MASK]", "  [MASK]", "[UNK", "<|endoftext|>", "[unused3]", "    ", "'s", "'ll", "\r\n", "\u00a0"]
    for _ in range(count):
        chosen, text = rng.sample(blocks, 3), []
        for _ in range(rng.randint(1, 120)):
            kind = rng.random()
            if kind < 0.15:
                text.append(" ")
            elif kind < 0.18:
                text.append(rng.choice(special))
            elif kind < 0.30:
                text.append(rng.choice(marks))
            else:
                c = chr(rng.randrange(*rng.choice(chosen)))
                text.append("A" if 0xD800 <= ord(c) < 0xE000 else c * (1 if rng.random() < 0.98 else rng.randint(2, 150)))
        yield "".join(text)


@pytest.mark.parametrize("name", FILES)
def test_random_texts_have_the_ids_of_the_package(name):
    seed = 20260  # fixed: a failure can be run again
    compare(FILES[name](), list(random_texts(8000, seed)))


@pytest.mark.parametrize("name", FILES)
def test_broken_utf8_is_read_with_replacement_characters(name):
    rng = random.Random(7)
    parts = [b"abc ", b"\xff", b"\xe2\x82", b"\xf0\x9f\x98", "é".encode(), b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5", "😀".encode()]
    texts = [b"".join(rng.choice(parts) for _ in range(12)) for _ in range(500)]
    done = subprocess.run([BINARY, "tokenize", "--model", FILES[name](), "--input", "text"],
                          input=b"".join(text + b"\n" for text in texts), capture_output=True, check=True)
    ours = [json.loads(line) for line in done.stdout.splitlines()]
    assert ours == oracle(FILES[name]())([text.decode("utf-8", "replace") for text in texts])


def run(*arguments, text=b""):
    return subprocess.run([BINARY, "tokenize", *arguments], input=text, capture_output=True)


def test_the_first_byte_decides_how_input_is_read():
    model = minilm()
    as_text = run("--model", model, text=b'what\r\n\n{"text": "x"}').stdout.splitlines()
    assert [json.loads(line) for line in as_text][:2] == [[101, 2054, 102], [101, 102]]
    assert len(as_text) == 3 and len(json.loads(as_text[2])) > 5
    as_json = run("--model", model, text=b'{"text":"what","other":[1]}\n\n{"text":""}\n').stdout.splitlines()
    assert [json.loads(line) for line in as_json] == [[101, 2054, 102], [101, 102]]
    forced = run("--model", model, "--input", "text", text=b'{"text":"what"}\n').stdout
    assert len(json.loads(forced)) > 5


def test_what_cannot_be_used_ends_with_status_2_and_says_where():
    model = minilm()
    bad = run("--model", model, text=b'{"text":"fine"}\n{"txt":"private words"}\n')
    assert bad.returncode == 2 and b"line 2" in bad.stderr and b"private" not in bad.stderr
    assert json.loads(bad.stdout) == [101, 2986, 102]
    assert run("--model", "/nonexistent/folder").returncode == 2
    assert run("--model", model, "--input", "csv").returncode == 2
    assert run("--model", model, "/nonexistent/file").returncode == 2
    assert run("--help").returncode == 0
