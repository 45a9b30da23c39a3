"""Hugging Face tokenizers behind a pipe: one JSON request a line, one answer a line.

{"load": path}                       -> {"version": ...}
{"encode": [text], "markup": bool}   -> {"ids": [[int]]}
{"decode": [[int]]}                  -> {"texts": [text]}
{"texts": [text]}                    -> {}            what "time" encodes
{"time": true}                       -> {"seconds": float, "tokens": int}
"""

import json
import os
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import tokenizers  # noqa: E402: the environment is read on import


def main():
    tokenizer, texts = None, []
    for line in sys.stdin:
        request = json.loads(line)
        if "load" in request:
            tokenizer = tokenizers.Tokenizer.from_file(request["load"])
            answer = {"version": tokenizers.__version__}
        elif "encode" in request:
            tokenizer.encode_special_tokens = not request["markup"]
            answer = {"ids": [e.ids for e in tokenizer.encode_batch(request["encode"])]}
        elif "decode" in request:
            answer = {"texts": tokenizer.decode_batch(request["decode"])}
        elif "texts" in request:
            texts, answer = request["texts"], {}
        else:
            start = time.perf_counter()
            encodings = tokenizer.encode_batch_fast(texts)
            seconds = time.perf_counter() - start
            answer = {"seconds": seconds, "tokens": sum(len(e.ids) for e in encodings)}
        print(json.dumps(answer), flush=True)


main()
