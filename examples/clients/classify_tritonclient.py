"""Classify texts with galley through the stock Triton client.

    pip install 'tritonclient[grpc]'
    python classify_tritonclient.py headlines 'Central bank holds rates' '央行维持利率不变'

--url names the server's gRPC address, --version a version's number or an
alias; without it the request follows the alias prod. The last line of each
answer says which version gave it. Exits 1 if the server refuses the request.
"""

import argparse
import sys

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException


def classify(client, model, texts, version=""):
    """Return the version that answered and (label, score, truncated) for each text."""
    text = triton.InferInput("text", [len(texts)], "BYTES")
    text.set_data_from_numpy(np.array([t.encode() for t in texts], dtype=np.object_))
    outputs = [triton.InferRequestedOutput(name) for name in ("label", "score", "truncated")]
    result = client.infer(model, [text], model_version=version, outputs=outputs)
    labels = [label.decode() for label in result.as_numpy("label")]
    answers = list(zip(labels, result.as_numpy("score").tolist(), result.as_numpy("truncated").tolist()))
    return result.get_response().model_version, answers


def main():
    parser = argparse.ArgumentParser(description="Classify texts with a model that galley serves.")
    parser.add_argument("model", help="the model's name in the registry")
    parser.add_argument("texts", nargs="+", metavar="text")
    parser.add_argument("--url", default="localhost:8001", help="gRPC address of the server (default: %(default)s)")
    parser.add_argument("--version", default="", help="a version's number or an alias (default: what traffic goes to)")
    args = parser.parse_args()
    with triton.InferenceServerClient(args.url) as client:
        try:
            version, answers = classify(client, args.model, args.texts, args.version)
        except InferenceServerException as error:
            sys.exit(f"{args.url}: {error.message()}")
    for text, (label, score, truncated) in zip(args.texts, answers):
        cut = "  (its end was not read)" if truncated else ""
        print(f"{label:12} {score:.2f}  {text}{cut}")
    print(f"answered by {args.model}@{version}")


if __name__ == "__main__":
    main()
