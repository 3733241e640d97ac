"""A small LLM service on plain sockets, for tests of the proxy.

It answers chat and text completions, whole or streamed, and numbers its answers, so
that a test sees which call an answer came from. A request can ask for bad behaviour in
the header X-Test (several joined by commas):

  status=N          an error object with that status
  reset             close before the head          reset-mid   close in the middle
  truncate          a stream that ends without its terminal events
  short             fewer bytes than Content-Length says
  garbage           bytes that are no HTTP
  not-json          200, but the body is no JSON
  stall             no reply until the test ends
  gate              no reply until Upstream.gate is set, or the proxy has left
  gate-mid          the head and the first events, then as `gate`
  pace=SECONDS      between the events of a stream
  finish=REASON     finish_reason
  empty             no text
  error-event       an error object in a 200
  partial           the whole, as a 206
  gzip              say that the body is encoded
  large=BYTES       a plain body of that many bytes
  early=STATUS      answer before the body was read
"""
import json
import select
import socket
import struct
import threading
import time
import zlib

from proxy import PATIENCE


class Request:
    def __init__(self, method, target, headers, body):
        self.method, self.target, self.headers, self.body = method, target, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def wants(self, name):
        """The value of a wish in X-Test, "" for one without a value, None if not wished."""
        for wish in self.headers.get("x-test", "").split(","):
            key, _, value = wish.strip().partition("=")
            if key == name:
                return value
        return None


class Broken(Exception):
    """The connection is to be closed without another word."""


