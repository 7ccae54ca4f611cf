#!/usr/bin/env python3
"""Data to text: E2E's restaurants (Novikova et al., 2017; CC BY-SA 4.0), a meaning -> a sentence, in the LoRA paper's form.

    e2e_restaurants.py OUT [FOLDER]      writes OUT/{train,valid,test}.jsonl with "prompt" and "completion",
                                         and OUT/test_references.jsonl: each meaning of the test set with all its sentences

FOLDER has devset.csv and testset_w_refs.csv; without it they are downloaded (2.5 MB).  Of the development set every 11th meaning
is `valid`, the others are `train`: 4,208 sentences, a tenth of the data set's own training file; `test` is the official one."""
import csv
import hashlib
import io
import json
import pathlib
import re
import sys
import urllib.request

SOURCE = "https://raw.githubusercontent.com/tuetschek/e2e-dataset/master/"
FILES = {"devset.csv": "fc26b78cdb849c80545f513b223d1e051138b43882eeb79e3eb153e689c864f9",
         "testset_w_refs.csv": "edc8db685e39bb9824d5bd70c18b1c9b0412d14b527aa960e2d1c8251ee15ccd"}


def read(name, folder):
    """(meaning, sentence) of each line: name[Blue Spice], area[riverside] becomes name : Blue Spice | area : riverside."""
    try:
        data = (pathlib.Path(folder) / name).read_bytes() if folder else urllib.request.urlopen(SOURCE + name, timeout=60).read()
    except OSError as error:
        sys.exit(f"{name}: {error}; with the files at hand: {sys.argv[0]} OUT FOLDER")
    if hashlib.sha256(data).hexdigest() != FILES[name]:
        sys.exit(f"{name}: the checksum is wrong")
    for row in csv.DictReader(io.StringIO(data.decode(), newline="")):
        slots = re.findall(r"([^,\[\] ][^,\[\]]*)\[([^\]]*)\]", row["mr"])
        yield " | ".join(f"{key} : {value}" for key, value in slots) + "\n", row["ref"].strip()


def write(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    print(f"{path.stem}: {len(rows)} rows")


def by_meaning(rows):
    sentences = {}
    for meaning, sentence in rows:
        sentences.setdefault(meaning, []).append(sentence)
    return sentences


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    out, folder = pathlib.Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None
    development, test = (list(read(name, folder)) for name in FILES)
    out.mkdir(parents=True, exist_ok=True)
    held_out = set(list(by_meaning(development))[::11])
    train, valid = ([row for row in development if (row[0] in held_out) == held] for held in (False, True))
    for name, rows in ("train", train), ("valid", valid), ("test", test):
        write(out / f"{name}.jsonl", [{"prompt": meaning, "completion": sentence} for meaning, sentence in rows])
    write(out / "test_references.jsonl", [{"prompt": m, "references": s} for m, s in by_meaning(test).items()])


if __name__ == "__main__":
    main()
