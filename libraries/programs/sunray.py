"""Typed tasks and actors of sunray: mixins, options in the class, streams, results unpacked."""

import sunray
from _checks import check, done, raises


@sunray.remote
def add(left: int, right: int) -> int:
    return left + right


@sunray.remote
def pair() -> tuple[int, str]:
    return 1, "one"


@sunray.remote
def count(to: int):
    yield from range(to)


class Demo(sunray.ActorMixin, name="DemoActor", num_cpus=1, concurrency_groups={"g1": 1}):
    def __init__(self, start: int):
        self.start = start

    @sunray.remote_method
    def add(self, number: int) -> int:
        return self.start + number

    @sunray.remote_method
    def calculate(self, number: int) -> int:
        return self.add(number) * 2

    @sunray.remote_method
    def stream(self, to: int):
        for number in range(to):
            yield self.start + number

    @sunray.remote_method(concurrency_group="g1")
    async def later(self) -> str:
        return "later"

    @sunray.remote_method
    def itself(self) -> int:
        return (
            sunray.get(sunray.get_actor[type(self)]("DemoActor").methods.later.remote()) == "later"
        )


sunray.init(num_cpus=2)
check("a task", sunray.get(add.remote(1, 2)) == 3)
check("options of a task", sunray.get(add.options(num_cpus=0.5).remote(3, 4)) == 7)
check("many tasks", sunray.get([add.remote(i, i) for i in range(100)]) == tuple(range(0, 200, 2)))
number, text = pair.options(unpack=True).remote()
check("results unpacked", sunray.get([number, text]) == (1, "one"))
check("a stream", [sunray.get(ref) for ref in count.remote(5)] == [0, 1, 2, 3, 4])
ready, rest = sunray.wait([add.remote(1, 1), add.remote(2, 2)], num_returns=2, timeout=30)
check("waiting", (len(ready), rest) == (2, []))

actor = Demo.new_actor().remote(10)
check("a method", sunray.get(actor.methods.add.remote(5)) == 15)
check("a method that calls another", sunray.get(actor.methods.calculate.remote(5)) == 30)
check(
    "a stream of an actor", [sunray.get(r) for r in actor.methods.stream.remote(3)] == [10, 11, 12]
)
check("a method in a group", sunray.get(actor.methods.later.remote()) == "later")
found = sunray.get_actor[Demo]("DemoActor")
check("the actor by its name", sunray.get(found.methods.add.remote(1)) == 11)
other = Demo.new_actor().options(name="other", num_cpus=0.5).remote(0)
check("options of an actor", sunray.get(other.methods.add.remote(1)) == 1)
sunray.kill(other)
check("a killed actor", lambda: raises(Exception, sunray.get, other.methods.add.remote(1)))
check("a graph that runs later", sunray.get(add.bind(1, add.bind(2, 3)).execute()) == 6)
done()
