#!/usr/bin/env python3
"""Run every example as its reader would, and look at what it prints.

REPRISE_TEST_MODEL names an encoder's folder; with REPRISE_REQUIRE_MODEL=1 it must be there.
"""
import os
import subprocess
import sys
import tempfile


def run(program, *arguments):
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return [line.split() for line in done.stdout.splitlines() if not line.startswith(" ")]


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        same, rephrased, opposite = run(program, folder)
        assert same[:2] == ["hit", "exact"], same
        assert rephrased[0] == "miss" and opposite[0] == "miss", (rephrased, opposite)
    model = os.environ.get("REPRISE_TEST_MODEL")
    if not model or not os.path.isdir(model):
        assert os.environ.get("REPRISE_REQUIRE_MODEL") != "1", "the encoder is required"
        print("without an encoder: the exact tier only was tried")
        return
    with tempfile.TemporaryDirectory() as folder:
        same, rephrased, opposite = run(program, folder, model)
        assert same[:2] == ["hit", "exact"], same
        assert rephrased[:2] == ["hit", "semantic"], rephrased
        assert opposite[0] == "miss", opposite
    print("with the encoder: same, rephrased and opposite questions get what they should")


main()
