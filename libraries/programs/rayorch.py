"""RayOrch: pipelines over persistent actors, with branches that open and close."""

import os

import ray
import rayorch as ro
from _checks import check, done
from rayorch import Executor, F


class AddOne:
    def run(self, values):
        return [value + 1 for value in values]


class Pages:
    """A document becomes its words."""

    def run(self, documents):
        return [document.split() for document in documents]


class Read:
    def __init__(self):
        self.batches = 0

    def run(self, pages):
        self.batches += 1
        return [(page.upper(), os.getpid()) for page in pages]


class IsLong:
    def run(self, pages):
        return [len(page) > 3 for page in pages]


class Join:
    def run(self, groups):
        return [" ".join(word for word, _ in group) for group in groups]


class Steps:
    """One model with two stages."""

    def __init__(self, factor):
        self.factor = factor

    def run(self, values, *, stage):
        return [value * self.factor if stage == "times" else value - 1 for value in values]


class Chain(ro.Pipeline):
    def __init__(self):
        self.first = ro.RayModule(AddOne).ray_options(replicas=1, num_cpus=0.5, batch_size=8)
        self.second = ro.RayModule(AddOne).ray_options(replicas=1, num_cpus=0.5, batch_size=8)

    def forward(self, values):
        return self.second(self.first(values))


class Documents(ro.Pipeline):
    def __init__(self):
        self.pages = ro.RayModule(Pages).ray_options(replicas=1, num_cpus=0.25, batch_size=2)
        self.read = ro.RayModule(Read).ray_options(replicas=2, num_cpus=0.25, batch_size=4)
        self.is_long = ro.RayModule(IsLong).ray_options(replicas=1, num_cpus=0.25, batch_size=4)
        self.join = ro.RayModule(Join).ray_options(replicas=1, num_cpus=0.25, batch_size=2)

    def forward(self, documents):
        pages = F.expand(self.pages(documents))
        long_ones = F.filter(pages, self.is_long(pages))
        return self.join(F.reduce(self.read(long_ones)))


class TwoStages(ro.Pipeline):
    def __init__(self):
        module = ro.RayModule(Steps).pre_init(3)
        self.model = module.ray_options(replicas=2, num_cpus=0.5, batch_size=4)

    def forward(self, values):
        return self.model(self.model(values, stage="times"), stage="minus")


ray.init(num_cpus=2)
result = Chain().run([1, 2, 3], input_batch_size=2, max_active_input_batches=2)
check("two stages in a chain", list(result.outputs) == [3, 4, 5])
many = Chain().run(list(range(300)), input_batch_size=20, max_active_input_batches=4)
check("three hundred items come back in order", list(many.outputs) == [n + 2 for n in range(300)])

texts = ["a manta leaps", "of an eagle ray", "the sting"]
documents = Documents().run(texts, input_batch_size=1, max_active_input_batches=3)
wanted = ["MANTA LEAPS", "EAGLE", "STING"]
check("documents open into pages and close again", list(documents.outputs) == wanted)

stages = TwoStages().run([1, 2, 3, 4])
check("one model serves two stages", list(stages.outputs) == [2, 5, 8, 11])

with Executor(Chain()) as executor:
    first = executor.run([1, 2, 3])
    second = executor.run([4, 5, 6])
check(
    "an executor runs twice", [list(first.outputs), list(second.outputs)] == [[3, 4, 5], [6, 7, 8]]
)
ray.shutdown()
done()
