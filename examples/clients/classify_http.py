"""Classify texts with galley over HTTP, through the stock Triton client.

    pip install 'tritonclient[http]'
    python classify_http.py headlines 'Central bank holds rates' '央行维持利率不变'

--url names the server's HTTP address, --version a version's number or an
alias; without it the request follows the alias prod. Tensors travel as bytes;
--json sends and asks for JSON. Exits 1 if the server refuses the request.
"""

import argparse
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


def classify(client, model, texts, version="", binary=True):
    """Return the version that answered and (label, score, truncated) for each text."""
    text = triton.InferInput("text", [len(texts)], "BYTES")
    # JSON has texts, bytes have bytes.
    values = [t.encode() for t in texts] if binary else list(texts)
    text.set_data_from_numpy(np.array(values, dtype=np.object_), binary_data=binary)
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("label", "score", "truncated")]
    result = client.infer(model, [text], model_version=version, outputs=outputs)
    labels = [label.decode() if isinstance(label, bytes) else label for label in result.as_numpy("label")]
    answers = list(zip(labels, result.as_numpy("score").tolist(), result.as_numpy("truncated").tolist()))
    return result.get_response()["model_version"], answers


def main():
    parser = argparse.ArgumentParser(description="Classify texts with a model that galley serves.")
    parser.add_argument("model", help="the model's name in the registry")
    parser.add_argument("texts", nargs="+", metavar="text")
    parser.add_argument("--url", default="localhost:8000", help="HTTP address of the server (default: %(default)s)")
    parser.add_argument("--version", default="", help="a version's number or an alias (default: what traffic goes to)")
    parser.add_argument("--json", action="store_true", help="tensors as JSON")
    args = parser.parse_args()
    with triton.InferenceServerClient(args.url) as client:
        try:
            version, answers = classify(client, args.model, args.texts, args.version, not args.json)
        except InferenceServerException as error:
            sys.exit(f"{args.url}: {error.message()}")
    for text, (label, score, truncated) in zip(args.texts, answers):
        cut = "  (its end was not read)" if truncated else ""
        print(f"{label:12} {score:.2f}  {text}{cut}")
    print(f"answered by {args.model}@{version}")


if __name__ == "__main__":
    main()
