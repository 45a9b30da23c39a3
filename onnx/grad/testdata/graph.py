"""An interpreter of ONNX graphs on PyTorch, for checking gradients.

Every floating-point initializer of more than one element is a parameter
under its own name. Only the operators that the tests need are here.
"""

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper

TYPES = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 11: torch.float64}


def attributes(node):
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def tensor(proto):
    array = numpy_helper.to_array(proto)
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    return torch.from_numpy(np.array(array))


def ints(t):
    return [int(v) for v in t.reshape(-1).tolist()]


def axes_of(a, x, i=1):
    if len(x) > i and x[i] is not None:
        return ints(x[i])
    return list(a["axes"]) if "axes" in a else None


def reshape(x, a):
    shape = ints(x[1])
    if not a.get("allowzero", 0):
        shape = [x[0].shape[i] if n == 0 else n for i, n in enumerate(shape)]
    return x[0].reshape(shape)


def unsqueeze(v, axes):
    rank = v.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        v = v.unsqueeze(axis)
    return v


def slices(x):
    v, starts, ends = x[0], ints(x[1]), ints(x[2])
    axes = ints(x[3]) if len(x) > 3 and x[3] is not None else range(len(starts))
    steps = ints(x[4]) if len(x) > 4 else [1] * len(starts)
    index = [slice(None)] * v.dim()
    for axis, start, end, step in zip(axes, starts, ends, steps):
        index[axis] = slice(start, None if end > 2**62 else end, step)
    return v[tuple(index)]


def gather(x, a):
    axis, index = a.get("axis", 0), x[1]
    n = x[0].shape[axis]
    index = torch.where(index < 0, index + n, index)
    shape = list(x[0].shape)
    axis %= len(shape)
    flat = x[0].index_select(axis, index.reshape(-1))
    return flat.reshape(shape[:axis] + list(index.shape) + shape[axis + 1:])


def split(x, a, outputs):
    axis = a.get("axis", 0)
    n = x[0].shape[axis]
    sizes = ints(x[1]) if len(x) > 1 else [n // outputs] * outputs
    return torch.split(x[0], sizes, axis)


def layer_norm(x, a):
    axis = a.get("axis", -1)
    shape = x[0].shape[axis:]
    bias = x[2] if len(x) > 2 else None
    return F.layer_norm(x[0], shape, x[1], bias, a.get("epsilon", 1e-5))


def reduce(f):
    def run(x, a):
        axes, keep = axes_of(a, x), bool(a.get("keepdims", 1))
        if axes is None:
            axes = list(range(x[0].dim()))
        return f(x[0], axes, keep)
    return run


def clip(x, _):
    low = x[1] if len(x) > 1 else None
    high = x[2] if len(x) > 2 else None
    return torch.clamp(x[0], low, high)


def cross_entropy(x, a):
    weight = x[2] if len(x) > 2 else None
    return F.cross_entropy(x[0], x[1], weight, ignore_index=a.get("ignore_index", -100),
                           reduction=a.get("reduction", b"mean").decode())


OPERATORS = {
    "Add": lambda x, a: x[0] + x[1],
    "Sub": lambda x, a: x[0] - x[1],
    "Mul": lambda x, a: x[0] * x[1],
    "Div": lambda x, a: x[0] / x[1] if x[0].is_floating_point() else x[0] // x[1],
    "Mod": lambda x, a: torch.remainder(x[0], x[1]),
    "Max": lambda x, a: torch.maximum(x[0], x[1]),
    "Neg": lambda x, a: -x[0],
    "Erf": lambda x, a: torch.erf(x[0]),
    "Gelu": lambda x, a: F.gelu(x[0], approximate=a.get("approximate", b"none").decode()),
    "MatMul": lambda x, a: torch.matmul(x[0], x[1]),
    "Softmax": lambda x, a: torch.softmax(x[0], a.get("axis", -1)),
    "LogSoftmax": lambda x, a: torch.log_softmax(x[0], a.get("axis", -1)),
    "LayerNormalization": layer_norm,
    "SoftmaxCrossEntropyLoss": cross_entropy,
    "ReduceSum": reduce(lambda v, axes, keep: torch.sum(v, axes, keep)),
    "ReduceMean": reduce(lambda v, axes, keep: torch.mean(v, axes, keep)),
    "ReduceL2": reduce(lambda v, axes, keep: torch.linalg.vector_norm(v, 2, axes, keep)),
    "Clip": clip,
    "Where": lambda x, a: torch.where(x[0], x[1], x[2]),
    "Equal": lambda x, a: x[0] == x[1],
    "GreaterOrEqual": lambda x, a: x[0] >= x[1],
    "And": lambda x, a: x[0] & x[1],
    "Cast": lambda x, a: x[0].to(TYPES[a["to"]]),
    "Identity": lambda x, a: x[0],
    "Dropout": lambda x, a: x[0],
    "Shape": lambda x, a: torch.tensor(x[0].shape[a.get("start", 0):a.get("end", None)], dtype=torch.int64),
    "Range": lambda x, a: torch.arange(x[0].item(), x[1].item(), x[2].item(), dtype=x[0].dtype),
    "ConstantOfShape": lambda x, a: tensor(a["value"]).reshape(()).expand(ints(x[0])),
    "Constant": lambda x, a: tensor(a["value"]),
    "Reshape": reshape,
    "Flatten": lambda x, a: x[0].reshape(int(np.prod(x[0].shape[:a.get("axis", 1)])), -1),
    "Transpose": lambda x, a: x[0].permute(*a["perm"]),
    "Expand": lambda x, a: x[0].expand(torch.broadcast_shapes(x[0].shape, ints(x[1]))),
    "Unsqueeze": lambda x, a: unsqueeze(x[0], axes_of(a, x)),
    "Squeeze": lambda x, a: torch.squeeze(x[0], axes_of(a, x)),
    "Concat": lambda x, a: torch.cat(x, a["axis"]),
    "Slice": lambda x, a: slices(x),
    "Gather": gather,
    "Pad": lambda x, a: F.pad(x[0], [p for pair in reversed(list(zip(ints(x[1])[:x[0].dim()], ints(x[1])[x[0].dim():]))) for p in pair]),
}


class Graph:
    """The main graph of a model, with its parameters."""

    def __init__(self, path):
        self.graph = onnx.load(path).graph
        self.constants, self.parameters = {}, {}
        for proto in self.graph.initializer:
            t = tensor(proto)
            # Half precision moved to a later Cast: float stands for it.
            if t.is_floating_point() and t.numel() > 1:
                self.parameters[proto.name] = t.requires_grad_()
            else:
                self.constants[proto.name] = t

    def run(self, inputs, output):
        values = {**self.constants, **self.parameters, **inputs}
        for node in self.graph.node:
            x = [values[name] if name else None for name in node.input]
            a = attributes(node)
            if node.op_type == "Split":
                out = split(x, a, len(node.output))
            else:
                out = (OPERATORS[node.op_type](x, a),)
            values.update(zip(node.output, out))
        return values[output]
