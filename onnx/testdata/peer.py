"""The onnx package's view of schemas, files and types, as JSON on stdout."""
import json
import os
import random
import sys

import numpy as np
import onnx
from onnx import TensorProto, checker, helper, numpy_helper, onnx_ml_pb2, shape_inference

KINDS = {1: "double", 2: "float", 3: "int64", 4: "uint64", 5: "int32", 8: "bool", 9: "string", 12: "bytes", 14: "enum"}


def schema():
    out = {}

    def walk(m, name):
        for f in m.fields:
            kind = f.message_type.name if f.message_type else KINDS[f.type]
            repeated = f.is_repeated if hasattr(f, "is_repeated") else f.label == 3
            packed = f.is_packed if hasattr(f, "is_packed") else bool(f.has_options and f.GetOptions().packed)
            out[f"{name}.{f.number}"] = f"{f.name} {kind} repeated={str(repeated).lower()} packed={str(packed).lower()}"
        for e in m.enum_types:
            for v in e.values:
                out[f"{name}.{e.name}.{v.name}"] = str(v.number)
        for n in m.nested_types:
            walk(n, f"{name}.{n.name}")

    for name, m in onnx_ml_pb2.DESCRIPTOR.message_types_by_name.items():
        walk(m, name)
    return out


def spec(v):
    t = v.type.tensor_type
    name = TensorProto.DataType.Name(t.elem_type).lower() if t.elem_type else "undefined"
    if not t.HasField("shape"):
        return name
    dims = [str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in t.shape.dim]
    return name + "[" + ",".join(dims) + "]"


def check(path):
    try:
        checker.check_model(path, full_check=True)
        m = shape_inference.infer_shapes(onnx.load(path), strict_mode=True, data_prop=True)
    except Exception as e:  # the caller reports whatever the checker says
        return {"error": f"{type(e).__name__}: {e}"}
    return {"types": {v.name: spec(v) for v in list(m.graph.value_info) + list(m.graph.output)}}


