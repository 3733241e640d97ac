#!/usr/bin/env python3
"""As many short texts as asked for: those of the given files, filled up with seeded edits of them.

    python3 bench/make_texts.py --count 1001000 --output TEXTS.txt FILE_OR_FOLDER...
    build/reprise embed --precision int8 --format npy --output TEXTS.npy TEXTS.txt

Reads a text a line, the `text...`, `query` and `question` columns of a TSV (the last column of one without
a header), and `question` of JSON lines. Texts are distinct, have 8 to 400 bytes and one line. An edit changes one text
in one or two of five ways: a letter is left out or two change places, a word is left out, two words change places,
a word becomes one of another text, a few words are put in front. So an edit is about as near as what people type
twice. Order: shuffled; the last --real texts are as they were found and none of the others was made from them, for
questions that nobody has asked before. The same files, count and seed give the same bytes.
"""
import argparse
import json
import pathlib
import random
import sys

SIZE_MIN, SIZE_MAX = 8, 400
COLUMNS = ("text", "query", "question")
FRONTS = ("please tell me", "i want to know", "can you explain", "quick question:", "hi,", "help:", "does anybody know",
          "just wondering,", "could you say", "my question is:")


def read_tsv(path):
    lines = path.read_text(encoding="utf8", errors="replace").split("\n")
    head = [name.lower() for name in lines[0].split("\t")]
    wanted = [i for i, name in enumerate(head) if name.startswith(COLUMNS)]
    for line in lines[1:] if wanted else lines:
        fields = line.split("\t")
        yield from (fields[i] for i in wanted or [len(fields) - 1] if i < len(fields))


def read_texts(path):
    if path.suffix == ".tsv":
        yield from read_tsv(path)
    elif path.suffix == ".jsonl":
        for line in path.read_text(encoding="utf8", errors="replace").split("\n"):
            question = json.loads(line).get("question") if line.strip() else None
            if isinstance(question, str):
                yield question
    else:
        yield from path.read_text(encoding="utf8", errors="replace").split("\n")


def files_of(names):
    for name in map(pathlib.Path, names):
        if name.is_dir():
            yield from sorted(path for path in name.rglob("*") if path.suffix in (".tsv", ".jsonl", ".txt"))
        else:
            yield name


def edit_once(rng, text, other):
    words = text.split(" ")
    way = rng.randrange(5)
    if way == 0 or len(words) < 3:
        at = rng.randrange(len(text) - 1)
        return text[:at] + (text[at + 1] + text[at] if rng.random() < 0.5 else "") + text[at + 2:]
    at = rng.randrange(len(words) - 1)
    if way == 1:
        del words[at]
    elif way == 2:
        words[at], words[at + 1] = words[at + 1], words[at]
    elif way == 3:
        words[at] = rng.choice(other.split(" "))
    else:
        words.insert(0, rng.choice(FRONTS))
    return " ".join(words)


def is_fit(text):
    return SIZE_MIN <= len(text.encode()) <= SIZE_MAX and text.isprintable()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--count", type=int, default=1001000)
    parser.add_argument("--real", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", required=True)
    options = parser.parse_args()

    rng = random.Random(options.seed)
    found = {text: None for path in files_of(options.files) for text in map(str.strip, read_texts(path)) if is_fit(text)}
    texts = list(found)
    rng.shuffle(texts)
    texts = texts[:options.count]
    if len(texts) <= options.real:
        parser.error(f"only {len(texts)} texts were found")
    real = texts[len(texts) - options.real:] if options.real else []
    base = texts[:len(texts) - options.real]
    made = set()
    while len(texts) + len(made) < options.count:
        text = rng.choice(base)
        for _ in range(rng.randint(1, 2)):
            text = edit_once(rng, text, rng.choice(base)).strip()
            if len(text) < SIZE_MIN:
                break
        if is_fit(text) and text not in found:
            made.add(text)
    out = base + sorted(made)
    rng.shuffle(out)
    pathlib.Path(options.output).write_text("".join(text + "\n" for text in out + real), encoding="utf8")
    print(f"{len(texts)} texts as found, {len(made)} edits", file=sys.stderr)


if __name__ == "__main__":
    main()
