"""Start `reprise serve` and talk to it, for tests of the proxy."""
import http.client
import json
import os
import re
import signal
import subprocess
import threading

BINARY = os.environ.get("REPRISE_BINARY", "build/reprise")
# Sanitizers make everything slower; nothing here fails for being slow, but for never ending.
PATIENCE = 60


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.body = status, body
        self.headers = {name.lower(): value for name, value in headers}

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def text(self):
        """What the model said, from a body or from the events of a stream."""
        if not self.headers.get("content-type", "").startswith("text/event-stream"):
            choice = self.json["choices"][0]
            return choice["message"]["content"] if "message" in choice else choice["text"]
        parts = []
        for chunk in self.chunks:
            for choice in chunk["choices"]:
                parts.append((choice["delta"].get("content") if "delta" in choice
                              else choice["text"]) or "")
        return "".join(parts)

    @property
    def events(self):
        return [event[len("data: "):] for event in self.body.decode().split("\n\n")
                if event.startswith("data: ")]

    @property
    def chunks(self):
        return [json.loads(event) for event in self.events if event != "[DONE]"]

    @property
    def cache(self):
        return self.headers.get("x-reprise-cache")

    @property
    def reason(self):
        return self.headers.get("x-reprise-reason")


class Proxy:
    """A running server. `config` is YAML without listen, admin and data; `admin` is what
    stands in the admin section."""

    def __init__(self, folder, config, environment=None, arguments=(), admin="listen: 127.0.0.1:0"):
        self.folder = str(folder)
        self.admin = admin
        self.config_path = os.path.join(self.folder, "reprise.yaml")
        self.access_log = os.path.join(self.folder, "access.log")
        self.lines = []
        self.address = None
        self.write_config(config)
        self.process = subprocess.Popen(
            [BINARY, "serve", "-c", self.config_path, *arguments], stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL, env={**os.environ, **(environment or {})}, text=True)
        self.listening = threading.Event()
        self.watcher = threading.Thread(target=self._watch, daemon=True)
        self.watcher.start()
        assert self.listening.wait(PATIENCE), "the server did not start"
        assert self.address, "the server ended: " + "".join(self.lines)

    def write_config(self, config):
        with open(self.config_path, "w") as file:
            file.write("listen: 127.0.0.1:0\nadmin: { %s }\n"
                       "data: %s/data\nlog: { access: %s }\n%s\n"
                       % (self.admin, self.folder, self.access_log, config))

    def _watch(self):
        for line in self.process.stderr:
            self.lines.append(line)
            found = re.search(r"listening on (\S+?),", line)
            if found:
                host, _, port = found.group(1).rpartition(":")
                self.address = (host, int(port))
                self.listening.set()
        self.listening.set()

    def wait_for_line(self, text):
        for _ in range(PATIENCE * 20):
            if any(text in line for line in self.lines):
                return
            threading.Event().wait(0.05)
        raise AssertionError("no line with %r in: %s" % (text, "".join(self.lines)))

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        """Stop in peace; fails if a sanitizer or an assert spoke."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise AssertionError("the server did not stop")
        self.watcher.join(10)
        said = "".join(self.lines)
        assert "Sanitizer" not in said and "Assertion" not in said, said
        assert self.process.returncode == 0, (self.process.returncode, said)

    def connect(self):
        return http.client.HTTPConnection(*self.address, timeout=PATIENCE)

    def call(self, method="POST", path="/v1/chat/completions", body=None, headers=None,
             key="sk-test-1"):
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        all_headers = {"Content-Type": "application/json"} if body is not None else {}
        if key:
            all_headers["Authorization"] = "Bearer " + key
        all_headers.update(headers or {})
        connection = self.connect()
        try:
            connection.request(method, path, body, all_headers)
            reply = connection.getresponse()
            return Reply(reply.status, reply.getheaders(), reply.read())
        finally:
            connection.close()

    def chat(self, prompt, headers=None, key="sk-test-1", **fields):
        return self.call(body=chat_body(prompt, **fields), headers=headers, key=key)

    def wait_for_hit(self, prompt, headers=None, **arguments):
        """An entry enters the index after its commit, so a paraphrase may come too soon."""
        for _ in range(PATIENCE * 20):
            reply = self.chat(prompt, {**(headers or {}), "Cache-Control": "only-if-cached"},
                              **arguments)
            if reply.status != 504:
                return reply
            threading.Event().wait(0.05)
        raise AssertionError("never a hit: " + str(reply.reason))

    def accept(self, key="sk-test-1"):
        """Let the upstream accept this key, so that it may get hits."""
        assert self.call("GET", "/v1/models", key=key).status == 200


def chat_body(prompt, **fields):
    body = {"model": "gpt-test", "messages": [{"role": "user", "content": prompt}]}
    body.update(fields)
    return body