def run(path, sizes):
    """The shapes that all values really have, the symbols being bound to sizes."""
    import onnxruntime as ort

    m = onnx.load(path)
    known = {o.name for o in m.graph.output}
    for n in m.graph.node:
        m.graph.output.extend(helper.make_empty_tensor_value_info(o) for o in n.output if o and o not in known)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(m.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {}
    for i in session.get_inputs():
        kind = {"tensor(float)": np.float32, "tensor(int64)": np.int64}[i.type]
        feeds[i.name] = np.ones([d if isinstance(d, int) else sizes[d] for d in i.shape], dtype=kind)
    names = [o.name for o in session.get_outputs()]
    return {n: list(v.shape) for n, v in zip(names, session.run(names, feeds))}


def same(a, b):
    a, b = onnx.load(a), onnx.load(b)
    for x, y in zip(a.graph.initializer, b.graph.initializer, strict=True):
        p, q = numpy_helper.to_array(x), numpy_helper.to_array(y)
        if x.name != y.name or p.dtype != q.dtype or p.shape != q.shape or p.tobytes() != q.tobytes():
            return False
    return len(a.graph.node) == len(b.graph.node)


class Random:
    """A random graph of operators on float tensors of rank 1 to 4."""

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.nodes, self.weights, self.inputs = [], [], []
        self.values = []  # (name, sizes; a symbol is a string)
        for i in range(2):
            sizes = [self.r.choice([1, 2, 3, 4, 6, "n", "s"]) for _ in range(self.r.randint(1, 4))]
            name = f"x{i}"
            self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes))
            self.values.append((name, sizes))

    def const(self, values):
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values, dtype=np.int64), name))
        return name

    def weight(self, sizes):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.zeros(sizes, dtype=np.float32), name))
        return name

    def node(self, op, inputs, sizes, **attrs):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"n{len(self.nodes)}", **attrs))
        if sizes is not None:
            self.values.append((name, sizes))
        return name

    def step(self):
        r = self.r
        x, s = r.choice(self.values)
        rank = len(s)
        axis = r.randrange(rank) if rank else 0
        kind = r.choice(["unary", "binary", "matmul", "transpose", "unsqueeze", "squeeze", "reduce", "concat",
                         "split", "slice", "reshape", "flatten", "expand", "tile", "pad", "gather", "shape",
                         "softmax", "norm", "argmax", "topk", "conv", "pool", "cast", "where", "gemm", "cumsum"])
        if kind == "unary":
            self.node(r.choice(["Relu", "Sqrt", "Exp", "Erf", "Tanh", "Sigmoid", "Neg", "Abs", "Identity"]), [x], s)
        elif kind == "binary":
            other = [d if isinstance(d, int) and r.random() < 0.6 else 1 for d in s][r.randint(0, rank):]
            self.node(r.choice(["Add", "Sub", "Mul", "Div", "Pow", "Max"]), [x, self.weight(other)], s)
        elif kind == "where":
            c = f"v{len(self.nodes)}"
            self.nodes.append(helper.make_node("Greater", [x, self.weight([1])], [c]))
            self.node("Where", [c, x, self.weight([])], s if rank else [1])
        elif kind == "matmul" and rank and isinstance(s[-1], int):
            k = r.randint(1, 5)
            self.node("MatMul", [x, self.weight([s[-1], k])], s[:-1] + [k])
        elif kind == "gemm" and rank == 2 and isinstance(s[1], int):
            k = r.randint(1, 5)
            self.node("Gemm", [x, self.weight([k, s[1]]), self.weight([k])], [s[0], k], transB=1)
        elif kind == "transpose" and rank:
            perm = r.sample(range(rank), rank)
            self.node("Transpose", [x], [s[p] for p in perm], perm=perm)
        elif kind == "unsqueeze" and rank < 4:
            at = r.randint(0, rank)
            self.node("Unsqueeze", [x, self.const([at])], s[:at] + [1] + s[at:])
        elif kind == "squeeze" and 1 in s:
            at = s.index(1)
            self.node("Squeeze", [x, self.const([at - rank])], s[:at] + s[at + 1:])
        elif kind == "reduce" and rank:
            keep = r.randint(0, 1)
            op = r.choice(["ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2"])
            self.node(op, [x, self.const([axis])], s[:axis] + [1] * keep + s[axis + 1:], keepdims=keep)
        elif kind == "concat" and rank:
            total = s[axis] * 2 if isinstance(s[axis], int) else None
            out = s[:axis] + [total] + s[axis + 1:]
            self.node("Concat", [x, x], out if total else None, axis=axis)
        elif kind == "split" and rank and isinstance(s[axis], int) and s[axis] > 1:
            names = [f"v{len(self.nodes)}", f"v{len(self.nodes)}b"]
            sizes = [1, s[axis] - 1]
            self.nodes.append(helper.make_node("Split", [x, self.const(sizes)], names, axis=axis))
            for n, k in zip(names, sizes):
                self.values.append((n, s[:axis] + [k] + s[axis + 1:]))
        elif kind == "slice" and rank and isinstance(s[axis], int):
            start, end, step = r.randint(-7, 7), r.randint(-7, 7), r.choice([1, 2, -1, -2])
            n = len(range(s[axis])[start:end:step])
            if n:
                ins = [x] + [self.const([v]) for v in (start, end, axis, step)]
                self.node("Slice", ins, s[:axis] + [n] + s[axis + 1:])
        elif kind == "reshape" and rank:
            if all(isinstance(d, int) for d in s[1:]):
                rest = int(np.prod(s[1:], dtype=np.int64))
                self.node("Reshape", [x, self.const([0, -1])], [s[0], rest])
        elif kind == "flatten" and rank and all(isinstance(d, int) for d in s):
            self.node("Flatten", [x], [int(np.prod(s[:axis])), int(np.prod(s[axis:]))], axis=axis)
        elif kind == "expand" and all(isinstance(d, int) for d in s) and rank < 4:
            to = [r.randint(1, 3)] + s
            self.node("Expand", [x, self.const(to)], to)
        elif kind == "tile" and rank:
            times = [r.randint(1, 2) if isinstance(d, int) else 1 for d in s]
            self.node("Tile", [x, self.const(times)], [d * t if isinstance(d, int) else d for d, t in zip(s, times)])
        elif kind == "pad" and rank:
            pads = [r.randint(0, 2) if isinstance(d, int) else 0 for d in s + s]
            out = [d + pads[i] + pads[i + rank] if isinstance(d, int) else d for i, d in enumerate(s)]
            self.node("Pad", [x, self.const(pads)], out)
        elif kind == "gather" and rank:
            shape = [r.randint(1, 3) for _ in range(r.randint(0, 2))]
            idx = self.const(np.zeros(shape, dtype=np.int64))
            if rank - 1 + len(shape) <= 4:
                self.node("Gather", [x, idx], s[:axis] + shape + s[axis + 1:], axis=axis)
        elif kind == "shape" and rank:
            shape = self.node("Shape", [x], None)
            self.node("Reshape", [x, shape], s)
        elif kind == "softmax" and rank:
            self.node(r.choice(["Softmax", "LogSoftmax"]), [x], s, axis=axis - rank)
        elif kind == "norm" and rank and isinstance(s[-1], int):
            self.node("LayerNormalization", [x, self.weight([s[-1]]), self.weight([s[-1]])], s, axis=-1)
        elif kind == "argmax" and rank:
            self.node("ArgMax", [x], None, axis=axis, keepdims=r.randint(0, 1))
        elif kind == "topk" and rank and isinstance(s[axis], int):
            k = r.randint(1, s[axis])
            name = f"v{len(self.nodes)}"
            self.nodes.append(helper.make_node("TopK", [x, self.const([k])], [name, name + "b"], axis=axis))
            self.values.append((name, s[:axis] + [k] + s[axis + 1:]))
        elif kind == "conv" and rank in (3, 4) and isinstance(s[1], int) and all(isinstance(d, int) for d in s[2:]):
            n, k, stride = rank - 2, r.randint(1, 3), r.randint(1, 2)
            pads = [r.randint(1, 2) for _ in range(2 * n)]
            out = [(d + pads[i] + pads[i + n] - k) // stride + 1 for i, d in enumerate(s[2:])]
            if min(out) > 0:
                w = self.weight([4, s[1]] + [k] * n)
                self.node("Conv", [x, w], [s[0], 4] + out, strides=[stride] * n, pads=pads)
        elif kind == "pool" and rank in (3, 4) and all(isinstance(d, int) and d >= 2 for d in s[2:]):
            self.node(r.choice(["MaxPool", "AveragePool"]), [x], None, kernel_shape=[2] * (rank - 2),
                      strides=[2] * (rank - 2), ceil_mode=r.randint(0, 1))
        elif kind == "cast":
            self.node("Cast", [x], None, to=r.choice([TensorProto.INT64, TensorProto.FLOAT16, TensorProto.BOOL]))
        elif kind == "cumsum" and rank:
            self.node("CumSum", [x, self.const(axis)], s)

    def model(self):
        while len(self.nodes) < 12:
            self.step()
        outputs = [helper.make_empty_tensor_value_info(n) for node in self.nodes[-2:] for n in node.output]
        g = helper.make_graph(self.nodes, "random", self.inputs, outputs, self.weights)
        m = helper.make_model(g, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        # The checker wants types of outputs: take those that inference finds.
        return shape_inference.infer_shapes(m, strict_mode=True, data_prop=True)


def rand(folder, count):
    files = []
    for seed in range(count):
        m = Random(seed).model()
        del m.graph.value_info[:]
        files.append(os.path.join(folder, f"random-{seed}.onnx"))
        onnx.save(m, files[-1])
    return files


def forms(folder):
    values = np.array([1, 2, 0, 3])
    want = {}

    def save(name, weights, nodes=None, functions=(), imports=(), **kw):
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
        nodes = nodes or [helper.make_node("Identity", ["x"], ["y"])]
        g = helper.make_graph(nodes, "g", [x], [y], weights)
        m = helper.make_model(g, opset_imports=[helper.make_opsetid("", 17), *imports], functions=functions, ir_version=10)
        want[name] = {w.name: numpy_helper.to_array(w).astype(float).ravel().tolist() for w in weights}
        onnx.save(m, os.path.join(folder, name), **kw)

    types = [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT64,
             TensorProto.INT32, TensorProto.INT8, TensorProto.UINT8]
    typed = [helper.make_tensor(f"t{t}", t, [2, 2], values.tolist()) for t in types]
    typed.append(helper.make_tensor("flags", TensorProto.BOOL, [4], [True, False, True, True]))
    save("typed.onnx", typed)
    raw = [numpy_helper.from_array(values.reshape(2, 2).astype(d), f"r{d}") for d in ("float32", "float16", "int64", "float64")]
    save("raw.onnx", raw)
    save("external.onnx", raw, save_as_external_data=True, location="weights.bin", size_threshold=0)
    save("scattered.onnx", raw, save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0)
    body = [helper.make_node("LeakyRelu", ["a"], ["b"])]
    ref = onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    body[0].attribute.append(ref)
    f = helper.make_function("local", "Leak", ["a"], ["b"], body, [helper.make_opsetid("", 17)], ["slope"])
    call = helper.make_node("Leak", ["x"], ["y"], domain="local", slope=0.5)
    save("functions.onnx", [], [call], [f], [helper.make_opsetid("local", 1)])
    return want


command, args = sys.argv[1], sys.argv[2:]
if command == "schema":
    answer = schema()
elif command == "check":
    answer = check(args[0])
elif command == "check-all":
    answer = {path: check(path) for path in args}
elif command == "run":
    sizes = json.loads(args[0])
    answer = {path: run(path, sizes) for path in args[1:]}
elif command == "same":
    answer = same(*args)
elif command == "random":
    answer = rand(args[0], int(args[1]))
else:
    answer = forms(args[0])
json.dump(answer, sys.stdout)
