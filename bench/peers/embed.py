#!/usr/bin/env python3
"""Reprise's encoder beside ONNX Runtime, OpenVINO, CTranslate2 and torch: one interleaved run.

    python -m venv venv && venv/bin/pip install -r bench/peers/requirements-embed.txt
    venv/bin/python bench/peers/embed.py --model FOLDER --texts QUESTIONS.txt

Every contender computes the same BERT from the same model.safetensors on one thread, with the
batches of `reprise bench embed`, which have no padding. Peers get token ids, Reprise gets texts.
Times are CPU times of the whole process, the least of all tries; contenders take turns within a
round, so that other work on the machine meets all of them. QUESTIONS.txt has one text a line:
the first half calibrates the peer that needs it (NNCF), the second gives the cosines to f32.

The ONNX graph is written here, operator by operator, in the form that exporters give
("export"), and once more with ONNX Runtime's own fused operators ("fused"); of both the faster
one is shown in each cell. ONNX Runtime's int8 is its dynamic quantisation, OpenVINO's is
NNCF's static quantisation with its settings for transformers (SmoothQuant included),
CTranslate2's its own. A peer that cannot be had is named with the reason.
"""
import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

sys.path.remove(str(pathlib.Path(__file__).resolve().parent))  # its tokenizers.py is not the package

GRID = [(1, 8), (1, 16), (1, 32), (1, 128), (32, 16), (32, 128)]
WORD = "cat"


class Weights:
    def __init__(self, folder):
        from safetensors.numpy import load_file
        config = json.loads((folder / "config.json").read_text())
        self.hidden, self.heads = config["hidden_size"], config["num_attention_heads"]
        self.layers, self.epsilon = config["num_hidden_layers"], config["layer_norm_eps"]
        self.tensors = {name.removeprefix("bert."): tensor.astype(np.float32)
                        for name, tensor in load_file(folder / "model.safetensors").items()
                        if np.issubdtype(tensor.dtype, np.floating)}

    def __getitem__(self, name):
        return self.tensors[name]

    def layer(self, index, name):
        return self.tensors[f"encoder.layer.{index}.{name}"]


# ---- ONNX: a graph for ONNX Runtime and OpenVINO ----

class Graph:
    def __init__(self, weights, fused):
        self.weights, self.fused = weights, fused
        self.nodes, self.initializers, self.count = [], [], 0

    def constant(self, array):
        from onnx import numpy_helper
        self.count += 1
        name = f"c{self.count}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, kind, inputs, **attributes):
        from onnx import helper
        self.count += 1
        name = f"v{self.count}"
        own = "com.microsoft" if kind in ("Attention", "SkipLayerNormalization", "BiasGelu") else ""
        self.nodes.append(helper.make_node(kind, inputs, [name], f"n{self.count}", domain=own, **attributes))
        return name

    def linear(self, x, index, name, bias=True):
        product = self.add("MatMul", [x, self.constant(self.weights.layer(index, name + ".weight").T)])
        b = self.constant(self.weights.layer(index, name + ".bias"))
        return self.add("Add", [product, b]) if bias else (product, b)

    def norm(self, x, name):
        return self.add("LayerNormalization",
                        [x, self.constant(self.weights[name + ".weight"]), self.constant(self.weights[name + ".bias"])],
                        axis=-1, epsilon=self.weights.epsilon)

    def residual_norm(self, x, index, linear, norm):
        if not self.fused:
            y = self.add("Add", [self.linear(x[0], index, linear), x[1]])
            return self.norm(y, f"encoder.layer.{index}.{norm}")
        product, bias = self.linear(x[0], index, linear, bias=False)
        return self.add("SkipLayerNormalization",
                        [product, x[1], self.constant(self.weights.layer(index, norm + ".weight")),
                         self.constant(self.weights.layer(index, norm + ".bias")), bias], epsilon=self.weights.epsilon)

    def attention(self, x, index):
        w, heads, size = self.weights, self.weights.heads, self.weights.hidden // self.weights.heads
        names = [f"attention.self.{part}" for part in ("query", "key", "value")]
        if self.fused:
            matrix = np.concatenate([w.layer(index, name + ".weight").T for name in names], axis=1)
            bias = np.concatenate([w.layer(index, name + ".bias") for name in names])
            return self.add("Attention", [x, self.constant(matrix), self.constant(bias)], num_heads=heads)
        shape = self.constant(np.array([0, 0, heads, size], dtype=np.int64))
        split = [self.add("Reshape", [self.linear(x, index, name), shape]) for name in names]
        q = self.add("Transpose", [split[0]], perm=[0, 2, 1, 3])
        k = self.add("Transpose", [split[1]], perm=[0, 2, 3, 1])
        v = self.add("Transpose", [split[2]], perm=[0, 2, 1, 3])
        scores = self.add("Mul", [self.add("MatMul", [q, k]), self.constant(np.float32(size ** -0.5))])
        mixed = self.add("MatMul", [self.add("Softmax", [scores], axis=-1), v])
        return self.add("Reshape", [self.add("Transpose", [mixed], perm=[0, 2, 1, 3]),
                                    self.constant(np.array([0, 0, w.hidden], dtype=np.int64))])

    def up(self, x, index):
        if not self.fused:
            return self.add("Gelu", [self.linear(x, index, "intermediate.dense")])
        return self.add("BiasGelu", list(self.linear(x, index, "intermediate.dense", bias=False)))

    def build(self, path):
        import onnx
        from onnx import TensorProto, helper
        w = self.weights
        length = self.add("Slice", [self.add("Shape", ["ids"]), self.constant(np.array([1])), self.constant(np.array([2]))])
        places = self.add("Slice", [self.constant(w["embeddings.position_embeddings.weight"]),
                                    self.constant(np.array([0])), length, self.constant(np.array([0]))])
        x = self.add("Gather", [self.constant(w["embeddings.word_embeddings.weight"]), "ids"])
        x = self.add("Add", [x, self.constant(w["embeddings.token_type_embeddings.weight"][0])])
        x = self.norm(self.add("Add", [x, places]), "embeddings.LayerNorm")
        for i in range(w.layers):
            x = self.residual_norm((self.attention(x, i), x), i, "attention.output.dense", "attention.output.LayerNorm")
            x = self.residual_norm((self.up(x, i), x), i, "output.dense", "output.LayerNorm")
        mean = self.add("ReduceMean", [x, self.constant(np.array([1]))], keepdims=0)
        out = self.add("LpNormalization", [mean], axis=-1, p=2)
        self.nodes[-1].output[0] = "vectors"
        graph = helper.make_graph(self.nodes, "bert", [helper.make_tensor_value_info("ids", TensorProto.INT64, ["b", "n"])],
                                  [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["b", w.hidden])],
                                  self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)],
                                  ir_version=10)
        onnx.save(model, path)
        return str(path)


