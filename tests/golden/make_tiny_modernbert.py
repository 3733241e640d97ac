#!/usr/bin/env python3
"""Writes the two tiny ModernBERTs of tests/golden/tiny_modernbert and what they must compute.

Weights are random from a fixed seed; the forward pass below is ModernBERT (Warner et al.,
arXiv:2412.13663) in double precision and plain Python, written from the paper and the names
of the tensors, not from lib/model. It was compared with transformers 4.48 (eager attention,
f32): the largest difference of any number was 4e-7. Heads are 12 and 16 numbers wide, the
window is several times the reach of local attention, one model has the prefix of a
classifier's file and its tensors as f16 and bf16.

Run it in any place: it writes beside itself and gives the same bytes every time.
"""
import json
import math
import pathlib
import random
import re
import struct

from make_tiny_bert import encode

HERE = pathlib.Path(__file__).resolve().parent / "tiny_modernbert"
MERGES = ["Ġ t", "h e", "Ġt he", "a n", "Ġ a", "e r", "i n", "c a", "Ġ ca", "c h", "Ġca ch", "Ġcach e",
          "s w", "an sw", "answ er", "Ġ answer", "Ġa n", "Ġan sw", "Ġansw er", "q u", "Ġ qu", "Ġqu e"]
SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
TEXTS = ["the cache answers a question", "why", "", "  two  spaces, 12 3's and a tab\there.",
         "again and again and again the answer is the cache, the cache and the answer again " * 2,
         "[MASK] is one token", "the"]


def make_vocabulary():
    letters = [chr(c) for c in range(33, 127)] + ["Ġ", "ĉ"]
    words = dict.fromkeys(letters + ["".join(m.split(" ")) for m in MERGES])
    return {w: i for i, w in enumerate(words)}


def tokenize(vocabulary, text):
    """Byte-level BPE over ASCII, as the GPT-2 pattern splits it."""
    ranks = {tuple(m.split(" ")): i for i, m in enumerate(MERGES)}
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+"
    ids = []
    for piece in re.split(r"(\[MASK\])", text):
        if piece == "[MASK]":
            ids.append(len(vocabulary) + SPECIAL.index("[MASK]"))
            continue
        for word in re.findall(pattern, piece):
            parts = ["Ġ" if c == " " else "ĉ" if c == "\t" else c for c in word]
            while True:
                pairs = [(ranks.get(p, 1 << 30), i) for i, p in enumerate(zip(parts, parts[1:]))]
                if not pairs or min(pairs)[0] == 1 << 30:
                    break
                at = min(pairs)[1]
                parts[at:at + 2] = [parts[at] + parts[at + 1]]
            ids += [vocabulary[p] for p in parts]
    return ids


