"""`.remote` of functions, classes and methods as a value that is handed on."""

from __future__ import annotations

import functools

from oracle.cases import case, ray, run


def get(ref):
    return ray.get(ref, timeout=15)


@ray.remote
def call(function, *args):
    return get(function(*args))


@ray.remote
def call_method(method, *args):
    return get(method.remote(*args))


@ray.remote
def double(x):
    return 2 * x


@ray.remote
class Adder:
    def __init__(self, by=1):
        self.by = by

    def add(self, x):
        return x + self.by


@case
def remote_of_a_function_as_an_argument():
    return get(call.remote(double.remote, 3)), get(
        call.remote(double.options(num_cpus=0).remote, 3)
    )


@case
def remote_of_a_method_as_an_argument():
    adder = Adder.remote()
    return get(call.remote(adder.add.remote, 3))


@case
def remote_of_a_class_as_an_argument():
    @ray.remote
    def make(create):
        return get(create(5).add.remote(1))

    return get(make.remote(Adder.remote)), get(make.remote(Adder.options(num_cpus=0).remote))


@case
def partials_of_remote():
    adder = Adder.remote()
    return (
        get(call.remote(functools.partial(double.remote, 3))),
        get(call.remote(functools.partial(adder.add.remote, 3))),
        get(functools.partial(double.remote, x=3)()),
    )


@case
def a_method_as_an_argument():
    adder = Adder.remote()
    return get(call_method.remote(adder.add, 3)), get(
        call_method.remote(adder.add.options(name="n"), 3)
    )


@case
def remotes_in_closures_and_fields():
    adder = Adder.remote()

    class Holder:
        def __init__(self):
            self.call_back = adder.add.remote

    return get(call.remote(Holder().call_back, 3)), get(
        call.remote(lambda x: adder.add.remote(x), 3)
    )


@case
def remote_mapped_over_values():
    adder = Adder.remote()
    return get(list(map(adder.add.remote, range(3)))), get(list(map(double.remote, range(3))))


@case
def remotes_in_objects_and_results():
    adder = Adder.remote()
    kept = ray.put([double.remote, adder.add.remote])
    returned = get(ray.remote(lambda: double.remote).remote())
    return [get(one(3)) for one in get(kept)], get(returned(4))


@case
def remote_of_a_method_keeps_its_actor():
    add = Adder.remote(5).add.remote
    return get(add(1)), get(call.remote(add, 2))


if __name__ == "__main__":
    run()
