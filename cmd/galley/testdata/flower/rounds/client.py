"""A partner that trains nothing: weights come back with its step added."""

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    weights = message.content["arrays"]["weights"].numpy()
    answer = {
        "arrays": ArrayRecord({"weights": Array(weights + np.float32(context.node_config["step"]))}),
        "metrics": MetricRecord({"num-examples": 100}),
    }
    return Message(content=RecordDict(answer), reply_to=message)
