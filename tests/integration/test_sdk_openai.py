"""The real OpenAI clients against `reprise serve` in front of `reprise mock-llm`.

What could go wrong: a replayed body or stream that our own eyes accept and the SDK does
not; a stream that loses a delta, its finish reason or its usage; an error that arrives in
another class; a call that the proxy breaks by being there. Every test makes its prompt its
own, so that hits are where it expects them and nowhere else.
"""
import asyncio
import itertools
import json
import os
import shutil
import subprocess

import openai
import pytest

from mock import Mock
from proxy import PATIENCE

numbers = itertools.count()
WORDS = ["alder", "beech", "cedar", "ebony", "fir", "ginkgo", "hazel", "ivory", "juniper", "larch"]


def prompt():
    """Never asked before in this session."""
    number = next(numbers)
    return "Describe the %s of case %d" % (WORDS[number % len(WORDS)], number)


@pytest.fixture(scope="module")
def mock():
    service = Mock()
    yield service
    service.stop()


@pytest.fixture
def server(start, mock):
    proxy = start(upstreams="[ { name: mock, url: %s } ]" % mock.url)
    proxy.accept()
    return proxy


@pytest.fixture
def client(server):
    return openai.OpenAI(base_url="http://%s:%d/v1" % server.address, api_key="sk-test-1",
                         max_retries=0, timeout=PATIENCE)


def ask(client, text, **fields):
    """The raw reply, for its headers, and what the SDK made of it."""
    raw = client.chat.completions.with_raw_response.create(
        model="mock-small", messages=[{"role": "user", "content": text}], **fields)
    return raw.headers, raw.parse()


def read(stream):
    """All chunks, and the text of the first choice."""
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    return chunks, text


def test_a_repeated_question_is_answered_from_the_store(client, mock):
    text = prompt()
    headers, first = ask(client, text)
    assert headers["x-reprise-cache"] == "miss"
    before = mock.requests
    headers, second = ask(client, text)
    assert mock.requests == before
    assert headers["x-reprise-cache"] == "hit"
    assert headers["x-reprise-cache-tier"] == "exact"
    assert second.choices[0].message.content == first.choices[0].message.content
    assert second.choices[0].finish_reason == "stop"
    assert second.usage == first.usage
    assert second.id != first.id
    assert second.model == first.model


@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_answers_a_plain_request_and_the_reverse(client, mock, usage):
    options = {"stream_options": {"include_usage": True}} if usage else {}
    streamed, plain = prompt(), prompt()
    chunks, first = read(ask(client, streamed, stream=True, **options)[1])
    headers, body = ask(client, streamed)
    if headers["x-reprise-cache"] == "hit":
        assert body.choices[0].message.content == first
    else:
        # A stream without usage cannot become a body that has it, unless it is known.
        assert not usage
    first = ask(client, plain)[1]
    before = mock.requests
    headers, stream = ask(client, plain, stream=True, **options)
    assert headers["x-reprise-cache"] == "hit"
    chunks, text = read(stream)
    assert mock.requests == before
    assert text == first.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    finishes = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert finishes[-1] == "stop" and not any(finishes[:-1])
    assert len({c.id for c in chunks}) == 1 and len({c.created for c in chunks}) == 1
    assert all(c.object == "chat.completion.chunk" for c in chunks)
    if usage:
        assert chunks[-1].choices == [] and chunks[-1].usage == first.usage
        assert all(c.usage is None for c in chunks[:-1])
    else:
        assert all(c.choices for c in chunks)


def test_a_replayed_stream_equals_the_first_one(client):
    text = prompt()
    first, first_text = read(ask(client, text, stream=True)[1])
    headers, stream = ask(client, text, stream=True)
    assert headers["x-reprise-cache"] == "hit"
    again, again_text = read(stream)
    assert again_text == first_text
    assert again[0].id != first[0].id


def test_tool_calls_come_through_and_are_replayed_exactly(client, mock):
    text = prompt()
    tools = [{"type": "function", "function": {
        "name": "look_up", "parameters": {"type": "object", "properties": {"input": {"type": "string"}}}}}]
    headers, first = ask(client, text, tools=tools)
    call = first.choices[0].message.tool_calls[0]
    assert call.function.name == "look_up" and json.loads(call.function.arguments) == {"input": text}
    before = mock.requests
    headers, again = ask(client, text, tools=tools)
    assert headers["x-reprise-cache"] == "hit" and headers["x-reprise-cache-tier"] == "exact"
    assert again.choices[0].message.tool_calls[0].function == call.function
    assert again.choices[0].finish_reason == "tool_calls"
    assert mock.requests == before
    # The same question without, or with other, tools is another question.
    assert ask(client, text)[0]["x-reprise-cache"] == "miss"
    other = json.loads(json.dumps(tools).replace("look_up", "search"))
    assert ask(client, text, tools=other)[0]["x-reprise-cache"] == "miss"
    assert ask(client, text, tools=tools, tool_choice="none")[0]["x-reprise-cache"] == "miss"


def test_tool_calls_stream(client):
    text = prompt()
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
    for expected in ("miss", "hit"):
        headers, stream = ask(client, text, tools=tools, stream=True)
        assert headers["x-reprise-cache"] == expected
        name, arguments = "", ""
        for chunk in stream:
            for call in chunk.choices[0].delta.tool_calls or []:
                name += call.function.name or ""
                arguments += call.function.arguments or ""
        assert name == "look_up" and json.loads(arguments) == {"input": text}


