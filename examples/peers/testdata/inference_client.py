"""Asks a galley server what a tritonclient asks Triton.

usage: inference_client.py HOST:PORT < {"texts": [...]}

Prints {"checks": [{"name", "ok", "detail"}], "answers": {ref: [answer]}}.
"""

import json
import sys
import traceback

import numpy as np
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

MODEL = "headlines"
LABELS = ["business", "culture", "politics", "science", "sports", "technology"]
client = grpcclient.InferenceServerClient(sys.argv[1])
texts = json.load(sys.stdin)["texts"]
answers = {}
checks = []


def check(function):
    try:
        function()
        ok, detail = True, ""
    except Exception:
        ok, detail = False, traceback.format_exc()
    checks.append({"name": function.__name__, "ok": ok, "detail": detail})


def equal(got, want):
    assert got == want, f"{got!r} is not {want!r}"


def same(got, want):
    """Answers to the same texts: those that run in other batches than before
    differ by rounding."""
    equal([a["label"] for a in got], [a["label"] for a in want])
    for g, w in zip(got, want):
        equal(g["scores"].keys(), w["scores"].keys())
        for label, score in w["scores"].items():
            assert abs(g["scores"][label] - score) < 1e-5, (label, g, w)


def tensor(values, name="text", datatype="BYTES", dtype=np.object_):
    values = np.array(values, dtype=dtype)
    t = grpcclient.InferInput(name, list(values.shape), datatype)
    t.set_data_from_numpy(values)
    return t


def text_tensor(lines):
    return tensor([s.encode() for s in lines])


def infer(lines=texts, **options):
    return client.infer(MODEL, [text_tensor(lines)], **options)


def read(result):
    labels = [b.decode() for b in result.as_numpy("label")]
    score, scores = result.as_numpy("score"), result.as_numpy("scores")
    equal(score.dtype, np.float32)
    equal(scores.dtype, np.float32)
    equal(scores.shape, (len(labels), len(LABELS)))
    equal(score.shape, (len(labels),))
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(scores.max(axis=1), score)
    equal([LABELS[i] for i in scores.argmax(axis=1)], labels)
    return [
        {"label": label, "score": float(s), "scores": {n: float(v) for n, v in zip(LABELS, row)}}
        for label, s, row in zip(labels, score, scores)
    ]


def refused(code, *words):
    """A context in which one call has to fail with a gRPC code and a message
    that has the words."""

    class Refused:
        def __enter__(self):
            return self

        def __exit__(self, kind, error, trace):
            assert kind is not None, "it was not refused"
            if not issubclass(kind, InferenceServerException):
                return False
            equal(error.status(), "StatusCode." + code)
            for word in words:
                assert word in error.message(), f"{error.message()!r} does not say {word!r}"
            return True

    return Refused()


@check
def server_live():
    equal(client.is_server_live(), True)


@check
def server_ready():
    equal(client.is_server_ready(), True)


@check
def model_ready():
    equal(client.is_model_ready(MODEL), True)
    equal(client.is_model_ready(MODEL, "2"), True)
    equal(client.is_model_ready(MODEL, "prod"), True)


@check
def server_metadata():
    m = client.get_server_metadata(as_json=True)
    equal(m["name"], "galley")
    assert m["version"], m
    client.get_server_metadata()


@check
def model_metadata():
    m = client.get_model_metadata(MODEL, as_json=True)
    equal(m["name"], MODEL)
    equal(m["versions"], ["1", "2", "3", "4", "5"])
    assert m["platform"], m
    equal(m["inputs"], [{"name": "text", "datatype": "BYTES", "shape": ["-1"]}])
    equal(
        m["outputs"],
        [
            {"name": "label", "datatype": "BYTES", "shape": ["-1"]},
            {"name": "score", "datatype": "FP32", "shape": ["-1"]},
            {"name": "scores", "datatype": "FP32", "shape": ["-1", "6"]},
            {"name": "truncated", "datatype": "BOOL", "shape": ["-1"]},
        ],
    )
    equal(client.get_model_metadata(MODEL, "2", as_json=True)["versions"], ["2"])


@check
def default_outputs():
    result = infer()
    response = result.get_response()
    equal(response.model_name, MODEL)
    equal(response.model_version, "1")
    equal([o.name for o in response.outputs], ["label", "score", "scores", "truncated"])
    assert response.parameters["prediction_id"].string_param, response.parameters
    answers["headlines@1"] = read(result)


