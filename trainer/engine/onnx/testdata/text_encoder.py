"""The text encoder and its training loop in PyTorch, run on command.

usage: text_encoder.py DIR: DIR/duel.json has the sizes and the recipe,
weights.json and weights.bin the first weights by name, and ids.bin, mask.bin
and labels.bin (int64) the rows of all steps in order.

Each line "N" on standard input trains N steps; the answer is a line of JSON:
seconds, seconds of processor time, and the loss of each step.
"""

import json
import math
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

folder = sys.argv[1]
with open(f"{folder}/duel.json") as f:
    duel = json.load(f)
encoder, recipe = duel["encoder"], duel["recipe"]
torch.set_num_threads(duel["threads"])


def read_weights():
    weights, at = {}, 0
    data = np.fromfile(f"{folder}/weights.bin", dtype=np.float32)
    with open(f"{folder}/weights.json") as f:
        for w in json.load(f):
            n = math.prod(w["dims"])
            weights[w["name"]] = torch.from_numpy(data[at:at + n].reshape(w["dims"]))
            at += n
    return weights


weights = read_weights()


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
        self.heads = encoder["heads"]
        self.norm1, self.norm2 = norm(name + "attention.norm"), norm(name + "feed_forward.norm")
        self.qkv, self.out = linear(name + "attention.qkv"), linear(name + "attention.out")
        self.up, self.down = linear(name + "feed_forward.up"), linear(name + "feed_forward.down")
        self.dropout = nn.Dropout(encoder["dropout"])

    def forward(self, x, mask):
        b, s, h = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, s, 3, self.heads, h // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.dropout(self.out(y.transpose(1, 2).reshape(b, s, h)))
        return x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)))))


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding.from_pretrained(weights["embeddings.tokens"].clone(), freeze=False)
        self.positions = nn.Parameter(weights["embeddings.positions"].clone())
        self.norm, self.last, self.head = norm("embeddings.norm"), norm("norm"), linear("head")
        self.blocks = nn.ModuleList(Block(f"layer.{i}.") for i in range(encoder["layers"]))
        self.dropout = nn.Dropout(encoder["dropout"])

    def forward(self, ids, mask):
        x = self.dropout(self.norm(self.tokens(ids) + self.positions[:ids.shape[1]]))
        mask = mask.float()
        bias = ((1 - mask) * -1e9)[:, None, None, :]
        for block in self.blocks:
            x = block(x, bias)
        x = self.last(x)
        mean = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        most = (x + (mask[:, :, None] - 1) * 1e4).amax(1)
        return self.head(self.dropout(torch.cat((mean, most), 1)))


def factor(step):
    s, steps = recipe["schedule"], duel["steps"]
    warm = math.ceil(s["warmup"] * steps)
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / (steps - warm)
    return s["floor"] + (1 - s["floor"]) * (1 + math.cos(math.pi * min(1, done))) / 2


def rows(name, *shape):
    return torch.from_numpy(np.fromfile(f"{folder}/{name}.bin", dtype=np.int64).reshape(-1, duel["batch"], *shape))


ids, mask, labels = rows("ids", duel["length"]), rows("mask", duel["length"]), rows("labels")
net = Classifier()
weights.clear()
parameters, o = list(net.parameters()), recipe["optimizer"]
optimizer = torch.optim.AdamW(
    [{"params": [p for p in parameters if p.dim() > 1]},
     {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0}],
    lr=o["lr"], betas=(o["beta1"], o["beta2"]), eps=o["epsilon"], weight_decay=o["weight_decay"], fused=True)
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
criterion = nn.CrossEntropyLoss(label_smoothing=recipe["label_smoothing"])

step = 0
for line in sys.stdin:
    losses = []
    begin, processor = time.perf_counter(), time.process_time()
    for _ in range(int(line)):
        batch = step % len(ids)
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(net(ids[batch], mask[batch]), labels[batch])
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, recipe["clip_norm"], foreach=True)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        step += 1
    took = {"seconds": time.perf_counter() - begin, "processor": time.process_time() - processor}
    print(json.dumps({**took, "losses": losses}), flush=True)