# ---- contenders: name, precision, embed(ids) -> vectors ----

def onnxruntime_peers(weights, calibration, folder):
    import onnxruntime as ort
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic
    ort.set_default_logger_severity(3)
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1

    def peer(precision, form, path):
        session = ort.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        return (f"ONNX Runtime {ort.__version__}", precision, form, lambda ids: session.run(None, {"ids": ids})[0])

    for form in ("export", "fused"):
        path = Graph(weights, form == "fused").build(folder / f"{form}.onnx")
        yield peer("f32", form, path)
        small = str(folder / f"{form}.int8.onnx")
        quantize_dynamic(path, small, weight_type=QuantType.QInt8, per_channel=True,
                         op_types_to_quantize=["MatMul", "Attention"], extra_options={"DefaultTensorType": TensorProto.FLOAT})
        yield peer("int8", form, small)


def openvino_peers(weights, calibration, folder):
    import openvino as ov
    core = ov.Core()
    path = Graph(weights, False).build(folder / "openvino.onnx")
    version = "OpenVINO " + ov.get_version().split("-")[0]

    def peer(precision, form, make, hint):
        ready = {}

        def embed(ids):
            """A shape of its own is fastest; one that changes from text to text gets a model of open shape."""
            shape = ids.shape if ids.shape in GRID else None
            if shape not in ready:
                model = make()
                model.reshape(list(shape) if shape else [-1, -1])
                compiled = core.compile_model(model, "CPU", {
                    "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_PRECISION_HINT": hint})
                ready[shape] = compiled.create_infer_request()
            return ready[shape].infer({"ids": ids}, share_inputs=True)[0].copy()
        return (version, precision, form, embed)

    def plain():
        return core.read_model(path)

    yield peer("f32", "", plain, "f32")
    yield peer("bf16", "", plain, "bf16")
    yield peer("f16", "", plain, "f16")
    try:
        import nncf
    except ImportError as why:
        print(f"skipped: OpenVINO int8, which NNCF makes: {why}")
        return
    nncf.set_log_level(40)
    small = nncf.quantize(plain(), nncf.Dataset([{"ids": ids} for ids in calibration]),
                          model_type=nncf.ModelType.TRANSFORMER, subset_size=len(calibration))
    yield peer("int8", "", small.clone, "f32")


