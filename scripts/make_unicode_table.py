#!/usr/bin/env python3
"""Write lib/text/unicode_table.c: what each code point is to Hugging Face tokenizers.

The package stands on several Rust crates, each with Unicode tables of another age
(normalisation, categories, the standard library, two regular-expression engines), so no
one Unicode library agrees with it. This script asks the package itself about every code
point. Run it in an environment with the version pinned in tests/requirements.txt:

    python scripts/make_unicode_table.py > lib/text/unicode_table.c
"""
import sys

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

FLAGS = ["REMOVED", "CLEAN_SPACE", "BERT_SPACE", "BERT_PUNCTUATION", "CHINESE", "MARK",
         "LETTER", "NUMBER", "REGEX_SPACE", "WORD", "STRIP_SPACE", "DECOMPOSES", "NFC_UNSTABLE"]
BIT = {name: 1 << i for i, name in enumerate(FLAGS)}
POINTS = [p for p in range(0x110000) if not 0xD800 <= p < 0xE000]
HANGUL = range(0xAC00, 0xD7A4)


def bert(**on):
    options = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return normalizers.BertNormalizer(**{**options, **on}).normalize_str


NFD = normalizers.NFD().normalize_str
NFC = normalizers.NFC().normalize_str
CLEAN, CHINESE, STRIP, LOWER = (bert(clean_text=True), bert(handle_chinese_chars=True),
                                bert(strip_accents=True), bert(lowercase=True))


def added(**options):
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.add_tokens([AddedToken("<m>", normalized=False, **options)])
    return tokenizer


def references():
    """One character of each combining class that the package knows, in their order."""
    import unicodedata
    by_class = {}
    for point in POINTS:
        value = unicodedata.combining(chr(point))
        if value and NFD(chr(point)) == chr(point) and is_combining(chr(point)):
            by_class.setdefault(value, chr(point))
    ordered = sorted(by_class.items())
    for (_, low), (_, high) in zip(ordered, ordered[1:]):
        assert NFD("a" + high + low) == "a" + low + high, "classes are not those of Unicode"
    return ordered


def is_combining(c):
    # U+0334 has class 1 and U+0345 class 240, the lowest and the highest there are.
    return NFD("a" + c + "\u0334") != "a" + c + "\u0334" or NFD("a\u0345" + c) != "a\u0345" + c \
        or c in "\u0334\u0345"


def combining_class(c, ordered):
    if not is_combining(c):
        return 0
    for value, reference in ordered:
        swaps_back = NFD("a" + c + reference) != "a" + c + reference  # ours is higher
        swaps_on = NFD("a" + reference + c) != "a" + reference + c    # ours is lower
        if not swaps_back and not swaps_on:
            return value
    raise SystemExit(f"no class for U+{ord(c):04X}")


def pieces_of(pre_tokenizer, text):
    return [piece for piece, _ in pre_tokenizer.pre_tokenize_str(text)]


def composition_of(c):
    """The two characters that compose to c, or None if it never comes out of NFC."""
    parts = NFD(c)
    if len(parts) < 2 or NFC(c) != c:
        return None
    for i in range(len(parts) - 1, 0, -1):
        first = NFC(parts[:i] + parts[i + 1:])
        if len(first) == 1 and NFC(first + parts[i]) == c:
            return first, parts[i]
    raise SystemExit(f"no composition for U+{ord(c):04X}")


