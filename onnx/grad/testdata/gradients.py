"""Writes the gradients of an ONNX graph's loss, computed by PyTorch.

usage: gradients.py MODEL LOSS DIR: DIR/inputs.txt lists name, type and dimensions of each input,
held in DIR/<name>.bin; for each
parameter i, DIR/grad.<i>.bin receives float32 numbers and DIR/names.txt its
name. Writes the loss to standard output.
"""

import sys

import numpy as np
import torch

from graph import Graph

torch.set_num_threads(2)
model, loss_name, folder = sys.argv[1:]
graph = Graph(model)
inputs = {}
with open(f"{folder}/inputs.txt") as f:
    for line in f:
        name, kind, *dims = line.split()
        data = np.fromfile(f"{folder}/{name}.bin", dtype=kind).reshape([int(d) for d in dims])
        inputs[name] = torch.from_numpy(data)
loss = graph.run(inputs, loss_name)
loss.backward()
with open(f"{folder}/names.txt", "w") as names:
    for i, (name, p) in enumerate(graph.parameters.items()):
        if p.grad is not None:
            names.write(f"{i} {name}\n")
            p.grad.numpy().astype(np.float32).tofile(f"{folder}/grad.{i}.bin")
print(loss.item())
