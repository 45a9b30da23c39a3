"""Classifies with TF-IDF and logistic regression of scikit-learn.

usage: baseline.py TRAIN VALID TEST

Terms are words and pairs of words; a Chinese character is a word. C is chosen
on the validation file. Prints {"c", "valid", "test"}: accuracies.
"""

import csv
import json
import sys

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression


def read(path):
    with open(path, encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    return [r["text"] for r in rows], np.array([r["label"] for r in rows])


(train, y), (valid, y_valid), (test, y_test) = map(read, sys.argv[1:4])
vectorizer = TfidfVectorizer(token_pattern=r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+", ngram_range=(1, 2), sublinear_tf=True)
x = vectorizer.fit_transform(train)
best = None
for c in (1, 3, 10, 30, 100):
    model = LogisticRegression(C=c, max_iter=2000).fit(x, y)
    accuracy = (model.predict(vectorizer.transform(valid)) == y_valid).mean()
    if best is None or accuracy > best["valid"]:
        best = {"c": c, "valid": accuracy, "test": (model.predict(vectorizer.transform(test)) == y_test).mean()}
json.dump(best, sys.stdout)
