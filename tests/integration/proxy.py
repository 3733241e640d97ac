"""Start `reprise serve` and talk to it, for tests of the proxy."""
import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time

BINARY = os.environ.get("REPRISE_BINARY", "build/reprise")
# Sanitizers and busy machines make everything slower; nothing here fails for being slow, but
# for never ending.
PATIENCE = 120


def wait_until(condition, message):
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, message
        time.sleep(0.02)


def while_it_lasts(attempt):
    """attempt(seconds) begins something that lasts that long, and says what it saw meanwhile.
    If the machine was so busy that the time was over before, again with a longer one. Gives
    the seconds and what was seen."""
    for seconds in (1, 5, 30):
        begun = time.monotonic()
        seen = attempt(seconds)
        if time.monotonic() - begun < seconds:
            return seconds, seen
    raise AssertionError("half a minute was not enough for a few requests")


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
        self.listen, self.admin = "127.0.0.1:0", admin
        self.config_path = os.path.join(self.folder, "reprise.yaml")
        self.access_log = os.path.join(self.folder, "access.log")
        self.lines = []
        self.killed = False
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
            file.write("listen: %s\nadmin: { %s }\n"
                       "data: %s/data\nlog: { access: %s }\n%s\n"
                       % (self.listen, self.admin, self.folder, self.access_log, config))
        self.config = config

    def _watch(self):
        for line in self.process.stderr:
            found = re.search(r"listening on (\S+?),", line)
            if found:
                host, _, port = found.group(1).rpartition(":")
                self.address = (host, int(port))
            self.lines.append(line)  # who waits for the line finds the address
            if found:
                self.listening.set()
        self.listening.set()

    def wait_for_line(self, text):
        """The first line with `text`."""
        def found():
            return [line for line in self.lines if text in line]
        wait_until(found, "no line with %r" % text)
        return found()[0]

    @property
    def admin_address(self):
        self.wait_for_line("admin listener on ")
        line = [line for line in self.lines if "admin listener on " in line][-1]
        host, _, port = re.search(r"admin listener on (\S+?),", line).group(1).rpartition(":")
        return host, int(port)

    def metric(self, name):
        """The sum of its samples."""
        connection = http.client.HTTPConnection(*self.admin_address, timeout=PATIENCE)
        try:
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
        finally:
            connection.close()
        return sum(float(line.split(" ")[-1]) for line in lines
                   if line.startswith((name + " ", name + "{")))

    def wait_for_metric(self, name, value):
        wait_until(lambda: self.metric(name) >= value, "%s never became %d" % (name, value))

    def wait_for_followers(self, count):
        """Until so many requests wait for another's upstream call."""
        self.wait_for_metric("reprise_in_flight_followers", count)

    def wait_for_leavers(self, count):
        """Until the server has seen so many clients leave."""
        self.wait_for_metric("reprise_clients_gone_total", count)

    def reload(self, config=None):
        """HUP with another configuration (or with another self.listen, self.admin); returns
        what was said until it had been dealt with. The addresses come last."""
        self.write_config(self.config if config is None else config)
        before = len(self.lines)
        self.signal(signal.SIGHUP)
        wait_until(lambda: any("listening on" in line for line in self.lines[before:]),
                   "never reloaded")
        return "".join(self.lines[before:])

    def signal(self, number):
        self.process.send_signal(number)

    def resident(self):
        """Bytes of memory that the process holds."""
        with open("/proc/%d/status" % self.process.pid) as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS:"))

    def kill(self):
        """As a crash would end it."""
        self.process.kill()
        self.process.wait(PATIENCE)
        self.killed = True

    def stop(self):
        """Stop in peace; fails if a sanitizer or an assert spoke."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise AssertionError("the server did not stop")
        self.watcher.join(PATIENCE)
        said = "".join(self.lines)
        assert "Sanitizer" not in said and "Assertion" not in said, said
        assert self.killed or self.process.returncode == 0, (self.process.returncode, said)

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
        """An entry enters the index after its commit, and one whose look-up made no vector
        is kept by another thread after its reply: what asks at once may come too soon."""
        until = time.monotonic() + PATIENCE
        while True:
            reply = self.chat(prompt, {**(headers or {}), "Cache-Control": "only-if-cached"},
                              **arguments)
            if reply.status != 504:
                return reply
            assert time.monotonic() < until, "never a hit: " + str(reply.reason)
            time.sleep(0.02)

    def accept(self, key="sk-test-1"):
        """Let the upstream accept this key, so that it may get hits."""
        assert self.call(path="/v1/embeddings", body={"model": "e", "input": "x"}, key=key,
                         headers={"Cache-Control": "no-cache, no-store"}).status == 200


class Admin:
    """The second listener of a running proxy."""

    def __init__(self, proxy):
        self.address = proxy.admin_address
        with open(proxy.folder + "/data/admin.token") as file:
            self.token = file.read().strip()
        assert os.stat(proxy.folder + "/data/admin.token").st_mode & 0o777 == 0o600

    def call(self, method, path, body=None, token=True, headers=None):
        all_headers = {"Authorization": "Bearer " + self.token} if token is True else {}
        all_headers.update(headers or {})
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE)
        try:
            payload = json.dumps(body) if isinstance(body, (dict, list)) else body
            connection.request(method, path, payload, all_headers)
            reply = connection.getresponse()
            return Reply(reply.status, reply.getheaders(), reply.read())
        finally:
            connection.close()

    def native(self, name, **members):
        return self.call("POST", "/v1/reprise/" + name, members)

    @property
    def url(self):
        return "http://%s:%d" % self.address

    def metrics(self):
        """Every sample of /metrics: {"name{label=\"x\"}": value}."""
        samples = {}
        for line in self.call("GET", "/metrics", token=False).body.decode().splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                samples[name] = float(value)
        return samples

    def wait_until_committed(self, count):
        wait_until(lambda: self.call("GET", "/v1/reprise/stats").json["committed"] >= count,
                   "never %d entries committed" % count)


def chat_body(prompt, **fields):
    body = {"model": "gpt-test", "messages": [{"role": "user", "content": prompt}]}
    body.update(fields)
    return body