def main():
    split = pre_tokenizers.BertPreTokenizer()
    classes = {name: pre_tokenizers.Split(Regex(pattern), "removed")
               for name, pattern in (("LETTER", r"\p{L}"), ("NUMBER", r"\p{N}"), ("REGEX_SPACE", r"\s"))}
    single, left = added(single_word=True), added(lstrip=True)
    ordered = references()
    decompositions, compositions = {}, []
    properties = {}
    for point in POINTS:
        c, flags = chr(point), 0
        cleaned = CLEAN(c)
        assert cleaned in ("", " ", c)
        flags |= BIT["REMOVED"] if cleaned == "" else 0
        flags |= BIT["CLEAN_SPACE"] if cleaned == " " else 0
        pieces = pieces_of(split, "a" + c + "b")
        flags |= BIT["BERT_SPACE"] if pieces == ["a", "b"] else 0
        flags |= BIT["BERT_PUNCTUATION"] if len(pieces) == 3 else 0
        flags |= BIT["CHINESE"] if CHINESE(c) == " " + c + " " else 0
        parts = NFD(c)
        if parts != c:
            flags |= BIT["DECOMPOSES"]
            if point not in HANGUL:
                decompositions[point] = parts
            assert STRIP(c) == STRIP(parts)
        elif STRIP(c) == "":
            flags |= BIT["MARK"]
        for name, pattern in classes.items():
            flags |= BIT[name] if not pattern.pre_tokenize_str(c) else 0
        flags |= BIT["WORD"] if len(single.encode(c + "<m>").ids) == 1 else 0
        if c != "<":
            flags |= BIT["STRIP_SPACE"] if left.encode(c + "<m>").offsets[-1][0] == 0 else 0
        lower = LOWER(c)
        if len(lower) != 1:
            assert point == 0x130 and lower == "i\u0307", "the code has a rule for U+0130 only"
            lower = "i"
        combining = combining_class(c, ordered) if point >= 0x300 and parts == c else 0
        if combining or NFC(c) != c:
            flags |= BIT["NFC_UNSTABLE"]
        pair = None if point in HANGUL else composition_of(c)
        if pair:
            compositions.append((ord(pair[0]), ord(pair[1]), point))
        properties[point] = [flags, combining, ord(lower) - point]
    seconds = {second for _, second, _ in compositions} | set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))
    for point in seconds:
        properties[point][0] |= BIT["NFC_UNSTABLE"]
    write(properties, decompositions, sorted(compositions))


def rows(items, per_row, out):
    for i in range(0, len(items), per_row):
        out.append("    " + ", ".join(items[i:i + per_row]) + ",")


def write(properties, decompositions, compositions):
    records, blocks, pages = {}, {}, []
    for page in range(0x1100):
        block = tuple(records.setdefault(tuple(properties.get(point, [0, 0, 0])), len(records))
                      for point in range(page * 256, page * 256 + 256))
        pages.append(blocks.setdefault(block, len(blocks)))
    assert len(records) <= 65536 and len(blocks) <= 65536
    out = ["/* unicode_table.c - what each code point is to Hugging Face tokenizers.",
           " *",
           " * Generated by scripts/make_unicode_table.py, which asked the package itself",
           f" * (version {tokenizers.__version__}) about every code point. Do not edit. */",
           "/* clang-format off */",
           '#include "text/unicode.h"', "",
           "const rp_unicode_record rp_unicode_records[] = {"]
    rows([f"{{0x{flags:x}, {combining}, {delta}}}" for flags, combining, delta in records], 6, out)
    out += ["};", "", "const uint16_t rp_unicode_pages[0x1100] = {"]
    rows([str(page) for page in pages], 24, out)
    out += ["};", "", "const uint16_t rp_unicode_blocks[][256] = {"]
    for block in blocks:
        out.append("    {")
        rows([str(record) for record in block], 24, out)
        out.append("    },")
    out += ["};", ""]
    pool, entries = [], []
    for point, parts in sorted(decompositions.items()):
        entries.append(f"{{0x{point:x}, {len(pool)}, {len(parts)}}}")
        pool += [f"0x{ord(part):x}" for part in parts]
    out.append("const rp_unicode_decomposition rp_unicode_decompositions[] = {")
    rows(entries, 6, out)
    out += ["};", f"const size_t rp_unicode_decomposition_count = {len(entries)};", "",
            "const uint32_t rp_unicode_parts[] = {"]
    rows(pool, 12, out)
    out += ["};", "", "const rp_unicode_composition rp_unicode_compositions[] = {"]
    rows([f"{{0x{a:x}, 0x{b:x}, 0x{c:x}}}" for a, b, c in compositions], 5, out)
    out += ["};", f"const size_t rp_unicode_composition_count = {len(compositions)};"]
    sys.stdout.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
