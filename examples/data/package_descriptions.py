#!/usr/bin/env python3
"""Data to text: what Debian's package lists say of each program (name, section, tags) -> its one-line description.

    package_descriptions.py OUT        writes OUT/{train,valid,test}.jsonl with "prompt" and "completion"

Reads the lists that apt has on this machine (after `apt-get update`).  Packages built from one source stay in one split, which a hash
of the source's name decides, so that a split keeps its packages when the lists grow."""
import hashlib
import json
import pathlib
import subprocess
import sys


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def packages():
    """Each package's fields; the lines of a folded field are joined."""
    listing = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True, text=True).stdout
    for paragraph in listing.split("\n\n"):
        fields, last = {}, None
        for line in paragraph.splitlines():
            if line.startswith((" ", "\t")):
                if last == "Tag":
                    fields[last] += " " + line.strip()
            else:
                last, _, value = line.partition(":")
                fields[last] = value.strip()
        yield fields


def examples():
    """(split, prompt, completion) of every tagged program, once."""
    known = set()
    for fields in packages():
        name = fields.get("Package")
        tags = [tag for tag in (fields.get("Tag") or "").replace(" ", "").split(",") if tag]
        description = fields.get("Description-en") or fields.get("Description")
        if not name or name in known or not description or "role::program" not in tags:
            continue
        known.add(name)
        bucket = int(digest(fields.get("Source", name).split()[0])[:8], 16) % 20
        section = fields.get("Section", "").rsplit("/", 1)[-1]
        yield ({0: "test", 1: "valid"}.get(bucket, "train"),
               f"name: {name} | section: {section} | tags: {', '.join(tags)}\ndescription:", f" {description}")


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    rows = sorted(examples(), key=lambda row: digest(row[1]))
    for split in "train", "valid", "test":
        part = [{"prompt": prompt, "completion": completion} for name, prompt, completion in rows if name == split]
        if not part:
            sys.exit(f"no {split} data: apt has no package lists here; run apt-get update")
        with open(out / f"{split}.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        print(f"{split}: {len(part)} rows")


if __name__ == "__main__":
    main()
