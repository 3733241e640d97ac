#!/usr/bin/env python3
"""Write a text file as a C string: embed_text.py INPUT OUTPUT NAME."""
import sys

source, target, name = sys.argv[1:]
with open(source, "rb") as file:
    lines = file.read().splitlines(keepends=True)


def literal(line):
    return "".join(chr(b) if 32 <= b < 127 and b not in b'"\\?' else "\\%03o" % b for b in line)


with open(target, "w") as file:
    file.write("/* Made of %s by scripts/embed_text.py. */\n" % source.rsplit("/", 1)[-1])
    file.write("extern const char %s[];\nconst char %s[] =\n" % (name, name))
    file.writelines('    "%s"\n' % literal(line) for line in lines)
    file.write("    ;\n")