def ctranslate2_peers(weights, calibration, folder):
    import ctranslate2
    from ctranslate2.converters import utils
    from ctranslate2.specs import common_spec, transformer_spec

    def linear(spec, index, name):
        spec.weight, spec.bias = weights.layer(index, name + ".weight"), weights.layer(index, name + ".bias")
        return spec

    def norm(spec, name):
        spec.gamma, spec.beta = weights[name + ".weight"], weights[name + ".bias"]

    encoder = transformer_spec.TransformerEncoderSpec(
        weights.layers, weights.heads, pre_norm=False, activation=common_spec.Activation.GELU, layernorm_embedding=True,
        num_source_embeddings=2, embeddings_merge=common_spec.EmbeddingsMerge.ADD)
    spec = transformer_spec.TransformerEncoderModelSpec(encoder)
    encoder.scale_embeddings = False
    encoder.embeddings[0].weight = weights["embeddings.word_embeddings.weight"]
    encoder.embeddings[1].weight = weights["embeddings.token_type_embeddings.weight"]
    encoder.position_encodings.encodings = weights["embeddings.position_embeddings.weight"]
    norm(encoder.layernorm_embedding, "embeddings.LayerNorm")
    for i, layer in enumerate(encoder.layer):
        parts = [linear(common_spec.LinearSpec(), i, f"attention.self.{part}") for part in ("query", "key", "value")]
        utils.fuse_linear(layer.self_attention.linear[0], parts)
        linear(layer.self_attention.linear[1], i, "attention.output.dense")
        norm(layer.self_attention.layer_norm, f"encoder.layer.{i}.attention.output.LayerNorm")
        linear(layer.ffn.linear_0, i, "intermediate.dense")
        linear(layer.ffn.linear_1, i, "output.dense")
        norm(layer.ffn.layer_norm, f"encoder.layer.{i}.output.LayerNorm")
    words = len(weights["embeddings.word_embeddings.weight"])
    spec.register_vocabulary([f"t{i}" for i in range(words)])
    spec.config.unk_token, spec.config.layer_norm_epsilon = "t100", weights.epsilon
    spec.validate()
    (folder / "ct2").mkdir()
    spec.save(str(folder / "ct2"))
    for precision, kind in (("f32", "float32"), ("int8", "int8_float32")):
        model = ctranslate2.Encoder(str(folder / "ct2"), device="cpu", compute_type=kind, intra_threads=1, inter_threads=1)

        def embed(ids, model=model):
            pooled = np.array(model.forward_batch(ids.tolist()).last_hidden_state).mean(axis=1)
            return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        yield (f"CTranslate2 {ctranslate2.__version__}", precision, "", embed)


def torch_peers(weights, calibration, folder):
    import torch
    from torch.nn import functional as F
    torch.set_num_threads(1)
    w = {name: torch.from_numpy(tensor) for name, tensor in weights.tensors.items()}
    heads, C = weights.heads, weights.hidden

    def norm(x, name):
        return F.layer_norm(x, (C,), w[name + ".weight"], w[name + ".bias"], weights.epsilon)

    def linear(x, name):
        return F.linear(x, w[name + ".weight"], w[name + ".bias"])

    def embed(ids):
        with torch.inference_mode():
            ids = torch.from_numpy(ids)
            b, n = ids.shape
            x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][0]
            x = norm(x + w["embeddings.position_embeddings.weight"][:n], "embeddings.LayerNorm")
            for i in range(weights.layers):
                at = f"encoder.layer.{i}."
                q, k, v = (linear(x, f"{at}attention.self.{part}").view(b, n, heads, -1).transpose(1, 2)
                           for part in ("query", "key", "value"))
                mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, C)
                x = norm(x + linear(mixed, at + "attention.output.dense"), at + "attention.output.LayerNorm")
                up = F.gelu(linear(x, at + "intermediate.dense"))
                x = norm(x + linear(up, at + "output.dense"), at + "output.LayerNorm")
            return F.normalize(x.mean(dim=1), dim=1).numpy()
    yield ("torch " + torch.__version__.split("+")[0], "f32", "", embed)


# ---- the run ----

def read_ours(options):
    command = [options.reprise, "bench", "embed", "--json", "--chosen", "--rounds", str(options.tries),
               "--model", str(options.model)]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    return [row for row in map(json.loads, lines) if "ms" in row]


def vectors_of_ours(options, precision, texts):
    command = [options.reprise, "embed", "--model", str(options.model), "--precision", precision, "--format", "npy",
               "--output", "/dev/stdout", "-"]
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "in.txt").write_text("".join(text + "\n" for text in texts))
        command[-2:] = [str(pathlib.Path(folder) / "out.npy"), str(pathlib.Path(folder) / "in.txt")]
        subprocess.run(command, capture_output=True, check=True)
        return np.load(pathlib.Path(folder) / "out.npy").astype(np.float64)


