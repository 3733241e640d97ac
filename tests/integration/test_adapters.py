"""HUP exchanges the encoder's LoRA adapter while requests are served.

What could go wrong: vectors of two encoders are compared; old entries are lost or never found
again; a request under way fails or waits; an adapter that is broken, or meant for another encoder,
changes something; the next start does not know.
"""
import concurrent.futures
import json
import os
import random
import re
import shutil
import struct
import subprocess
import threading

import pytest

from proxy import Admin, BINARY, wait_until

CONFIG = ("lookup_deadline: 60s\n"
          "routes: [ { match: { model: '*' }, cache: { policy: 'static:min_similarity=0.8' } } ]")
ASKED, STORED = "How can I reset my password?", "How do I reset my password?"


def write_adapter(folder, seed, layers=6, width=384, rank=2):
    """A small change of all queries and values: other numbers, the same meaning."""
    draw = random.Random(seed)
    header, data = {}, b""
    for layer in range(layers):
        for name in ("query", "value"):
            for part, shape, spread in (("A", (rank, width), 0.05), ("B", (width, rank), 0.4)):
                count = shape[0] * shape[1]
                values = struct.pack("<%df" % count, *(draw.gauss(0, spread) for _ in range(count)))
                key = "base_model.model.encoder.layer.%d.attention.self.%s.lora_%s.weight" % (
                    layer, name, part)
                header[key] = {"dtype": "F32", "shape": shape,
                               "data_offsets": [len(data), len(data) + len(values)]}
                data += values
    os.makedirs(folder, exist_ok=True)
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "adapter_model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
    with open(os.path.join(folder, "adapter_config.json"), "w") as file:
        json.dump({"peft_type": "LORA", "r": rank, "lora_alpha": rank, "bias": "none",
                   "target_modules": ["query", "value"], "task_type": "FEATURE_EXTRACTION"}, file)
    return str(folder)


def cosine(encoder, adapter):
    texts = (ASKED + "\n" + STORED + "\n").encode()
    more = ["--adapter", adapter] if adapter else []
    output = subprocess.run([BINARY, "embed", "--model", encoder, *more], input=texts, check=True,
                            capture_output=True).stdout
    a, b = (json.loads(line) for line in output.splitlines())
    return sum(x * y for x, y in zip(a, b))


class Adapted:
    def __init__(self, start, encoder, folder):
        self.start, self.encoder, self.folder = start, encoder, folder
        self.proxy = start(CONFIG, model=encoder + ", precision: f32", folder=folder)
        self.plain = self.proxy.config
        self.proxy.accept()

    def config(self, adapter):
        return self.plain.replace("precision: f32",
                                  "precision: f32" + (", adapter: " + adapter if adapter else ""))

    def exchange(self, adapter):
        said = self.proxy.reload(self.config(adapter))
        assert "the encoder's adapter was exchanged in" in said, said
        return float(re.search(r"exchanged in ([0-9.]+) ms", said).group(1))

    def fingerprint(self):
        name, = [name for name in Admin(self.proxy).metrics() if "reprise_build_info" in name]
        return re.search(r'fingerprint="([0-9a-f]{32})"', name).group(1)

    def wait_until_renewed(self):
        admin = Admin(self.proxy)
        wait_until(lambda: admin.metrics()["reprise_reembed_waiting"] == 0, "never done")

    def similarity(self):
        reply = self.proxy.wait_for_hit(ASKED)
        assert reply.headers["x-reprise-cache-tier"] == "semantic"
        return float(reply.headers["x-reprise-similarity"])


@pytest.fixture
def adapted(start, encoder, tmp_path):
    return Adapted(start, encoder, tmp_path)


