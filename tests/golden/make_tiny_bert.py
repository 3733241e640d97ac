#!/usr/bin/env python3
"""Writes the two tiny encoders of tests/golden/tiny_bert and what they must compute.

Weights are random from a fixed seed; the forward pass below is BERT (Devlin et al.,
arXiv:1810.04805) in double precision and plain Python, written from the paper and the
names of the tensors, not from lib/model. Sizes are chosen to hang over every tile:
hidden and intermediate are no multiples of 64 or 16, one head is 12 numbers wide.

Run it in any place: it writes beside itself and gives the same bytes every time.
"""
import json
import math
import pathlib
import random
import struct

HERE = pathlib.Path(__file__).resolve().parent / "tiny_bert"
WORDS = ("[PAD] [UNK] [CLS] [SEP] the cache answers a question again why does not it forget me "
         "##s ##ing old new prompt , . ? 1 2 and").split()
TEXTS = ["the cache answers a question", "why", "why does it not forget me ?", "",
         "old prompts and new prompts , again and again", "a 1 2 zebra .",
         "the the the the the the the the the the the the the the the the"]


def bf16(x):
    bits = struct.unpack("<I", struct.pack("<f", x))[0]
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return bits, struct.unpack("<f", struct.pack("<I", bits << 16))[0]


def encode(values, dtype):
    """Bytes of the values, and the values that a reader will see."""
    if dtype == "F32":
        data = struct.pack(f"<{len(values)}f", *values)
        return data, list(struct.unpack(f"<{len(values)}f", data))
    if dtype == "F16":
        data = struct.pack(f"<{len(values)}e", *values)
        return data, list(struct.unpack(f"<{len(values)}e", data))
    pairs = [bf16(x) for x in values]
    return struct.pack(f"<{len(values)}H", *(p[0] for p in pairs)), [p[1] for p in pairs]


