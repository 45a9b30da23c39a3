"""What MLServer serves in galley's benchmarks.

Both runtimes leave out whatever MLServer lets them leave out: no codecs, no
validation of what they answer, no work on the event loop that can be elsewhere.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime as ort
from mlserver import MLModel
from mlserver.types import InferenceResponse, ResponseOutput, TensorData
from tokenizers import Tokenizer


def answer(model, name, datatype, shape, values):
    output = ResponseOutput.model_construct(
        name=name, datatype=datatype, shape=shape, data=TensorData.model_construct(root=values), parameters=None
    )
    return InferenceResponse.model_construct(
        model_name=model.name, model_version=model.version, id=None, parameters=None, outputs=[output]
    )


class Identity(MLModel):
    """Answers with its input, without running a graph."""

    async def predict(self, payload):
        given = payload.inputs[0]
        return answer(self, "y", given.datatype, given.shape, given.data.root)


class Classifier(MLModel):
    """Texts to logits: `runs` of the graph at a time, of `threads` each."""

    async def load(self):
        extra = self.settings.parameters.extra
        options = ort.SessionOptions()
        options.intra_op_num_threads = extra["threads"]
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(extra["graph"], options, providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(extra["tokenizer"])
        self.tokenizer.enable_truncation(512)
        self.tokenizer.enable_padding()
        self.pool = ThreadPoolExecutor(extra["runs"])
        return True

    def logits(self, texts):
        if len(texts) == 1:
            encoded = [self.tokenizer.encode(texts[0].decode())]
        else:
            encoded = self.tokenizer.encode_batch([t.decode() for t in texts])
        ids = np.array([e.ids for e in encoded], np.int64)
        mask = np.array([e.attention_mask for e in encoded], np.int64)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return self.session.run(["logits"], feeds)[0]

    async def predict(self, payload):
        texts = payload.inputs[0].data.root
        out = await asyncio.get_running_loop().run_in_executor(self.pool, self.logits, texts)
        return answer(self, "logits", "FP32", list(out.shape), out.ravel().tolist())
