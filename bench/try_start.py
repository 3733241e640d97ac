#!/usr/bin/env python3
"""When a server with many entries is ready: starts it, asks /readyz until it says so, and stops it.

    build/reprise bench start --data DIR --vectors TEXTS.npy --texts TEXTS.txt --count 1000000 --rounds 1
    python3 bench/try_start.py --data DIR [--vectors disk] [--rounds 3] [-- PREFIX...]

The first command fills the folder; what was read lately is in the page cache. PREFIX is put before the server's command,
`chrt -f 1` for instance on a machine that does other work. Each line: seconds from the start of the process until the
admin listener answers (the exact tier serves then) and until it is ready; CPU seconds; resident memory, and what of it is
not the store's file.
"""
import argparse
import http.client
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

ADMIN_PORT, CLIENT_PORT, WAIT_MAX_S = 28481, 28480, 600


def ask_ready():
    """The status and body of /readyz, or None while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", ADMIN_PORT, timeout=10)
    try:
        connection.request("GET", "/readyz")
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def cost_of(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    sizes = {name: int(value.split()[0]) >> 10 for name, value in (line.split(":", 1) for line in lines)
             if name in ("VmRSS", "RssAnon")}
    return (int(fields[11]) + int(fields[12])) / 100, sizes


def start_once(command):
    start = time.monotonic()
    listens = None
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while time.monotonic() - start < WAIT_MAX_S and server.poll() is None:
            said = ask_ready()
            if said and listens is None:
                listens = time.monotonic() - start
            if said and said[0] == 200:
                ready = time.monotonic() - start
                cpu, sizes = cost_of(server.pid)
                print(f"listens {listens:.2f} s, ready {ready:.2f} s, CPU {cpu:.2f} s, resident {sizes['VmRSS']} MiB, "
                      f"{sizes['RssAnon']} of them its own; lists ready: {said[1]['lists_ready']}", flush=True)
                return True
            time.sleep(0.02)
        return False
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reprise", default="build/reprise")
    parser.add_argument("--data", required=True)
    parser.add_argument("--vectors", choices=("memory", "disk"), default="memory")
    parser.add_argument("--memory-max", default="8GiB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("prefix", nargs="*")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "reprise.yaml"
        config.write_text(f"listen: 127.0.0.1:{CLIENT_PORT}\nadmin: {{ listen: '127.0.0.1:{ADMIN_PORT}' }}\n"
                          f"data: {json.dumps(options.data)}\nmemory_max: {options.memory_max}\n"
                          f"vectors: {options.vectors}\nupstreams: [ {{ name: none, url: 'http://127.0.0.1:9' }} ]\n")
        command = options.prefix + [options.reprise, "serve", "-c", str(config)]
        return 0 if all([start_once(command) for _ in range(options.rounds)]) else 1


if __name__ == "__main__":
    sys.exit(main())