class Model:
    def __init__(self, folder, prefix, dtypes, pooling, hidden, heads, inner, layers, seed):
        self.folder, self.pooling, self.hidden, self.heads = HERE / folder, pooling, hidden, heads
        self.inner, self.layers, self.window, self.positions = inner, layers, 14, 16
        self.random, self.tensors, self.stored, self.shapes = random.Random(seed), {}, {}, {}
        self.prefix, self.dtypes = prefix, dtypes
        self.make()

    def add(self, name, *shape, mean=0.0, spread=0.25):
        count = math.prod(shape)
        dtype = self.dtypes[len(self.tensors) % len(self.dtypes)]
        data, seen = encode([self.random.gauss(mean, spread) for _ in range(count)], dtype)
        self.tensors[name], self.shapes[name] = seen, shape
        self.stored[self.prefix + name] = (dtype, shape, data)

    def linear(self, name, rows, columns):
        self.add(name + ".weight", rows, columns, spread=1 / math.sqrt(columns))
        self.add(name + ".bias", rows)

    def norm(self, name):
        self.add(name + ".weight", self.hidden, mean=1.0)
        self.add(name + ".bias", self.hidden)

    def make(self):
        C = self.hidden
        self.add("embeddings.word_embeddings.weight", len(WORDS), C, spread=1.0)
        self.add("embeddings.position_embeddings.weight", self.positions, C)
        self.add("embeddings.token_type_embeddings.weight", 2, C)
        self.norm("embeddings.LayerNorm")
        for i in range(self.layers):
            at = f"encoder.layer.{i}."
            for name in ("query", "key", "value"):
                self.linear(at + "attention.self." + name, C, C)
            self.linear(at + "attention.output.dense", C, C)
            self.norm(at + "attention.output.LayerNorm")
            self.linear(at + "intermediate.dense", self.inner, C)
            self.linear(at + "output.dense", C, self.inner)
            self.norm(at + "output.LayerNorm")

    # -- forward --
    def multiply(self, name, x):
        w, b = self.tensors[name + ".weight"], self.tensors[name + ".bias"]
        k = len(x)
        return [b[n] + sum(w[n * k + i] * x[i] for i in range(k)) for n in range(len(b))]

    def normalize(self, name, x):
        mean = sum(x) / len(x)
        scale = 1 / math.sqrt(sum((v - mean) ** 2 for v in x) / len(x) + 1e-12)
        gain, bias = self.tensors[name + ".weight"], self.tensors[name + ".bias"]
        return [(v - mean) * scale * g + b for v, g, b in zip(x, gain, bias)]

    def attend(self, at, xs):
        q, k, v = ([self.multiply(at + "attention.self." + n, x) for x in xs]
                   for n in ("query", "key", "value"))
        D = self.hidden // self.heads
        out = [[0.0] * self.hidden for _ in xs]
        for h in range(self.heads):
            part = slice(h * D, (h + 1) * D)
            for t in range(len(xs)):
                scores = [sum(a * b for a, b in zip(q[t][part], key[part])) / math.sqrt(D) for key in k]
                top = max(scores)
                shares = [math.exp(s - top) for s in scores]
                for j, share in enumerate(shares):
                    for d in range(D):
                        out[t][h * D + d] += share / sum(shares) * v[j][h * D + d]
        return out

    def states(self, ids, types=None):
        C = self.hidden
        row = lambda name, i: self.tensors[f"embeddings.{name}.weight"][i * C:(i + 1) * C]
        xs = [self.normalize("embeddings.LayerNorm", [a + b + c for a, b, c in zip(
            row("word_embeddings", t), row("position_embeddings", i), row("token_type_embeddings", types[i] if types else 0))])
            for i, t in enumerate(ids)]
        for i in range(self.layers):
            at = f"encoder.layer.{i}."
            mixed = self.attend(at, xs)
            for t, x in enumerate(xs):
                y = self.multiply(at + "attention.output.dense", mixed[t])
                x = self.normalize(at + "attention.output.LayerNorm", [a + b for a, b in zip(x, y)])
                y = [0.5 * v * (1 + math.erf(v / math.sqrt(2)))
                     for v in self.multiply(at + "intermediate.dense", x)]
                y = self.multiply(at + "output.dense", y)
                xs[t] = self.normalize(at + "output.LayerNorm", [a + b for a, b in zip(x, y)])
        return xs

    def forward(self, ids):
        xs = self.states(ids)
        pooled = xs[0] if self.pooling == "cls" else [sum(c) for c in zip(*xs)]
        length = math.sqrt(sum(v * v for v in pooled))
        return [v / length for v in pooled]

    # -- files --
    def write(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        dump = lambda name, value: (self.folder / name).write_text(json.dumps(value) + "\n")
        header, at = {"__metadata__": {"format": "pt"}}, 0
        for name, (dtype, shape, data) in self.stored.items():
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
            at += len(data)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        (self.folder / "model.safetensors").write_bytes(
            struct.pack("<Q", len(text)) + text + b"".join(d for _, _, d in self.stored.values()))
        dump("config.json", {
            "model_type": "bert", "hidden_size": self.hidden, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "intermediate_size": self.inner,
            "vocab_size": len(WORDS), "max_position_embeddings": self.positions,
            "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu"})
        dump("modules.json", [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}])
        (self.folder / "1_Pooling").mkdir(exist_ok=True)
        dump("1_Pooling/config.json", {"pooling_mode_cls_token": self.pooling == "cls",
                                       "pooling_mode_mean_tokens": self.pooling == "mean"})
        dump("sentence_bert_config.json", {"max_seq_length": self.window})
        special = lambda word: {"SpecialToken": {"id": word, "type_id": 0}}
        dump("tokenizer.json", {
            "version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": i, "content": w, "single_word": False, "lstrip": False,
                              "rstrip": False, "normalized": False, "special": True}
                             for i, w in enumerate(WORDS[:4])],
            "normalizer": {"type": "BertNormalizer", "clean_text": True,
                           "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [special("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, special("[SEP]")],
                "pair": [special("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, special("[SEP]"),
                         {"Sequence": {"id": "B", "type_id": 1}},
                         {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
                "special_tokens": {w: {"id": w, "ids": [WORDS.index(w)], "tokens": [w]}
                                   for w in ("[CLS]", "[SEP]")}},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                      "max_input_chars_per_word": 100,
                      "vocab": {w: i for i, w in enumerate(WORDS)}}})
        cases = []
        for text in TEXTS:
            ids = []
            for word in text.split():
                if word in WORDS:
                    ids.append(WORDS.index(word))
                elif word.endswith("s") and word[:-1] in WORDS:
                    ids += [WORDS.index(word[:-1]), WORDS.index("##s")]
                else:
                    ids.append(WORDS.index("[UNK]"))
            ids = [2] + ids[:self.window - 2] + [3]
            cases.append({"text": text, "ids": ids, "vector": [round(v, 9) for v in self.forward(ids)]})
        dump("expected.json", cases)


if __name__ == "__main__":
    Model("mean", "", ["F32"], "mean", 24, 2, 40, 2, 1).write()
    Model("cls", "bert.", ["F16", "BF16", "F32"], "cls", 96, 3, 200, 2, 2).write()
