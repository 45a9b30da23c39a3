"""A text encoder in PyTorch, trained on command for a comparison of speed.

usage: text_encoder.py MODEL DIR THREADS: the weights come from the ONNX graph
by name, the batch from DIR. Each line "N" on standard input runs forward and
backward N times and answers with the seconds and the seconds of processor time they took.
"""

import sys
import time

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import nn

model, folder, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
weights = {w.name: torch.from_numpy(np.array(numpy_helper.to_array(w))) for w in onnx.load(model).graph.initializer}
HEADS = 4


def linear(name):
    w = weights[name + ".weight"]
    m = nn.Linear(*w.shape)
    m.weight.data.copy_(w.T)
    m.bias.data.copy_(weights[name + ".bias"])
    return m


def norm(name):
    m = nn.LayerNorm(weights[name + ".scale"].shape)
    m.weight.data.copy_(weights[name + ".scale"])
    m.bias.data.copy_(weights[name + ".bias"])
    return m


class Block(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.norm1, self.norm2 = norm(name + "attention.norm"), norm(name + "feed_forward.norm")
        self.qkv, self.out = linear(name + "attention.qkv"), linear(name + "attention.out")
        self.up, self.down = linear(name + "feed_forward.up"), linear(name + "feed_forward.down")

    def forward(self, x, bias):
        b, s, h = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, s, 3, HEADS, h // HEADS).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = x + self.out(y.transpose(1, 2).reshape(b, s, h))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding.from_pretrained(weights["embeddings.tokens"], freeze=False)
        self.positions = nn.Parameter(weights["embeddings.positions"])
        layers = sum(name.endswith("attention.qkv.weight") for name in weights)
        self.norm = norm("embeddings.norm")
        self.blocks = nn.ModuleList(Block(f"layer.{i}.") for i in range(layers))
        self.last = norm("norm")

    def forward(self, ids, mask):
        x = self.norm(self.tokens(ids) + self.positions[:ids.shape[1]])
        bias = ((1 - mask) * -1e9)[:, None, None, :]
        for block in self.blocks:
            x = block(x, bias)
        return self.last(x)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.head = linear("head")

    def forward(self, batch):
        mask = batch["attention_mask"].float()
        x = self.encoder(batch["input_ids"], mask)
        pooled = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        return -(batch["targets"] * F.log_softmax(self.head(pooled), -1)).sum()


class MaskedLM(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.transform, self.norm = linear("mlm.transform"), norm("mlm.norm")
        self.bias = nn.Parameter(weights["mlm.bias"])

    def forward(self, batch):
        x = self.encoder(batch["input_ids"], batch["attention_mask"].float())
        x = x.flatten(0, 1)[batch["positions"]]
        x = self.norm(F.gelu(self.transform(x)))
        logits = F.linear(x, self.encoder.tokens.weight, self.bias)
        return (F.cross_entropy(logits, batch["targets"], reduction="none") * batch["weights"]).sum()


batch = {}
with open(f"{folder}/inputs.txt") as f:
    for line in f:
        name, kind, *dims = line.split()
        data = np.fromfile(f"{folder}/{name}.bin", dtype=kind).reshape([int(d) for d in dims])
        batch[name] = torch.from_numpy(data)
net = MaskedLM() if "mlm.bias" in weights else Classifier()
for line in sys.stdin:
    begin, processor = time.perf_counter(), time.process_time()
    for _ in range(int(line)):
        net.zero_grad(set_to_none=True)
        loss = net(batch)
        loss.backward()
    print(time.perf_counter() - begin, time.process_time() - processor, flush=True)
