"""Classifies texts with an exported folder, without galley.

usage: exported.py DIR < {"texts": [...]}

Prints {"checks": [{"name", "ok", "detail"}], "single": [answer], "batched":
[answer]}.
"""

import json
import pathlib
import sys
import traceback

import numpy as np
import onnx
import onnxruntime
from tokenizers import Tokenizer

BATCH = 32
folder = pathlib.Path(sys.argv[1])
texts = json.load(sys.stdin)["texts"]
config = json.loads((folder / "galley.json").read_text())
labels = json.loads((folder / "labels.json").read_text())
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
checks = []


def check(function):
    try:
        function()
        ok, detail = True, ""
    except Exception:
        ok, detail = False, traceback.format_exc()
    checks.append({"name": function.__name__, "ok": ok, "detail": detail})


@check
def graph_is_valid():
    onnx.checker.check_model(str(folder / "model.onnx"), full_check=True)


@check
def operators_are_standard():
    model = onnx.load(str(folder / "model.onnx"))
    assert not model.functions and not model.training_info
    foreign = {(n.domain, n.op_type) for n in model.graph.node if n.domain not in ("", "ai.onnx")}
    assert not foreign, foreign
    assert all(o.domain in ("", "ai.onnx") for o in model.opset_import), model.opset_import


@check
def labels_agree():
    assert labels == config["labels"], (labels, config["labels"])


@check
def inputs_and_outputs_agree():
    inputs, outputs = {i.name for i in session.get_inputs()}, {o.name for o in session.get_outputs()}
    assert inputs == set(config["inputs"].values()), inputs
    assert config["outputs"]["logits"] in outputs, outputs


def classify(batch):
    encoded = tokenizer.encode_batch(batch)
    feed = {
        config["inputs"]["ids"]: np.array([e.ids for e in encoded], dtype=np.int64),
        config["inputs"]["mask"]: np.array([e.attention_mask for e in encoded], dtype=np.int64),
    }
    (logits,) = session.run([config["outputs"]["logits"]], feed)
    p = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return [
        {"label": labels[row.argmax()], "score": row.max(), "scores": dict(zip(labels, row.tolist()))} for row in p
    ]


single = [answer for text in texts for answer in classify([text])]
tokenizer.enable_padding(pad_id=tokenizer.token_to_id("[PAD]"), pad_token="[PAD]")
batched = [answer for i in range(0, len(texts), BATCH) for answer in classify(texts[i : i + BATCH])]
json.dump({"checks": checks, "single": single, "batched": batched}, sys.stdout)
