#!/usr/bin/env python3
"""Sentence polarity: sentences of film reviews and whether they are for or against (Pang and Lee, 2005), 2,000 of each.

    polarity.py OUT        writes OUT/{train,valid,test}.csv: 3,200, 400 and 400 rows of "text" and "label" (negative, positive)

Debian's package python3-pattern has them among its tests; it is downloaded (16 MB; `apt-get update` first), not installed."""
import csv
import pathlib
import random
import subprocess
import sys
import tempfile

CORPUS = "usr/share/doc/python3-pattern/test/corpora/polarity-en-pang&lee2.csv"
SPLITS = {"train": 3200, "valid": 400, "test": 400}


def sentences():
    """(text, label) of every sentence."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        download = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", "python3-pattern"]
        if subprocess.run(download, cwd=folder).returncode:
            sys.exit("polarity.py: apt cannot download python3-pattern; run apt-get update")
        subprocess.run(["dpkg-deb", "-x", next(folder.glob("*.deb")), folder / "package"], check=True)
        with open(folder / "package" / CORPUS, encoding="utf-8-sig", newline="") as file:
            return [(" ".join(text.split()), "positive" if label == "1" else "negative") for label, text in csv.reader(file)]


def load(folder, split):
    """Texts and labels of a split that was written."""
    with open(pathlib.Path(folder) / f"{split}.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def save(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def bag_of_words(folder):
    """What needs no pre-trained model: logistic regression on TF-IDF of one and two words, its strength chosen by `valid`;
    accuracy on `valid` and `test`."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    models = [make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=c, max_iter=1000))
              for c in (0.3, 1, 3, 10, 30)]
    best = max((model.fit(*load(folder, "train")) for model in models), key=lambda model: model.score(*load(folder, "valid")))
    return best.score(*load(folder, "valid")), best.score(*load(folder, "test"))


def main():
    out, rows = pathlib.Path(sys.argv[1]), sentences()
    if len(rows) != sum(SPLITS.values()):
        sys.exit(f"polarity.py: {len(rows)} sentences in python3-pattern, not {sum(SPLITS.values())}")
    random.Random(17).shuffle(rows)
    out.mkdir(parents=True, exist_ok=True)
    for name, count in SPLITS.items():
        part, rows = rows[:count], rows[count:]
        save(out / f"{name}.csv", part)
        print(f"{name}: {count} rows, {sum(label == 'positive' for _, label in part)} positive")


if __name__ == "__main__":
    main()