class Upstream:
    def __init__(self):
        self.requests = []
        self.gate = threading.Event()
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.number = 0
        self.broken_pipes = 0
        self.rejection = 401
        self.rejected_keys = set()
        self.extra_members = {}  # of chat replies
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self):
        self.stopping.set()
        self.gate.set()
        self.listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self.listener.close()

    def count(self, path="/v1/chat/completions"):
        with self.lock:
            return sum(1 for request in self.requests if request.target.split("?")[0] == path)

    def wait_for(self, count, path="/v1/chat/completions"):
        until = time.monotonic() + PATIENCE
        while self.count(path) < count:
            assert time.monotonic() < until, "the upstream was not asked %d times" % count
            time.sleep(0.005)

    def wait_at_gate(self, connection):
        """Until the gate is set. If the proxy leaves before, that is a broken pipe."""
        while not self.gate.wait(0.005):
            if select.select([connection], [], [], 0)[0] and not connection.recv(1, socket.MSG_PEEK):
                raise BrokenPipeError

    # ---- connections ----

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = connection.makefile("rb")
        try:
            while True:
                request = self._read(reader, connection)
                if request is None:
                    return
                with self.lock:
                    self.requests.append(request)
                self._answer(connection, request)
        except Broken:
            pass
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            with self.lock:
                self.broken_pipes += 1
        finally:
            reader.close()
            connection.close()

    @staticmethod
    def _read(reader, connection):
        line = reader.readline().decode("latin-1").strip()
        if not line:
            return None
        method, target, _ = line.split(" ", 2)
        headers = {}
        while True:
            line = reader.readline().decode("latin-1").strip()
            if not line:
                break
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = b""
        if "early=" in headers.get("x-test", ""):
            return Request(method, target, headers, body)
        if headers.get("transfer-encoding", "") == "chunked":
            while True:
                size = int(reader.readline().split(b";")[0], 16)
                body += reader.read(size)
                reader.readline()
                if size == 0:
                    break
        else:
            body = reader.read(int(headers.get("content-length", "0")))
        return Request(method, target, headers, body)

    # ---- answers ----

    def _answer(self, connection, request):
        if request.wants("stall") is not None:
            self.stopping.wait()
            raise Broken
        if request.wants("gate") is not None:
            self.wait_at_gate(connection)
        if request.wants("reset") is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise Broken
        if request.wants("garbage") is not None:
            connection.sendall(b"this is not HTTP at all\r\n\r\n")
            raise Broken
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if key in self.rejected_keys:
            if request.wants("long") is not None:
                return self._send_long_refusal(connection, request.wants("long"))
            return self._send_json(connection, self.rejection,
                                   error("invalid key", "invalid_api_key"))
        if request.wants("early") is not None:
            self._send_json(connection, int(request.wants("early")), error("early", "early"),
                            [("Connection", "close")])
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(PATIENCE)
            while connection.recv(1 << 20):
                pass
            raise Broken
        if request.wants("status") is not None:
            status = int(request.wants("status"))
            return self._send_json(connection, status, error("as you wished", "wished"),
                                   [("retry-after", "7"), ("x-ratelimit-remaining-requests", "0")])
        path = request.target.split("?")[0]
        if request.method == "POST" and path in ("/v1/chat/completions", "/v1/completions"):
            return self._complete(connection, request, path == "/v1/chat/completions")
        if path == "/v1/embeddings":
            return self._send_json(connection, 200, {
                "object": "list", "model": "e", "usage": {"prompt_tokens": 1, "total_tokens": 1},
                "data": [{"object": "embedding", "index": 0, "embedding": [1.0]}]})
        if path == "/v1/models":
            return self._send_json(connection, 200, {"object": "list", "data": [
                {"id": "gpt-test", "object": "model", "created": 1, "owned_by": "upstream"}]})
        if path == "/v1/files":
            return self._send_json(connection, 200, {"received": len(request.body),
                                                     "crc": zlib.crc32(request.body)})
        if request.wants("large") is not None:
            return self._send_large(connection, int(request.wants("large")))
        self._send_json(connection, 404, error("no such path: " + path, "not_found"))

    @staticmethod
    def _send_long_refusal(connection, framing):
        body = json.dumps(error("x" * 300000, "invalid_api_key")).encode()
        if framing == "chunked":
            head, body = b"Transfer-Encoding: chunked", b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        else:
            head = b"Content-Length: %d" % len(body)
        connection.sendall(b"HTTP/1.1 401 No\r\nContent-Type: application/json\r\n%s\r\n\r\n"
                           % head + body)

    @staticmethod
    def _send_large(connection, size):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
                           b"Content-Length: %d\r\n\r\n" % size)
        block = bytes(range(256)) * 256
        while size:
            connection.sendall(block[:size])
            size -= min(size, len(block))

    @staticmethod
    def _send_json(connection, status, value, headers=()):
        body = json.dumps(value).encode()
        head = "HTTP/1.1 %d Status\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % (
            status, len(body))
        for name, text in headers:
            head += "%s: %s\r\n" % (name, text)
        connection.sendall(head.encode() + b"\r\n" + body)

    def _complete(self, connection, request, chat):
        asked = request.json
        if chat:
            prompt = asked["messages"][-1]["content"]
            prompt = prompt if isinstance(prompt, str) else json.dumps(prompt)
        else:
            prompt = asked["prompt"]
        with self.lock:
            self.number += 1
            number = self.number
        text = "" if request.wants("empty") is not None else "Answer %d to: %s" % (number, prompt)
        finish = request.wants("finish") or "stop"
        reply = {
            "id": "chatcmpl-up%d" % number, "object": "chat.completion" if chat else "text_completion",
            "created": 1700000000, "model": asked["model"],
            "choices": [{"index": 0, "finish_reason": finish, "logprobs": None}],
            "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
        }
        if chat:
            reply["choices"][0]["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            reply["choices"][0]["text"] = text
        reply.update(self.extra_members)
        if request.wants("error-event") is not None:
            reply = error("broken inside", "server_error")
        if asked.get("stream"):
            return self._stream(connection, request, reply, text, finish, chat, asked)
        body = json.dumps(reply).encode()
        if request.wants("not-json") is not None:
            body = b"{ this is no json"
        length = len(body) + (100 if request.wants("short") is not None else 0)
        head = ("HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
                "x-request-id: up-%d\r\nx-ratelimit-remaining-requests: 99\r\n"
                "Set-Cookie: session=%d\r\nX-Reprise-Cache: hit\r\n"
                % (206 if request.wants("partial") is not None else 200, length, number, number))
        if request.wants("gzip") is not None:
            head += "Content-Encoding: gzip\r\n"
        connection.sendall(head.encode() + b"\r\n")
        if request.wants("reset-mid") is not None:
            connection.sendall(body[:len(body) // 2])
            raise Broken
        connection.sendall(body)
        if request.wants("short") is not None:
            raise Broken

    def _stream(self, connection, request, reply, text, finish, chat, asked):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                           b"Transfer-Encoding: chunked\r\n\r\n")

        def send(bytes_):
            connection.sendall(b"%x\r\n%s\r\n" % (len(bytes_), bytes_))

        def event(choices, usage=None):
            chunk = {"id": reply["id"], "created": 1700000000, "model": asked["model"],
                     "object": "chat.completion.chunk" if chat else "text_completion",
                     "choices": choices}
            if (asked.get("stream_options") or {}).get("include_usage"):
                chunk["usage"] = usage
            send(b"data: " + json.dumps(chunk).encode() + b"\n\n")

        if "error" in reply:
            send(b"data: " + json.dumps(reply).encode() + b"\n\n")
            send(b"")
            return
        pace = float(request.wants("pace") or 0)
        words = text.split(" ")
        pieces = [word + (" " if i + 1 < len(words) else "") for i, word in enumerate(words) if word]
        if chat:
            event([{"index": 0, "delta": {"role": "assistant", "content": ""},
                    "finish_reason": None}])
        for i, piece in enumerate(pieces):
            if i == 2 and request.wants("gate-mid") is not None:
                self.wait_at_gate(connection)
            if i == 2 and request.wants("reset-mid") is not None:
                raise Broken
            delta = {"delta": {"content": piece}} if chat else {"text": piece}
            event([dict(index=0, finish_reason=None, **delta)])
            if pace:
                time.sleep(pace)
        if request.wants("truncate") is None:
            event([dict(index=0, finish_reason=finish, **({"delta": {}} if chat else {"text": ""}))])
            if (asked.get("stream_options") or {}).get("include_usage"):
                event([], {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18})
            send(b"data: [DONE]\n\n")
        connection.sendall(b"0\r\n\r\n")


def error(message, code):
    return {"error": {"message": message, "type": "server_error", "param": None, "code": code}}
