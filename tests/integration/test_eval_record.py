"""`reprise eval record` keeps a result only if it is whole, and repeats nothing that is there.

What could go wrong: a result of other inputs passes for this one's, a failed command leaves a
file, or a chain of measurements starts from the beginning again. Needs no encoder."""
import hashlib
import json
import os
import struct
import subprocess
import time

REPRISE = os.environ.get("REPRISE_BINARY") or os.path.join(
    os.path.dirname(__file__), "..", "..", "build", "reprise")
PAIRS = "label\tcategory\ttext_a\ttext_b\n1\tx\ta\tb\n0\tx\ta\tc\n"


def record(folder, *arguments, options=()):
    return subprocess.run([REPRISE, "eval", "record", "--out", folder / "kept.jsonl", *options, "--",
                           "eval", "pairs", "--json", *arguments, folder / "pairs.tsv"],
                          capture_output=True, text=True)


def prepare(folder, scores=".9\n.1\n"):
    (folder / "pairs.tsv").write_text(PAIRS)
    (folder / "scores.txt").write_text(scores)
    return "--scores-in", folder / "scores.txt"


def test_a_record_says_what_ran_on_what(tmp_path):
    done = record(tmp_path, *prepare(tmp_path))
    assert done.returncode == 0 and done.stdout == "", done.stderr
    first, row = map(json.loads, (tmp_path / "kept.jsonl").read_text().splitlines())
    about = first["about"]
    assert about["command"][:5] == ["reprise", "eval", "pairs", "--json", "--scores-in"]
    hashes = {os.path.basename(f["path"]): (f["sha256"], f["bytes"]) for f in about["files"]}
    for name in "pairs.tsv", "scores.txt":
        data = (tmp_path / name).read_bytes()
        assert hashes[name] == (hashlib.sha256(data).hexdigest(), len(data))
    assert about["commit"] and about["version"] and about["cores"] >= 1 and about["seconds"] >= 0
    assert row["auc"] == 1


def test_only_the_same_command_and_inputs_are_kept(tmp_path):
    scores = prepare(tmp_path)
    out = tmp_path / "kept.jsonl"

    def runs_again(*arguments, options=()):
        before = out.read_bytes()
        os.utime(out, (1, 1))
        done = record(tmp_path, *scores, *arguments, options=options)
        assert done.returncode == 0
        assert ("there already" in done.stderr) == (out.stat().st_mtime == 1)
        assert out.stat().st_mtime != 1 or out.read_bytes() == before
        return out.stat().st_mtime != 1

    record(tmp_path, *scores)
    assert not runs_again()
    assert runs_again("--seed", "2")
    assert not runs_again("--seed", "2")
    assert runs_again("--seed", "2", options=["--again"])
    (tmp_path / "scores.txt").write_text(".1\n.9\n")
    assert runs_again("--seed", "2")
    out.write_text('{"about": {"command": ')  # torn by somebody else
    assert runs_again("--seed", "2")


def test_a_failed_command_leaves_the_old_result_and_its_status(tmp_path):
    record(tmp_path, *prepare(tmp_path))
    before = (tmp_path / "kept.jsonl").read_bytes()
    done = record(tmp_path, *prepare(tmp_path, scores="no number\n"))
    assert done.returncode == 2 and "scores.txt:1:" in done.stderr
    assert (tmp_path / "kept.jsonl").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["kept.jsonl", "pairs.tsv", "scores.txt"]


def test_an_output_that_is_gone_is_made_again(tmp_path):
    (tmp_path / "log.txt").write_text("one\ntwo\n")
    command = [REPRISE, "eval", "record", "--out", tmp_path / "made.jsonl", "--", "eval",
               "make-stream", "--kind", "log", "--out", tmp_path / "s.jsonl", tmp_path / "log.txt"]
    assert subprocess.run(command).returncode == 0
    (tmp_path / "s.jsonl").unlink()
    assert subprocess.run(command).returncode == 0 and (tmp_path / "s.jsonl").exists()
    assert len(json.loads((tmp_path / "made.jsonl").read_text().splitlines()[0])["about"]["files"]) == 1


def test_a_place_that_cannot_be_written_is_said_before_the_command_runs(tmp_path):
    done = subprocess.run([REPRISE, "eval", "record", "--out", tmp_path / "nowhere" / "r", "--",
                           "eval", "make-stream", "--out", tmp_path / "ran", __file__],
                          capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "nowhere" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_is_no_input(tmp_path):
    """What a run keeps beside its result differs before and after it."""
    (tmp_path / "s").write_text('{"prompt": "a", "answer_id": 1}\n')
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1), }".ljust(117) + "\n"
    (tmp_path / "v.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header))
                                     + header.encode() + struct.pack("<f", 1))
    for expected in "", "is there already":
        done = subprocess.run([REPRISE, "eval", "record", "--out", tmp_path / "r", "--", "eval", "stream",
                               "--json", "--policy", "exact", "--vectors", tmp_path / "v.npy",
                               "--checkpoint", tmp_path / "kept", "--resume", tmp_path / "s"],
                              capture_output=True, text=True)
        assert done.returncode == 0 and expected in done.stderr, done.stderr
    assert (tmp_path / "kept").stat().st_size > 0


def test_who_ends_the_record_ends_the_command(tmp_path):
    """It saves what is finished, and the same record goes on from there."""
    lines = 300
    (tmp_path / "s").write_text("".join(json.dumps({"prompt": "q %d" % i, "answer_id": i % 9}) + "\n"
                                        for i in range(lines)))
    header = ("{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 2), }" % lines).ljust(117) + "\n"
    (tmp_path / "v.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header))
                                     + header.encode() + struct.pack("<ff", 1, 0) * lines)
    command = [REPRISE, "eval", "record", "--out", tmp_path / "r", "--", "eval", "stream", "--json",
               "--policy", "verified-global", "--order", "shuffled", "--orders", "1000",
               "--vectors", tmp_path / "v.npy", "--checkpoint", tmp_path / "kept", "--resume",
               tmp_path / "s"]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "kept").exists() or not (tmp_path / "kept").stat().st_size:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(.01)
    process.terminate()
    _, said = process.communicate(timeout=60)  # ends only when the command has ended, too
    assert process.returncode == 1 and "--resume goes on" in said, said
    assert not (tmp_path / "r").exists()
