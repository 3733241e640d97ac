"""The real SDKs read the replays of tests/golden/wire.

The unit test test_wire_golden.c holds those files to be what lib/wire writes; here the
clients that people use must make of them what the service said. No server of ours is
involved: a few lines hand out the files."""

import http.server
import json
import pathlib
import threading

import openai
import pytest

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden" / "wire"
QUESTION = [{"role": "user", "content": "q"}]
NAMES = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
}


class FileHandler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        streams = request.get("stream", False)
        name = request["model"] if request["model"] == "chat_tools" else NAMES[self.path]
        reply = (GOLDEN / f"{name}_replay.{'sse' if streams else 'json'}").read_bytes()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if streams else "application/json")
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FileHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def client(address):
    return openai.OpenAI(api_key="x", base_url=address + "/v1", max_retries=0)


def said(name):
    return json.loads((GOLDEN / f"{name}_body.json").read_text())


def test_chat_says_the_same_as_body_and_as_stream(client):
    wanted = said("chat")["choices"][0]["message"]["content"]
    body = client.chat.completions.create(model="m", messages=QUESTION)
    assert body.choices[0].message.content == wanted
    assert body.usage.total_tokens == 42
    chunks = list(client.chat.completions.create(model="m", messages=QUESTION, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == wanted
    assert [c.choices[0].finish_reason for c in chunks if c.choices].count("stop") == 1
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 42
    assert all(c.usage is None for c in chunks[:-1])
    assert len({(c.id, c.created, c.model) for c in chunks}) == 1


def test_tool_calls_come_whole_out_of_the_accumulator(client):
    stream = getattr(client.chat.completions, "stream", None) or client.beta.chat.completions.stream
    with stream(model="chat_tools", messages=QUESTION) as events:
        for _ in events:
            pass
        final = events.get_final_completion()
    calls = [(c.id, c.function.name, c.function.arguments) for c in final.choices[0].message.tool_calls]
    assert calls == [("call_1", "get_weather", '{"city":"Oslo"}'), ("call_2", "get_time", "{}")]
    assert final.choices[0].finish_reason == "tool_calls"


def test_completions_say_the_same_as_body_and_as_stream(client):
    wanted = said("completions")["choices"][0]["text"]
    assert client.completions.create(model="m", prompt="q").choices[0].text == wanted
    chunks = client.completions.create(model="m", prompt="q", stream=True)
    assert "".join(c.choices[0].text for c in chunks if c.choices) == wanted


def test_responses_say_the_same_as_body_and_as_stream(client):
    if not hasattr(client, "responses"):
        pytest.skip("this openai package knows no responses")
    with client.responses.stream(model="m", input="q") as events:
        kinds = [event.type for event in events]
        final = events.get_final_response()
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert final.output_text == client.responses.create(model="m", input="q").output_text
    assert final.output_text == "Hello there."


def test_messages_say_the_same_as_body_and_as_stream(address):
    anthropic = pytest.importorskip("anthropic")
    client = anthropic.Anthropic(api_key="x", base_url=address, max_retries=0)
    with client.messages.stream(model="m", max_tokens=9, messages=QUESTION) as events:
        for _ in events:
            pass
        final = events.get_final_message()
    wanted = said("messages")
    assert final.content[0].signature == wanted["content"][0]["signature"]
    assert final.content[1].text == wanted["content"][1]["text"]
    assert final.content[2].input == wanted["content"][2]["input"]
    assert (final.stop_reason, final.usage.output_tokens) == ("tool_use", 9)
