"""The front door `./dev`, where a newcomer's machine lacks something.

What could go wrong: a shell's own message instead of a sentence, a question that nobody is there
to answer, codes for a terminal in a log, a variable that is not set.
"""
import pathlib
import shutil
import subprocess

import pytest

DEV = pathlib.Path(__file__).resolve().parents[2] / "dev"


@pytest.fixture
def machine(tmp_path):
    """run(...) calls ./dev in a folder with a space in its name, with nothing but what a bare
    machine has: no package is installed, and we are not root."""
    programs, source = tmp_path / "bin", tmp_path / "my source"
    programs.mkdir()
    source.mkdir()
    shutil.copy(DEV, source)
    for name in ("bash", "dirname", "grep", "sed", "env", "cat"):
        (programs / name).symlink_to(shutil.which(name))

    def add(name, script):
        (programs / name).write_text("#!/bin/bash\n" + script)
        (programs / name).chmod(0o755)

    add("dpkg-query", "exit 1")
    add("id", "echo 1000")
    add("apt-get", 'echo "apt-get $*" >> "%s"' % (tmp_path / "asked"))

    def run(*arguments):
        return subprocess.run([programs / "bash", source / "dev", *arguments], text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
                              env={"PATH": str(programs)})

    run.add, run.asked = add, tmp_path / "asked"
    return run


def test_who_is_not_root_and_has_no_sudo_is_told_what_to_install(machine):
    done = machine("build")
    assert done.returncode == 1 and not machine.asked.exists()
    assert done.stderr.startswith("dev: ") and "as root: apt-get install" in done.stderr
    assert "libevent-dev" in done.stderr and "not found" not in done.stderr


def test_without_a_terminal_nobody_is_asked(machine):
    machine.add("sudo", '[ "$1" = -n ] || exit 9; shift; exec "$@"')
    machine.add("meson", "exit 1")
    done = machine("build")
    asked = machine.asked.read_text().splitlines()
    assert [line.split()[1] for line in asked] == ["update", "install"]
    assert "libevent-dev" in asked[1]
    assert done.returncode == 1 and "meson failed; see" in done.stderr
    assert "\033" not in done.stderr


def test_help_needs_nothing(machine):
    done = machine("help")
    assert done.returncode == 0 and "./dev run" in done.stdout + done.stderr, done