def show_cosines(vectors, exact):
    cosines = (vectors * exact).sum(axis=1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(exact, axis=1)
    return float(cosines.mean()), float(cosines.min())


def collect(options, folder):
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.no_padding()
    texts = [line for line in options.texts.read_text().splitlines() if line.strip()][:2 * options.count]
    half = len(texts) // 2
    ids = [np.array([tokenizer.encode(text).ids], dtype=np.int64) for text in texts]
    weights, peers = Weights(options.model), []
    for make in (onnxruntime_peers, openvino_peers, ctranslate2_peers, torch_peers):
        if make.__name__.removesuffix("_peers") in options.without:
            continue
        try:
            peers += make(weights, ids[:min(half, 300)], folder)
        except ImportError as why:
            print(f"skipped: {make.__name__.removesuffix('_peers')}: {why}")
    return tokenizer, texts[half:], ids[half:], peers


def measure(options, tokenizer, peers):
    batches = []
    for texts, tokens in GRID:
        row = tokenizer.encode(" ".join([WORD] * (tokens - 2))).ids
        assert len(row) == tokens
        batches.append(np.array([row] * texts, dtype=np.int64))
    times = {}
    for name, precision, form, embed in peers:  # the first call builds and warms up
        for batch in batches:
            embed(batch)
    for _ in range(options.rounds):
        for row in read_ours(options):
            cell = GRID.index((row["batch"], row["tokens"]))
            times.setdefault(("Reprise", row["class"], row["tier"]), {}).setdefault(cell, []).append(row["ms"])
        for cell, batch in enumerate(batches):
            for name, precision, form, embed in peers:
                least = float("inf")
                for _ in range(options.tries * (8 if batch.size < 100 else 1)):
                    start = time.process_time_ns()
                    embed(batch)
                    least = min(least, (time.process_time_ns() - start) / 1e6)
                times.setdefault((name, precision, form), {}).setdefault(cell, []).append(least)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reprise", default="build/reprise")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="folder of all-MiniLM-L6-v2, or another BERT")
    parser.add_argument("--texts", type=pathlib.Path, required=True, help="one text a line")
    parser.add_argument("--count", type=int, default=1000, help="texts to compare, and as many to calibrate with")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--tries", type=int, default=3, help="the least of so many is a round's time")
    parser.add_argument("--without", action="append", default=[], help="onnxruntime, openvino, ctranslate2, torch")
    parser.add_argument("--json", action="store_true", help="lines of JSON instead of a table")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        tokenizer, texts, ids, peers = collect(options, pathlib.Path(folder))
        times = measure(options, tokenizer, peers)
        exact = vectors_of_ours(options, "f32", texts)
        cosines = {key: show_cosines(vectors_of_ours(options, key[1], texts), exact) for key in times if key[0] == "Reprise"}
        for name, precision, form, embed in peers:
            cosines[(name, precision, form)] = show_cosines(np.concatenate([embed(row) for row in ids]), exact)
    merged = {}
    for key, cells in times.items():
        """Of a peer's graphs the faster one, cell by cell; its cosine is that of the better one."""
        row = merged.setdefault(key[:2], {"name": key[0], "precision": key[1], "ms": [float("inf")] * len(GRID),
                                          "median": [0.0] * len(GRID), "mean": 0.0, "worst": 0.0})
        for cell, tries in cells.items():
            if min(tries) < row["ms"][cell]:
                row["ms"][cell], row["median"][cell] = min(tries), float(np.median(tries))
        if cosines[key][0] > row["mean"]:
            row["mean"], row["worst"] = cosines[key]
    if options.json:
        for row in merged.values():
            print(json.dumps(row))
        return
    print(f"CPU ms, one thread, the least of {options.rounds} rounds of {options.tries} tries or more; cosine to f32 on "
          f"{len(texts)} texts")
    print(f"{'':32}" + "".join(f"{f'{b}x{n}':>10}" for b, n in GRID) + f"{'mean':>11}{'worst':>9}")
    for row in merged.values():
        print(f"{row['name'] + ' ' + row['precision']:32}" + "".join(f"{ms:>10.3f}" for ms in row["ms"]) +
              f"{row['mean']:>11.6f}{row['worst']:>9.5f}")
    spread = [median / least - 1 for row in merged.values() for median, least in zip(row["median"], row["ms"])]
    print(f"\nThe median of the rounds is above the least by {np.median(spread):.0%} (at most {max(spread):.0%}).\n")
    print(f"{'their time / ours, same class':32}" + "".join(f"{f'{b}x{n}':>10}" for b, n in GRID))
    for row in merged.values():
        of = merged.get(("Reprise", {"f16": "bf16"}.get(row["precision"], row["precision"])))
        if row["name"] != "Reprise" and of:
            print(f"{row['name'] + ' ' + row['precision']:32}" +
                  "".join(f"{theirs / ours:>10.2f}" for theirs, ours in zip(row["ms"], of["ms"])))


if __name__ == "__main__":
    main()