class Model:
    def __init__(self, folder, prefix, dtypes, pooling, hidden, heads, inner, layers, reach, seed,
                 thetas):
        self.folder, self.pooling, self.hidden, self.heads = HERE / folder, pooling, hidden, heads
        self.inner, self.layers, self.reach, self.window = inner, layers, reach, 40
        self.thetas, self.every = thetas, 3
        self.random, self.tensors, self.stored, self.shapes = random.Random(seed), {}, {}, {}
        self.prefix, self.dtypes = prefix, dtypes
        self.vocabulary = make_vocabulary()
        self.words = len(self.vocabulary) + len(SPECIAL) + 3
        self.make()

    def add(self, name, *shape, mean=0.0, spread=0.25):
        dtype = self.dtypes[len(self.tensors) % len(self.dtypes)]
        data, seen = encode([self.random.gauss(mean, spread) for _ in range(math.prod(shape))], dtype)
        self.tensors[name], self.shapes[name] = seen, shape
        self.stored[self.prefix + name] = (dtype, shape, data)

    def make(self):
        C, I = self.hidden, self.inner
        self.add("embeddings.tok_embeddings.weight", self.words, C, spread=1.0)
        self.add("embeddings.norm.weight", C, mean=1.0)
        for i in range(self.layers):
            if i:
                self.add(f"layers.{i}.attn_norm.weight", C, mean=1.0)
            self.add(f"layers.{i}.attn.Wqkv.weight", 3 * C, C, spread=1.5 / math.sqrt(C))
            self.add(f"layers.{i}.attn.Wo.weight", C, C, spread=1 / math.sqrt(C))
            self.add(f"layers.{i}.mlp_norm.weight", C, mean=1.0)
            self.add(f"layers.{i}.mlp.Wi.weight", 2 * I, C, spread=1 / math.sqrt(C))
            self.add(f"layers.{i}.mlp.Wo.weight", C, I, spread=1 / math.sqrt(I))
        self.add("final_norm.weight", C, mean=1.0)

    # -- forward --
    def multiply(self, name, x):
        w, k = self.tensors[name + ".weight"], len(x)
        return [sum(w[n * k + i] * x[i] for i in range(k)) for n in range(len(w) // k)]

    def normalize(self, name, x):
        mean = sum(x) / len(x)
        scale = 1 / math.sqrt(sum((v - mean) ** 2 for v in x) / len(x) + 1e-5)
        return [(v - mean) * scale * g for v, g in zip(x, self.tensors[name + ".weight"])]

    def turn(self, x, position, theta):
        half = len(x) // 2
        angles = [position / theta ** (2 * d / len(x)) for d in range(half)]
        return [x[d] * math.cos(a) - x[d + half] * math.sin(a) for d, a in enumerate(angles)] + \
               [x[d + half] * math.cos(a) + x[d] * math.sin(a) for d, a in enumerate(angles)]

    def attend(self, layer, xs):
        local = layer % self.every != 0
        theta, C, D = self.thetas[local], self.hidden, self.hidden // self.heads
        qkv = [self.multiply(f"layers.{layer}.attn.Wqkv", x) for x in xs]
        out = [[0.0] * C for _ in xs]
        for h in range(self.heads):
            part = lambda row, kind: row[kind * C + h * D:kind * C + (h + 1) * D]
            q = [self.turn(part(row, 0), t, theta) for t, row in enumerate(qkv)]
            k = [self.turn(part(row, 1), t, theta) for t, row in enumerate(qkv)]
            for t in range(len(xs)):
                seen = [j for j in range(len(xs)) if not local or abs(j - t) <= self.reach]
                scores = [sum(a * b for a, b in zip(q[t], k[j])) / math.sqrt(D) for j in seen]
                shares = [math.exp(s - max(scores)) for s in scores]
                for j, share in zip(seen, shares):
                    for d, v in enumerate(part(qkv[j], 2)):
                        out[t][h * D + d] += share / sum(shares) * v
        return [self.multiply(f"layers.{layer}.attn.Wo", x) for x in out]

    def feed_forward(self, layer, x):
        both = self.multiply(f"layers.{layer}.mlp.Wi", self.normalize(f"layers.{layer}.mlp_norm", x))
        u, v = both[:self.inner], both[self.inner:]
        gated = [0.5 * a * (1 + math.erf(a / math.sqrt(2))) * b for a, b in zip(u, v)]
        return self.multiply(f"layers.{layer}.mlp.Wo", gated)

    def states(self, ids, types=None):
        C, table = self.hidden, self.tensors["embeddings.tok_embeddings.weight"]
        xs = [self.normalize("embeddings.norm", table[i * C:(i + 1) * C]) for i in ids]
        for layer in range(self.layers):
            seen = [self.normalize(f"layers.{layer}.attn_norm", x) for x in xs] if layer else xs
            xs = [[a + b for a, b in zip(x, y)] for x, y in zip(xs, self.attend(layer, seen))]
            xs = [[a + b for a, b in zip(x, self.feed_forward(layer, x))] for x in xs]
        return [self.normalize("final_norm", x) for x in xs]

    def forward(self, ids):
        xs = self.states(ids)
        pooled = xs[0] if self.pooling == "cls" else [sum(c) for c in zip(*xs)]
        length = math.sqrt(sum(v * v for v in pooled))
        return [v / length for v in pooled]

    # -- files --
    def config(self):
        shared = {"model_type": "modernbert", "hidden_size": self.hidden, "vocab_size": self.words,
                  "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
                  "intermediate_size": self.inner, "max_position_embeddings": 64,
                  "norm_eps": 1e-05, "hidden_activation": "gelu", "local_attention": 2 * self.reach,
                  "attention_bias": False, "mlp_bias": False, "norm_bias": False}
        if self.prefix:  # as transformers 5 writes it
            kinds = ["sliding_attention" if i % self.every else "full_attention"
                     for i in range(self.layers)]
            return shared | {"layer_types": kinds, "rope_parameters": {
                "full_attention": {"rope_theta": self.thetas[0], "rope_type": "default"},
                "sliding_attention": {"rope_theta": self.thetas[1], "rope_type": "default"}}}
        return shared | {"global_attn_every_n_layers": self.every,
                         "global_rope_theta": self.thetas[0], "local_rope_theta": self.thetas[1]}

    def tokenizer(self):
        first = len(self.vocabulary)
        special = lambda word: {"SpecialToken": {"id": word, "type_id": 0}}
        return {
            "version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": first + i, "content": w, "single_word": False, "lstrip": False,
                              "rstrip": False, "normalized": False, "special": True}
                             for i, w in enumerate(SPECIAL)],
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                              "use_regex": True},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [special("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, special("[SEP]")],
                "pair": [special("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, special("[SEP]"),
                         {"Sequence": {"id": "B", "type_id": 0}}, special("[SEP]")],
                "special_tokens": {w: {"id": w, "ids": [first + SPECIAL.index(w)], "tokens": [w]}
                                   for w in ("[CLS]", "[SEP]")}},
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                        "use_regex": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": False,
                      "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "byte_fallback": False, "ignore_merges": False, "vocab": self.vocabulary,
                      "merges": [m.split(" ") for m in MERGES]}}

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
        dump("config.json", self.config())
        dump("modules.json", [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}])
        (self.folder / "1_Pooling").mkdir(exist_ok=True)
        dump("1_Pooling/config.json", {"pooling_mode_cls_token": self.pooling == "cls",
                                       "pooling_mode_mean_tokens": self.pooling == "mean"})
        dump("sentence_bert_config.json", {"max_seq_length": self.window})
        dump("tokenizer.json", self.tokenizer())
        first, cases = len(self.vocabulary), []
        for text in TEXTS:
            ids = tokenize(self.vocabulary, text)[:self.window - 2]
            ids = [first + 1] + ids + [first + 2]
            cases.append({"text": text, "ids": ids, "vector": [round(v, 9) for v in self.forward(ids)]})
        dump("expected.json", cases)


if __name__ == "__main__":
    Model("mean", "", ["F32"], "mean", 24, 2, 20, 4, 3, 1, (160000.0, 10000.0)).write()
    Model("cls", "model.", ["F16", "BF16"], "cls", 48, 3, 40, 4, 5, 2, (160000.0, 50.0)).write()
