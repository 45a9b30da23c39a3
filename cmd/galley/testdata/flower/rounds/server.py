"""Rounds of FedAvg without evaluation. The file `out` gets a line when they
begin and after each: its number, the time, and the mean of the weights."""

import time

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


class Grid:
    """Flower's grid, which looks for answers each `pause` seconds: its own
    send_and_receive does each 3."""

    def __init__(self, grid, pause):
        self.grid, self.pause = grid, pause

    def __getattr__(self, name):
        return getattr(self.grid, name)

    def send_and_receive(self, messages, *, timeout):
        asked, answers = set(self.grid.push_messages(messages)), []
        end = time.monotonic() + timeout
        while True:
            for answer in self.grid.pull_messages(asked):
                asked.discard(answer.metadata.reply_to_message_id)
                answers.append(answer)
            if not asked or time.monotonic() > end:
                return answers
            time.sleep(self.pause)


@app.main()
def main(grid, context):
    config = context.run_config

    def over(number, arrays):
        mean = arrays["weights"].numpy().mean(dtype=np.float64)
        with open(config["out"], "a") as out:
            out.write(f"{number} {time.monotonic()} {mean}\n")

    partners = config["partners"]
    strategy = FedAvg(min_train_nodes=partners, min_available_nodes=partners, fraction_evaluate=0.0)
    strategy.start(
        grid=Grid(grid, config["pause"]),
        initial_arrays=ArrayRecord({"weights": Array(np.zeros(config["numbers"], np.float32))}),
        num_rounds=config["rounds"],
        evaluate_fn=over,
    )
