#!/usr/bin/env python3
"""Write tests/golden/tokenizer_NAME.jsonl: texts and the ids that Hugging Face gives.

    python scripts/make_tokenizer_golden.py TOKENIZER.json > tests/golden/tokenizer_NAME.jsonl

Run it with the version of `tokenizers` pinned in tests/requirements.txt. The texts are
our own; each is there for a rule that an implementation may get wrong.
"""
import json
import sys

from tokenizers import Tokenizer

TEXTS = [
    "", " ", "What is HNSW?", "how do i reset my password", "How do I reset my PASSWORD ?!",
    "unaffable internationalisation", "x" * 100, "x" * 101, "don't, can't; we've - it's I'LL I'll",
    "3.14 + 2,500 = 2503.14 kg (approx.)", "e-mail: a.b+c@d-e.org #42 $5 100% ~x^2 `y` |z|",
    "naïve café Ångström ÅNGSTRÖM", "nai\u0308ve cafe\u0301 A\u030angstro\u0308m", "Straße STRASSE ẞ",
    "İstanbul ISPARTA ışık", "ΟΔΥΣΣΕΥΣ Ὀδυσσεύς ᾳ ᾂ", "Пётр Йогурт ёж", "Tiếng Việt ệ ễ ộ",
    "什么是向量数据库?", "これはテストです。ガギグ か\u3099", "한국어 각 \u1100\u1161\u11a8", "中a文b㐀\U00020000豈",
    "مرحبا بالعالم ١٢٣", "हिन्दी में प्रश्न", "ภาษาไทย น้ำ", "עִבְרִית", "ქართული ᲥᲐᲠᲗᲣᲚᲘ", "Ꭰꭰ ꭰ",
    "emoji 😀 👩‍👩‍👧 🇩🇪 ❤️ 1️⃣", "zero\u200bwidth \u200djoin \ufeffbom soft\u00adhyphen",
    "tab\there\nnew\r\nline\u000bvt\u000cff", "nbsp\u00a0thin\u2009ideo\u3000ls\u2028ps\u2029x\u0085y",
    "nul\u0000byte bell\u0007 del\u007f c1\u0090 repl\ufffd priv\ue000 tag\U000e0041",
    "\U0001d15e \U0001d165\U0001d16d\U0001d165 \u302e\u302f", "a\u0345\u0301\u0327\u0334b q\u0323\u0307 q\u0307\u0323",
    "\u1e9b\u0323 \u0344 \u0340\u0341 \u212b \ufb01 ﬃ ① ²", "¿Qué? «quoted» „low“ — … ‽ ⁇ 〈x〉",
    "[CLS] text [SEP] [MASK] [PAD] [UNK] [cls]", "a[MASK]b [MASK][MASK]  [MASK]", "##ing ## ##",
    "<|endoftext|> <|padding|> |||IP_ADDRESS||| [unused0] [unused99]",
    "two  spaces   three    four" + " " * 30 + "thirty", "trailing   ", "   leading", "\n\n\n  x \n y",
    "def f(x):\n    return x**2  # square\n\tif x: pass", "SELECT * FROM t WHERE a='b''c' AND d<>5;",
    "http://example.org/a?b=c&d=%20#e", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "abcabcabcabc" * 30,
    "\U0001f600" * 40, "e\u0301" * 30, "が" * 101, "…" * 20, "'", "''s 's 'S 're 'RE",
    "𝐁𝐨𝐥𝐝 𝒮𝒸𝓇𝒾𝓅𝓉 ｆｕｌｌ ＷＩＤＴＨ", "\u0378 \U0001faff \U0003ffff \U0010fffd", "ⅷ Ⅷ Ⓐ ⓐ Ǆ ǅ ǆ",
]


def main():
    tokenizer = Tokenizer.from_file(sys.argv[1])
    tokenizer.no_truncation()
    tokenizer.no_padding()
    for text in TEXTS:
        print(json.dumps({"text": text, "ids": tokenizer.encode(text).ids}))


if __name__ == "__main__":
    main()