def test_several_choices_and_logprobs_are_kept_whole(client):
    text = prompt()
    first = ask(client, text, n=3, logprobs=True)[1]
    headers, again = ask(client, text, n=3, logprobs=True)
    assert headers["x-reprise-cache-tier"] == "exact"
    assert len(again.choices) == 3
    assert again.choices[2].logprobs == first.choices[2].logprobs


def test_errors_arrive_in_their_own_classes(client, server):
    fault = lambda kind: {"X-Mock-Fault": kind}  # noqa: E731
    for status, kind in ((400, openai.BadRequestError), (401, openai.AuthenticationError),
                         (404, openai.NotFoundError), (429, openai.RateLimitError),
                         (500, openai.InternalServerError)):
        with pytest.raises(kind) as caught:
            ask(client, prompt(), extra_headers=fault("status=%d" % status))
        assert caught.value.status_code == status
    # A stream that breaks is an error to the SDK, and is not stored.
    text = prompt()
    with pytest.raises(openai.APIError):
        read(ask(client, text, stream=True, extra_headers=fault("error-event"))[1])
    with pytest.raises(Exception):
        read(ask(client, text, stream=True, extra_headers=fault("reset-mid"))[1])
    client.chat.completions.with_raw_response.create(model="mock-small", messages=[
        {"role": "user", "content": "a revoked key stopped nothing else"}])
    assert ask(client, text)[0]["x-reprise-cache"] == "miss"


@pytest.mark.parametrize("kind", ["truncate", "empty", "error-event", "refusal", "filter"])
def test_what_is_not_a_whole_good_answer_is_not_kept(client, mock, kind):
    text = prompt()
    for stream in (True, False):
        if kind == "truncate" and not stream:
            continue
        try:
            reply = ask(client, text, stream=stream, extra_headers={"X-Mock-Fault": kind})[1]
            if stream:
                read(reply)
        except openai.APIError:
            pass
        before = mock.requests
        assert ask(client, text, stream=stream, extra_headers={"Cache-Control": "no-store"})[0][
            "x-reprise-cache"] == "miss"
        assert mock.requests == before + 1


def test_completions_embeddings_and_models(client, mock):
    text = prompt()
    first = client.completions.create(model="mock-small", prompt=text)
    raw = client.completions.with_raw_response.create(model="mock-small", prompt=text)
    assert raw.headers["x-reprise-cache"] == "hit"
    assert raw.parse().choices[0].text == first.choices[0].text
    pieces = [c.choices[0].text for c in client.completions.create(model="mock-small", prompt=text, stream=True)]
    assert "".join(pieces) == first.choices[0].text
    vectors = client.embeddings.create(model="mock-embed", input=[text, "other"], encoding_format="float")
    assert len(vectors.data) == 2 and len(vectors.data[0].embedding) == 8
    assert "mock-small" in {model.id for model in client.models.list()}


def test_the_asynchronous_client_shares_one_upstream_call(server, mock):
    text = prompt()

    async def ask_many():
        async with openai.AsyncOpenAI(base_url="http://%s:%d/v1" % server.address, api_key="sk-test-1",
                                      max_retries=0) as client:
            replies = await asyncio.gather(*(client.chat.completions.create(
                model="mock-small", messages=[{"role": "user", "content": text}]) for _ in range(8)))
            stream = await client.chat.completions.create(
                model="mock-small", messages=[{"role": "user", "content": text}], stream=True)
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
            return [reply.choices[0].message.content for reply in replies] + ["".join(pieces)]

    before = mock.requests
    answers = asyncio.run(ask_many())
    assert len(set(answers)) == 1
    # All eight at once: one leads, the others wait for it or hit what it stored.
    assert mock.requests == before + 1


def test_langchain_gets_its_answers(server):
    langchain = pytest.importorskip("langchain_openai")
    model = langchain.ChatOpenAI(base_url="http://%s:%d/v1" % server.address, api_key="sk-test-1",
                                 model="mock-small", max_retries=0)
    text = prompt()
    first = model.invoke(text)
    second = model.invoke(text)
    assert first.content == second.content and text in first.content
    assert "".join(piece.content for piece in model.stream(text)) == first.content
    assert asyncio.run(model.ainvoke(text)).content == first.content


NODE_PROGRAM = """
import OpenAI from 'openai';
const client = new OpenAI({ baseURL: process.argv[2], apiKey: 'sk-test-1', maxRetries: 0 });
const body = { model: 'mock-small', messages: [{ role: 'user', content: process.argv[3] }] };
const first = await client.chat.completions.create(body);
const { data, response } = await client.chat.completions.create(body).withResponse();
let streamed = '';
for await (const chunk of await client.chat.completions.create({ ...body, stream: true }))
    streamed += chunk.choices[0]?.delta?.content ?? '';
console.log(JSON.stringify({ first: first.choices[0].message.content,
    second: data.choices[0].message.content, streamed,
    cache: response.headers.get('x-reprise-cache') }));
"""


def test_the_node_package_gets_its_answers(server, tmp_path):
    folder = os.environ.get("REPRISE_NODE_MODULES")
    if not folder or not shutil.which("node"):
        pytest.skip("no node, or REPRISE_NODE_MODULES is not set")
    program = tmp_path / "program.mjs"
    program.write_text(NODE_PROGRAM)
    os.symlink(folder, tmp_path / "node_modules")
    said = subprocess.run(["node", str(program), "http://%s:%d/v1" % server.address, prompt()],
                          capture_output=True, text=True, timeout=PATIENCE)
    assert said.returncode == 0, said.stderr
    result = json.loads(said.stdout)
    assert result["first"] == result["second"] == result["streamed"]
    assert result["cache"] == "hit"
