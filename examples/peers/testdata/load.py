"""Asks a galley server from eight threads until stdin ends.

usage: load.py HOST:PORT

Prints {"requests", "switches", "versions": {version: requests}, "failures",
"mixed"}: mixed are answers that are not those that their version gave before.
"""

import json
import sys
import threading

import numpy as np
import tritonclient.grpc as grpcclient

MODEL, THREADS, MOST = "headlines", 8, 20
TEXTS = ["Parliament votes on the budget tonight", "探测器传回火星地下冰层的首批数据", "Striker scores twice to win the derby"]

stop = threading.Event()
lock = threading.Lock()
requests, switches, versions, failures, mixed = 0, 0, {}, [], []


def ask(client, version=""):
    values = np.array([s.encode() for s in TEXTS], dtype=np.object_)
    text = grpcclient.InferInput("text", list(values.shape), "BYTES")
    text.set_data_from_numpy(values)
    result = client.infer(MODEL, [text], model_version=version, client_timeout=30)
    return result.get_response().model_version, result.as_numpy("scores")


def load(reference):
    global requests, switches
    client = grpcclient.InferenceServerClient(sys.argv[1])
    last = None
    while not stop.is_set():
        try:
            version, scores = ask(client)
        except Exception as error:
            with lock:
                requests += 1
                failures.append(repr(error))
            continue
        right = version in reference and np.allclose(scores, reference[version], rtol=0, atol=1e-5)
        with lock:
            requests += 1
            versions[version] = versions.get(version, 0) + 1
            switches += last is not None and last != version
            if not right:
                mixed.append(f"version {version}: {scores.tolist()}")
        last = version


first = grpcclient.InferenceServerClient(sys.argv[1])
reference = dict(ask(first, version) for version in ("1", "2"))
threads = [threading.Thread(target=load, args=(reference,)) for _ in range(THREADS)]
for t in threads:
    t.start()
sys.stdin.read()
stop.set()
for t in threads:
    t.join()
json.dump(
    {"requests": requests, "switches": switches, "versions": versions, "failures": failures[:MOST], "mixed": mixed[:MOST]},
    sys.stdout,
)
