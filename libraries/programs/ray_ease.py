"""The same functions and classes serially and in parallel; the README of ray-ease shows these."""

import ray
import ray_ease as rez
from _checks import check, done, raises


def square(x):
    return x * x


def fail(x):
    raise ValueError(x)


class Counter:
    def __init__(self, start=0):
        self.count = start

    def add(self, number):
        self.count += number
        return self.count

    def get(self):
        return self.count


def both_ways():
    """What the same program gives in the mode that was chosen."""
    parallel_square = rez.parallelize(square)
    counter = rez.parallelize(Counter)(5)
    for number in range(10):
        counter.add(number)
    squares = rez.retrieve([parallel_square(x) for x in range(20)], ordered=True)
    return list(squares), rez.retrieve(counter.get())


rez.init("serial")
serial = both_ways()
check("nothing is started in serial mode", not ray.is_initialized())
rez.init(num_cpus=2)
check("Ray is started in parallel mode", ray.is_initialized())
check("functions and actors give the same in parallel", both_ways() == serial)

half = rez.parallelize(num_cpus=0.5)(square)
futures = [half(x) for x in range(30)]
check("decorated functions return refs", all(isinstance(one, ray.ObjectRef) for one in futures))
unordered = rez.retrieve(futures)
check("results come as they are ready", sorted(unordered) == [x * x for x in range(30)])
shown = rez.retrieve([half(x) for x in range(5)], ordered=True, parallel_progress=True)
check("a bar shows progress", list(shown) == [0, 1, 4, 9, 16])
check("an error arrives", lambda: raises(ValueError, rez.retrieve, [rez.parallelize(fail)(1)]))

lasting = rez.parallelize(max_restarts=1)(Counter)(3)
check("classes take options", rez.retrieve(lasting.add(4)) == 7)
check("another mode is refused", lambda: raises(ValueError, rez.init, "threads"))
done()
