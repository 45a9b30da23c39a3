"""Asks galley what stock clients ask Triton, over both protocols.

usage: extensions.py GRPC HTTP METRICS, each HOST:PORT

Prints a line for each check that fails; exits 1 if one does.
"""

import sys
import traceback
import urllib.request

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.utils import InferenceServerException

MODEL = "headlines"
TEXTS = ["Central bank holds rates", "央行维持利率不变", "Striker scores twice"]
grpc = grpcclient.InferenceServerClient(sys.argv[1])
http = httpclient.InferenceServerClient(sys.argv[2])
failed = 0


def check(function):
    global failed
    try:
        function()
    except Exception:
        failed += 1
        print(function.__name__, traceback.format_exc())
    return function


def equal(got, want):
    assert got == want, f"{got!r} is not {want!r}"


def ask_http(binary_in, binary_out, **options):
    text = httpclient.InferInput("text", [len(TEXTS)], "BYTES")
    values = [t.encode() for t in TEXTS] if binary_in else TEXTS
    text.set_data_from_numpy(np.array(values, dtype=np.object_), binary_data=binary_in)
    names = ("label", "score", "scores", "truncated")
    outputs = [httpclient.InferRequestedOutput(n, binary_data=binary_out) for n in names]
    result = http.infer(MODEL, [text], outputs=outputs, **options)
    labels = [b.decode() if isinstance(b, bytes) else b for b in result.as_numpy("label")]
    return labels, result.as_numpy("scores"), result


def ask_grpc():
    text = grpcclient.InferInput("text", [len(TEXTS)], "BYTES")
    text.set_data_from_numpy(np.array([t.encode() for t in TEXTS], dtype=np.object_))
    result = grpc.infer(MODEL, [text])
    return [b.decode() for b in result.as_numpy("label")], result.as_numpy("scores")


@check
def health():
    for client in (grpc, http):
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready(MODEL) and client.is_model_ready(MODEL, "1")


@check
def metadata():
    equal(http.get_server_metadata()["extensions"], list(grpc.get_server_metadata().extensions))
    equal(http.get_model_metadata(MODEL)["inputs"], [{"name": "text", "datatype": "BYTES", "shape": [-1]}])
    equal([o.name for o in grpc.get_model_metadata(MODEL).outputs], ["label", "score", "scores", "truncated"])


@check
def inference_is_the_same_by_all_ways():
    labels, scores = ask_grpc()
    for way in ((True, True), (True, False), (False, True), (False, False)):
        got, values, result = ask_http(*way)
        equal(got, labels)
        np.testing.assert_allclose(values, scores, atol=1e-6)
        equal(result.get_response()["model_version"], "1")
        equal(len(result.get_response()["parameters"]["prediction_id"]), 72)


@check
def all_outputs_as_bytes():
    text = httpclient.InferInput("text", [1], "BYTES")
    text.set_data_from_numpy(np.array([b"a"], dtype=np.object_))
    result = http.infer(MODEL, [text])
    equal(result.as_numpy("scores").dtype, np.float32)
    equal(result.as_numpy("scores").shape[0], 1)


@check
def compressed_bodies():
    for algorithm in ("gzip", "deflate"):
        labels, _, _ = ask_http(True, True, request_compression_algorithm=algorithm)
        equal(labels, ask_grpc()[0])


@check
def raw_request():
    # The client reads the answer, but has no call that asks so.
    request = urllib.request.Request(
        f"http://{sys.argv[2]}/v2/models/{MODEL}/infer",
        data=TEXTS[0].encode(),
        headers={"Inference-Header-Content-Length": "0", "Content-Type": "application/octet-stream"},
    )
    with urllib.request.urlopen(request) as answer:
        body, header = answer.read(), int(answer.headers["Inference-Header-Content-Length"])
    result = httpclient.InferenceServerClient.parse_response_body(body, header_length=header)
    equal(result.as_numpy("label")[0].decode(), ask_grpc()[0][0])


@check
def configuration():
    config = http.get_model_config(MODEL)
    other = grpc.get_model_config(MODEL).config
    equal(config["name"], other.name)
    equal(config["input"], [{"name": "text", "data_type": "TYPE_STRING", "dims": [-1]}])
    equal([(o.name, list(o.dims)) for o in other.output][0], ("label", [-1]))
    equal(config["max_batch_size"], other.max_batch_size)
    equal(config["parameters"]["task"]["string_value"], other.parameters["task"].string_value)


@check
def statistics():
    before = http.get_inference_statistics(MODEL, "1")["model_stats"][0]
    ask_grpc()
    after = http.get_inference_statistics(MODEL, "1")["model_stats"][0]
    equal(after["inference_count"] - before["inference_count"], len(TEXTS))
    assert after["inference_stats"]["success"]["ns"] > before["inference_stats"]["success"]["ns"] > 0
    assert after["last_inference"] > 1_000_000_000_000
    other = grpc.get_inference_statistics(MODEL).model_stats[0]
    equal((other.name, other.version, other.inference_count), (MODEL, "1", after["inference_count"]))
    equal(len(other.batch_stats), len(after["batch_stats"]))
    assert len(http.get_inference_statistics()["model_stats"]) >= 1


@check
def repository_index():
    index = http.get_model_repository_index()
    assert {"name": MODEL, "version": "1", "state": "READY", "reason": ""} in index, index
    equal([(m.name, m.version, m.state) for m in grpc.get_model_repository_index().models],
          [(m["name"], m["version"], m["state"]) for m in index])


def refused(call, *words):
    try:
        call()
    except InferenceServerException as error:
        for word in words:
            assert word in str(error), f"{error} has no {word}"
    else:
        raise AssertionError("it was not refused")


@check
def what_is_not_there_says_so():
    for client in (grpc, http):
        refused(lambda: client.load_model(MODEL), "is not there", "promote")
        refused(lambda: client.unload_model(MODEL), "is not there", "promote")
        refused(client.get_system_shared_memory_status, "is not there", "raw contents")
        refused(client.get_cuda_shared_memory_status, "is not there", "raw contents")
        refused(lambda: client.update_log_settings({"log_info": True}), "is not there")
        refused(client.get_trace_settings, "is not there")


@check
def refusals():
    for client in (grpc, http):
        refused(lambda: client.get_model_config("sports"), "no such model")
        refused(lambda: client.get_inference_statistics(MODEL, "9"), "no such version")
    text = httpclient.InferInput("text", [2], "BYTES")
    text.set_data_from_numpy(np.array([b"a", b"b"], dtype=np.object_))
    text.set_shape([3])
    refused(lambda: http.infer(MODEL, [text]), "has 2 elements for the shape [3]")


@check
def metrics():
    with urllib.request.urlopen(f"http://{sys.argv[3]}/metrics") as answer:
        families = {f.name: f for f in text_string_to_metric_families(answer.read().decode())}
    success = families["nv_inference_request_success"].samples
    assert any(s.labels == {"model": MODEL, "version": "1"} and s.value > 0 for s in success), success
    for name in ("nv_inference_request_duration_us", "nv_inference_queue_duration_us", "nv_inference_count", "nv_inference_exec_count"):
        assert name in families, sorted(families)


sys.exit(1 if failed else 0)