def test_old_entries_are_found_with_the_new_vectors(adapted, tmp_path, upstream):
    first, second = (write_adapter(tmp_path / name, name) for name in ("first", "second"))
    proxy = adapted.proxy
    answer = proxy.chat(STORED).text
    expected = {adapter: cosine(adapted.encoder, adapter) for adapter in (None, first, second)}
    print("cosines:", expected)
    assert len({round(value, 3) for value in expected.values()}) == 3
    assert adapted.similarity() == pytest.approx(expected[None], abs=1e-4)
    seen = {adapted.fingerprint()}
    for adapter in (first, second, None):
        adapted.exchange(adapter)
        hit = proxy.chat(STORED)
        assert (hit.cache, hit.text) == ("hit", answer)  # at once
        adapted.wait_until_renewed()
        assert adapted.similarity() == pytest.approx(expected[adapter], abs=1e-4)
        seen.add(adapted.fingerprint())
    assert len(seen) == 3 and upstream.count() == 1
    assert "adapter" not in proxy.reload()  # nothing has changed, and nothing is said
    # Other files in the same folder count as another adapter.
    adapted.exchange(first)
    shutil.copytree(second, first, dirs_exist_ok=True)
    adapted.exchange(first)
    adapted.wait_until_renewed()
    assert adapted.similarity() == pytest.approx(expected[second], abs=1e-4)
    # The next start goes on with it.
    proxy.stop()
    again = adapted.start(adapted.config(first).split("\n", 2)[2],
                          model=adapted.encoder + ", precision: f32, adapter: " + first,
                          folder=adapted.folder)
    reply = again.wait_for_hit(ASKED)
    assert float(reply.headers["x-reprise-similarity"]) == pytest.approx(expected[second], abs=1e-4)


def test_an_adapter_that_cannot_be_used_changes_nothing(adapted, tmp_path):
    proxy = adapted.proxy
    proxy.chat(STORED)
    before, fingerprint = adapted.similarity(), adapted.fingerprint()
    broken = write_adapter(tmp_path / "broken", "broken")
    with open(broken + "/adapter_model.safetensors", "r+b") as file:
        file.truncate(5000)
    narrow = write_adapter(tmp_path / "narrow", "narrow", width=128)
    good = write_adapter(tmp_path / "good", "good")
    for adapter in (broken, narrow, "/nowhere"):
        said = proxy.reload(adapted.config(adapter))
        assert "the encoder's adapter stays as it was: " in said
        assert "configuration reloaded" in said
        assert (adapted.similarity(), adapted.fingerprint()) == (before, fingerprint)
    # An adapter of the next start's encoder waits with it.
    said = proxy.reload(adapted.config(good).replace(adapted.encoder, "/elsewhere"))
    assert "encoder.model changed in the configuration; it takes effect at the next start" in said
    assert "encoder.adapter changed" in said
    assert (adapted.similarity(), adapted.fingerprint()) == (before, fingerprint)


def test_requests_go_on_while_adapters_are_exchanged(adapted, tmp_path, upstream):
    adapters = [write_adapter(tmp_path / name, name) for name in ("first", "second")]
    proxy, stop = adapted.proxy, threading.Event()

    def ask(number):
        count = 0
        while not stop.is_set() or count < 10:
            reply = proxy.chat("Question %d of caller %d about gardens?" % (count % 20, number))
            assert reply.status == 200 and reply.cache in ("hit", "miss"), reply.headers
            count += 1
        return count

    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        under_way = pool.submit(proxy.chat, STORED, {"X-Test": "gate"})
        upstream.wait_for(1)
        askers = [pool.submit(ask, number) for number in range(4)]
        took = [adapted.exchange(adapters[i % 2]) for i in range(6)]
        upstream.gate.set()  # asked before the first exchange, answered after the last
        assert under_way.result().status == 200
        stop.set()
        print("exchanged in ms:", took, "requests:", [asker.result() for asker in askers])
    adapted.wait_until_renewed()
    assert adapted.similarity() == pytest.approx(cosine(adapted.encoder, adapters[1]), abs=1e-4)
    failures = {name: value for name, value in Admin(proxy).metrics().items()
                if name.startswith("reprise_cache_failures_total")}
    assert not failures