@check
def one_by_one():
    same([read(infer([text]))[0] for text in texts], answers["headlines@1"])


@check
def outputs_by_name():
    outputs = [grpcclient.InferRequestedOutput(n) for n in ("scores", "label", "score")]
    same(read(infer(outputs=outputs)), answers["headlines@1"])
    only = infer(outputs=[grpcclient.InferRequestedOutput("label")])
    equal([b.decode() for b in only.as_numpy("label")], [a["label"] for a in answers["headlines@1"]])
    equal(only.as_numpy("scores"), None)


@check
def truncation_is_reported():
    outputs = [grpcclient.InferRequestedOutput("truncated")]
    equal(infer(["short", "budget " * 1000], outputs=outputs).as_numpy("truncated").tolist(), [False, True])


@check
def version_by_number():
    same(read(infer(model_version="1")), answers["headlines@1"])
    result = infer(model_version="2")
    equal(result.get_response().model_version, "2")
    answers["headlines@2"] = read(result)
    assert answers["headlines@2"] != answers["headlines@1"]


@check
def version_by_alias():
    result = infer(model_version="prod")
    equal(result.get_response().model_version, "1")
    same(read(result), answers["headlines@1"])


@check
def request_id():
    equal(infer(request_id="night desk 7").get_response().id, "night desk 7")


@check
def asynchronous():
    import queue

    done = queue.Queue()
    client.async_infer(MODEL, [text_tensor(texts)], lambda result, error: done.put((result, error)))
    result, error = done.get(timeout=30)
    equal(error, None)
    same(read(result), answers["headlines@1"])


@check
def compressed():
    same(read(infer(compression_algorithm="gzip")), answers["headlines@1"])


@check
def unknown_model():
    with refused("NOT_FOUND", "nobody"):
        client.infer("nobody", [text_tensor(texts)])
    with refused("NOT_FOUND", "nobody"):
        client.get_model_metadata("nobody")


@check
def unknown_version():
    with refused("NOT_FOUND", "99"):
        infer(model_version="99")
    with refused("NOT_FOUND", "nightly"):
        infer(model_version="nightly")
    with refused("NOT_FOUND", "99"):
        client.get_model_metadata(MODEL, "99")


@check
def wrong_datatype():
    with refused("INVALID_ARGUMENT", "text", "FP32", "BYTES"):
        client.infer(MODEL, [tensor([1, 2], datatype="FP32", dtype=np.float32)])
    with refused("INVALID_ARGUMENT", "text", "INT64", "BYTES"):
        client.infer(MODEL, [tensor([[1]], datatype="INT64", dtype=np.int64)])


@check
def wrong_shape():
    with refused("INVALID_ARGUMENT", "text", "[1 2]"):
        client.infer(MODEL, [tensor([[b"a", b"b"]])])
    more = text_tensor(["a", "b"])
    more.set_shape([3])
    with refused("INVALID_ARGUMENT", "text", "[3]"):
        client.infer(MODEL, [more])


@check
def no_texts():
    nothing = client.infer(MODEL, [tensor(np.empty((0,), dtype=np.object_))])
    equal(nothing.as_numpy("label").shape, (0,))
    equal(nothing.as_numpy("scores").shape, (0, len(LABELS)))


@check
def wrong_text():
    for broken, word in ((b"", "empty"), (b"  \n", "empty"), (b"\xff\xfe", "UTF-8"), (b"news " * 300_000, "bytes")):
        with refused("INVALID_ARGUMENT", "text[1]", word):
            client.infer(MODEL, [tensor([b"fine", broken])])


@check
def wrong_names():
    with refused("INVALID_ARGUMENT", "text"):
        client.infer(MODEL, [tensor([b"a"], name="headline")])
    with refused("INVALID_ARGUMENT", "headline"):
        client.infer(MODEL, [text_tensor(["a"]), tensor([b"a"], name="headline")])
    with refused("INVALID_ARGUMENT", "summary"):
        infer(outputs=[grpcclient.InferRequestedOutput("summary")])


@check
def alive_after_errors():
    same(read(infer()), answers["headlines@1"])


json.dump({"checks": checks, "answers": answers}, sys.stdout)
