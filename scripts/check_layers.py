#!/usr/bin/env python3
"""Fail when an #include goes up or sideways between layers.

A file may include headers of its own module and of any row below it; never of its
own row, never from above. include/reprise may be used by all and includes only
itself and the C standard library.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROWS = {
    "tools": 7, "bench": 7, "examples": 7, "tests": 7,
    "server": 6, "train": 6, "eval": 6,
    "cache": 5,
    "embed": 4, "llm": 4,
    "model": 3, "index": 3, "store": 3, "evidence": 3, "policy": 3,
    "text": 2, "wire": 2,
    "math": 1, "json": 1, "net": 1,
    "base": 0,
}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]')


def module_of(path):
    parts = path.relative_to(ROOT).parts
    return parts[1] if parts[0] == "lib" else parts[0]


def main():
    wrong = []
    files = [p for folder in ("lib", "include", "server", "train", "eval", "tools")
             for p in sorted((ROOT / folder).rglob("*")) if p.suffix in (".c", ".h", ".cc", ".cpp", ".hpp")]
    for path in files:
        module = module_of(path)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            target = match.group(1)
            top = target.split("/")[0]
            where = f"{path.relative_to(ROOT)}:{number}"
            if module == "include":
                if "/" in target and top not in ("reprise", "sys"):
                    wrong.append(f"{where}: a public header includes {target}")
                continue
            if top not in ROWS or top == module:
                continue
            if ROWS[top] >= ROWS[module]:
                wrong.append(f"{where}: {module} (row {ROWS[module]}) includes {target} (row {ROWS[top]})")
            if target.endswith("_internal.h"):
                wrong.append(f"{where}: {target} is internal to {top}")
    for sentence in wrong:
        print(sentence)
    print(f"layers: {len(files)} files, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
