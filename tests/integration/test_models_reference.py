"""Seeded random models of many shapes give the numbers of transformers and PEFT.

Skipped where these packages (and torch) are not installed: they are large, and the golden
models of tests/golden stand for them in every run. Tolerance 1e-5: rounding of f32 over
a few layers, in another order than ours; observed up to 4e-7.
"""
import json
import os
import pathlib
import subprocess

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("REPRISE_BINARY", str(ROOT / "build" / "reprise"))
GOLDEN = ROOT / "tests" / "golden"
TEXTS = ["the cache answers a question", "why", "", "a b c d e f g h i j k l m n o p q r s t u v",
         "1 2 3 4 5 6 7 8 9 0 " * 40]

BERTS = {
    "minilm": dict(hidden_size=384, num_attention_heads=12, intermediate_size=1536),
    "wide heads": dict(hidden_size=192, num_attention_heads=2, intermediate_size=300),
    "odd": dict(hidden_size=90, num_attention_heads=5, intermediate_size=77),
}
MODERNBERTS = {
    "base": dict(hidden_size=768, num_attention_heads=12, intermediate_size=1152, num_hidden_layers=7),
    "narrow": dict(hidden_size=96, num_attention_heads=2, intermediate_size=50, local_attention=9),
    "all global": dict(hidden_size=64, num_attention_heads=4, intermediate_size=96,
                       global_attn_every_n_layers=1),
}


def write(model, folder, tokenizer, config=None):
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "tokenizer.json").write_bytes((GOLDEN / tokenizer / "tokenizer.json").read_bytes())
    (folder / "modules.json").unlink(missing_ok=True)
    return folder


def embed(folder, *more):
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    done = subprocess.run([BINARY, "embed", "--model", str(folder), *map(str, more)], timeout=600,
                          input=lines.encode(), capture_output=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def ids_of(folder, window):
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(window)
    return [tokenizer.encode(text).ids for text in TEXTS]


def pooled(model, ids):
    x = torch.tensor([ids])
    with torch.no_grad():
        y = model(input_ids=x, attention_mask=torch.ones_like(x)).last_hidden_state[0].mean(0)
    return (y / y.norm()).tolist()


def compare(model, folder, *more, window=200, reference=None):
    reference = reference or model.eval()
    for got, ids in zip(embed(folder, *more), ids_of(folder, window)):
        off = max(abs(a - b) for a, b in zip(got, pooled(reference, ids)))
        print("off by %.2g" % off)
        assert off < 1e-5


def make_bert(shape):
    torch.manual_seed(1)
    config = transformers.BertConfig(vocab_size=40, max_position_embeddings=200, num_hidden_layers=6,
                                     initializer_range=0.08, attn_implementation="eager", **shape)
    return transformers.BertModel(config, add_pooling_layer=False)


def make_modernbert(shape):
    torch.manual_seed(2)
    config = transformers.ModernBertConfig(**{
        "vocab_size": 128, "max_position_embeddings": 200, "num_hidden_layers": 6,
        "local_attention": 24, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        "cls_token_id": 1, "sep_token_id": 2, "attn_implementation": "eager",
        "reference_compile": False, **shape})
    model = transformers.ModernBertModel(config)
    for name, value in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(value, 1.0, 0.3)
        elif value.dim() == 2:
            torch.nn.init.normal_(value, 0.0, 1.2 / value.shape[1] ** 0.5)
    return model


@pytest.mark.parametrize("name", BERTS)
def test_bert(name, tmp_path):
    model = make_bert(BERTS[name])
    compare(model, write(model, tmp_path / "m", "tiny_bert/mean"))


@pytest.mark.parametrize("name", MODERNBERTS)
def test_modernbert(name, tmp_path):
    model = make_modernbert(MODERNBERTS[name])
    compare(model, write(model, tmp_path / "m", "tiny_modernbert/mean"))


@pytest.mark.parametrize("options", [
    dict(r=8, lora_alpha=16, target_modules=["query", "value"]),
    dict(r=5, lora_alpha=3, target_modules="all-linear", use_rslora=True),
    dict(r=4, lora_alpha=8, target_modules=["dense"], rank_pattern={"output.dense": 7},
         alpha_pattern={"intermediate.dense": 2}),
])
def test_adapters(options, tmp_path):
    peft = pytest.importorskip("peft")
    model = make_bert(BERTS["wide heads"])
    folder = write(model, tmp_path / "m", "tiny_bert/mean")
    adapted = peft.get_peft_model(model, peft.LoraConfig(**options))
    for name, value in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, 0.0, 0.2)
    adapted.save_pretrained(tmp_path / "a", safe_serialization=True)
    compare(model, folder, "--adapter", tmp_path / "a", reference=adapted.base_model.model.eval())
