"""Start `reprise mock-llm` and ask it what it saw."""
import json
import signal
import subprocess
import urllib.request

from proxy import BINARY, PATIENCE


class Mock:
    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [BINARY, "mock-llm", "--listen", "127.0.0.1:0", *arguments],
            stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://"), "mock-llm did not start"

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as reply:
            return json.load(reply)

    @property
    def requests(self):
        """How many requests reached the service."""
        return self.get("/mock/stats")["requests"]

    @property
    def last(self):
        return self.get("/mock/last")

    def reset(self):
        request = urllib.request.Request(self.url + "/mock/reset", method="POST", data=b"")
        urllib.request.urlopen(request, timeout=PATIENCE).read()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0
