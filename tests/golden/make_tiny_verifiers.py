#!/usr/bin/env python3
"""Writes the two tiny cross-encoders of tests/golden/tiny_verifiers and their answers.

A BERT with one label (pooler, tanh, classifier; token types 0 and 1; tensors under "bert.")
and a ModernBERT with two (dense, GELU, norm, classifier over the mean; under "model."). Bodies
and their forward passes are those of the sibling scripts; heads and the cutting of long
pairs are written here from the documentation of transformers. Compared with transformers
4.48: largest difference of a probability 1e-7.

Run it in any place: it writes beside itself and gives the same bytes every time.
"""
import json
import math
import pathlib

import make_tiny_bert
import make_tiny_modernbert

HERE = pathlib.Path(__file__).resolve().parent / "tiny_verifiers"
BERT_PAIRS = [("the cache answers a question", "why does it not forget me ?"), ("why", "why"),
              ("", "the prompt"), ("", ""), ("a question", "zebra , zebra"),
              ("the the the the the the the the the", "why why"),
              ("why", "the the the the the the the the the the the the"),
              ("the the the the the the the", "why why why why why why why why"),
              ("why why why why why why why why", "the the the the the the the the")]
MODERN_PAIRS = [("the cache answers", "the answer is 12 3's"), ("why", "why"), ("", "x"), ("", ""),
                ("again and again and again and again", "the answer the cache"),
                ("the cache the cache the cache the cache", "abcdefghijklmnopqrstuvwxyz again")]


def cut(a, b, most):
    """Longest first, as Hugging Face tokenizers does it: once both are cut, the one that was
    longer (the second of equals) keeps the odd token."""
    if len(a) > len(b):
        b, a = cut(b, a, most)
    elif len(a) + len(b) > most:
        keep = min(len(a), most // 2)
        a, b = a[:keep], b[:most - keep]
    return a, b


def multiply(model, name, x, bias):
    k, w = len(x), model.tensors[name + ".weight"]
    b = model.tensors[name + ".bias"] if bias else [0.0] * (len(w) // k)
    return [b[n] + sum(w[n * k + i] * x[i] for i in range(k)) for n in range(len(b))]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


class BertVerifier(make_tiny_bert.Model):
    def make(self):
        super().make()
        self.linear("pooler.dense", self.hidden, self.hidden)
        self.prefix = ""
        self.linear("classifier", 1, self.hidden)

    def tokenize(self, text):
        ids = []
        for word in text.split():
            known = word in make_tiny_bert.WORDS
            ids.append(make_tiny_bert.WORDS.index(word if known else "[UNK]"))
        return ids

    def answer(self, a, b):
        a, b = cut(self.tokenize(a), self.tokenize(b), self.window - 3)
        ids, types = [2] + a + [3] + b + [3], [0] * (len(a) + 2) + [1] * (len(b) + 1)
        x = [math.tanh(v) for v in multiply(self, "pooler.dense", self.states(ids, types)[0], True)]
        return ids, types, sigmoid(multiply(self, "classifier", x, True)[0])


class ModernVerifier(make_tiny_modernbert.Model):
    def make(self):
        super().make()
        self.prefix = ""
        self.add("head.dense.weight", self.hidden, self.hidden, spread=1 / math.sqrt(self.hidden))
        self.add("head.norm.weight", self.hidden, mean=1.0)
        self.add("classifier.weight", 2, self.hidden, spread=1 / math.sqrt(self.hidden))
        self.add("classifier.bias", 2)
        self.prefix = "model."

    def answer(self, a, b):
        first = len(self.vocabulary)
        a, b = (make_tiny_modernbert.tokenize(self.vocabulary, t) for t in (a, b))
        a, b = cut(a, b, self.window - 3)
        ids = [first + 1] + a + [first + 2] + b + [first + 2]
        xs = self.states(ids)
        x = multiply(self, "head.dense", [sum(c) / len(xs) for c in zip(*xs)], False)
        x = self.normalize("head.norm", [0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x])
        low, high = multiply(self, "classifier", x, True)
        return ids, [0] * len(ids), sigmoid(high - low)


def finish(model, pairs, more):
    model.write()
    path = model.folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | more) + "\n")
    cases = []
    for a, b in pairs:
        ids, types, probability = model.answer(a, b)
        cases.append({"a": a, "b": b, "ids": ids, "types": types,
                      "probability": round(probability, 9)})
    (model.folder / "expected.json").write_text(json.dumps(cases) + "\n")


def main():
    make_tiny_bert.HERE = make_tiny_modernbert.HERE = HERE
    finish(BertVerifier("bert", "bert.", ["F32"], "cls", 24, 2, 40, 2, 21), BERT_PAIRS,
           {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}})
    finish(ModernVerifier("modernbert", "model.", ["F32", "F16"], "cls", 24, 2, 20, 4, 3, 22,
                          (160000.0, 10000.0)), MODERN_PAIRS,
           {"architectures": ["ModernBertForSequenceClassification"], "classifier_pooling": "mean",
            "id2label": {"0": "no", "1": "yes"}})


if __name__ == "__main__":
    main()
