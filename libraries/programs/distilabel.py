"""A pipeline of steps that are actors, which hand batches over by queues."""

import ray
from _checks import check, done
from distilabel.pipeline.ray import RayPipeline
from distilabel.steps import LoadDataFromDicts, Step, StepInput

ROWS = 24


class Shout(Step):
    @property
    def inputs(self):
        return ["text"]

    @property
    def outputs(self):
        return ["loud"]

    def process(self, inputs: StepInput):
        for row in inputs:
            row["loud"] = row["text"].upper()
            row["batch"] = len(inputs)
        yield inputs


if __name__ == "__main__":
    ray.init(num_cpus=2)
    data = [{"text": f"row {number}"} for number in range(ROWS)]
    with RayPipeline(name="loud") as loud:
        load = LoadDataFromDicts(name="load", data=data, batch_size=6)
        load >> Shout(name="shout", input_batch_size=8)
    rows = loud.run(use_cache=False)["default"]["train"].to_list()
    check("all rows come through", len(rows) == ROWS)
    check("in their order", [row["text"] for row in rows] == [row["text"] for row in data])
    check("a step changes them", all(row["loud"] == row["text"].upper() for row in rows))
    check("batches are made anew", {row["batch"] for row in rows} == {8})
    done()
