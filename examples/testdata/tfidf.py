"""TF-IDF with logistic regression, tuned on the validation split.

usage: tfidf.py FOLDER    with train.csv, valid.csv and test.csv: text, label
Prints the accuracy on the test split.
"""
import csv
import re
import sys

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression


def analyze(text):
    """Words and pairs of words; Chinese characters and pairs of them."""
    text = text.lower()
    words = re.findall(r"[^\W_\u4e00-\u9fff]+", text)
    out = words + [a + " " + b for a, b in zip(words, words[1:])]
    for run in re.findall(r"[\u4e00-\u9fff]+", text):
        out += list(run) + [run[i : i + 2] for i in range(len(run) - 1)]
    return out


def load(path):
    with open(path, encoding="utf-8", newline="") as f:
        rows = list(csv.reader(f))
    return [r[0] for r in rows], [r[1] for r in rows]


def main(folder):
    train, valid, test = (load(f"{folder}/{s}.csv") for s in ("train", "valid", "test"))
    best = None
    units = [{"analyzer": analyze}, {"analyzer": "char", "ngram_range": (1, 2)}, {"analyzer": "char", "ngram_range": (1, 3)}]
    for unit in units:
        for sublinear in (False, True):
            vectorizer = TfidfVectorizer(**unit, sublinear_tf=sublinear)
            x = vectorizer.fit_transform(train[0])
            v = vectorizer.transform(valid[0])
            for c in (1, 3, 10, 30, 100):
                model = LogisticRegression(C=c, max_iter=1000).fit(x, train[1])
                score = model.score(v, valid[1])
                if best is None or score > best[0]:
                    best = score, vectorizer, model
    _, vectorizer, model = best
    print(model.score(vectorizer.transform(test[0]), test[1]))


main(sys.argv[1])
