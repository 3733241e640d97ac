#!/usr/bin/env python3
"""Writes the LoRA adapters of tests/golden/tiny_adapters and what their bases compute with them.

In the form in which PEFT saves them; the merge below is its formula, W + alpha / r * B A,
or alpha / sqrt(r) for rank-stabilised ones, in double precision over the values that the
files hold. Compared with PEFT 0.14 over transformers 4.48: largest difference 6e-7.

Run it in any place: it writes beside itself and gives the same bytes every time.
"""
import json
import math
import pathlib
import random
import struct

import make_tiny_bert
import make_tiny_modernbert
from make_tiny_bert import encode

HERE = pathlib.Path(__file__).resolve().parent / "tiny_adapters"


class Adapter:
    def __init__(self, folder, base, names, root, dtype, seed, r, alpha, **options):
        self.folder, self.base, self.root, self.dtype = HERE / folder, base, root, dtype
        self.random, self.stored = random.Random(seed), {}
        self.r, self.alpha, self.options = r, alpha, options
        self.tensors = dict(base.tensors)
        for name in names:
            self.change(name)

    def pattern(self, name, kind, otherwise):
        for key, value in self.options.get(kind, {}).items():
            if name.endswith("." + key):
                return value
        return otherwise

    def add(self, name, *shape, spread):
        values = [self.random.gauss(0, spread) for _ in range(math.prod(shape))]
        data, seen = encode(values, self.dtype)
        self.stored[f"base_model.model.{self.root}{name}"] = (self.dtype, shape, data)
        return seen

    def change(self, name):
        weight = self.tensors[name + ".weight"]
        rank = self.pattern(name, "rank_pattern", self.r)
        alpha = self.pattern(name, "alpha_pattern", self.alpha)
        scale = alpha / (math.sqrt(rank) if self.options.get("use_rslora") else rank)
        rows, columns = self.base.shapes[name + ".weight"]
        a = self.add(name + ".lora_A.weight", rank, columns, spread=1 / math.sqrt(columns))
        b = self.add(name + ".lora_B.weight", rows, rank, spread=0.3)
        self.tensors[name + ".weight"] = [
            weight[n * columns + k] + scale * sum(b[n * rank + i] * a[i * columns + k] for i in range(rank))
            for n in range(rows) for k in range(columns)]

    def replace(self, name):
        count = len(self.tensors[name])
        self.tensors[name] = self.add(name, count, spread=0.3)

    def write(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        dump = lambda name, value: (self.folder / name).write_text(json.dumps(value) + "\n")
        header, at = {"__metadata__": {"format": "pt"}}, 0
        for name, (dtype, shape, data) in self.stored.items():
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
            at += len(data)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        (self.folder / "adapter_model.safetensors").write_bytes(
            struct.pack("<Q", len(text)) + text + b"".join(d for _, _, d in self.stored.values()))
        dump("adapter_config.json", {
            "peft_type": "LORA", "auto_mapping": None, "base_model_name_or_path": "somewhere/else",
            "bias": "none", "fan_in_fan_out": False, "inference_mode": True,
            "init_lora_weights": True, "layer_replication": None, "lora_alpha": self.alpha,
            "lora_dropout": 0.1, "modules_to_save": None, "r": self.r, "rank_pattern": {},
            "alpha_pattern": {}, "task_type": "FEATURE_EXTRACTION", "use_dora": False,
            "use_rslora": False} | self.options)
        before, self.base.tensors = self.base.tensors, self.tensors
        cases = json.loads((self.base.folder / "expected.json").read_text())
        for case in cases:
            case["vector"] = [round(v, 9) for v in self.base.forward(case["ids"])]
        self.base.tensors = before
        dump("expected.json", cases)


def main():
    bert = make_tiny_bert.Model("mean", "", ["F32"], "mean", 24, 2, 40, 2, 1)
    headed = make_tiny_bert.Model("cls", "bert.", ["F16", "BF16", "F32"], "cls", 96, 3, 200, 2, 2)
    modern = make_tiny_modernbert.Model("mean", "", ["F32"], "mean", 24, 2, 20, 4, 3, 1,
                                        (160000.0, 10000.0))
    at = [f"encoder.layer.{i}." for i in range(2)]
    Adapter("plain", bert, [p + n for p in at for n in ("attention.self.query", "attention.self.value")],
            "", "F32", 11, 4, 8, target_modules=["query", "value"]).write()
    Adapter("stabilised", headed, [p + n for p in at for n in (
        "attention.self.key", "attention.output.dense", "intermediate.dense", "output.dense")],
        "bert.", "F16", 12, 3, 6, target_modules=["key", "dense"], use_rslora=True,
        rank_pattern={"intermediate.dense": 5}, alpha_pattern={"self.key": 2}).write()
    replacing = Adapter("replacing", bert, ["encoder.layer.1.intermediate.dense"], "", "F32", 13, 2, 4,
                        target_modules=["intermediate.dense"], bias="all")
    replacing.replace("encoder.layer.0.attention.self.query.bias")
    replacing.replace("encoder.layer.1.output.LayerNorm.bias")
    replacing.write()
    Adapter("modern", modern, [f"layers.{i}.{n}" for i in range(4) for n in ("attn.Wqkv", "mlp.Wi")],
            "", "F32", 14, 2, 4, target_modules=".*(Wqkv|Wi)").write()


if __name__ == "__main__":
    main()
