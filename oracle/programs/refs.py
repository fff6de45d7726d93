"""What a ref can do, and arrays and other large values."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import numpy

from oracle.cases import attempt, case, ray, run


@ray.remote
def add(value, other=1):
    return value + other


@case(differs="what leads into the inside of Ray is left out")
def the_public_names_of_a_ref():
    return sorted(
        name
        for name in dir(ray.ObjectRef)
        if not name.startswith("_") and callable(getattr(ray.ObjectRef, name))
    )


@case
def hex_and_binary_belong_together():
    ref = ray.put(1)
    return ref.hex() == ref.binary().hex(), type(ref.hex()).__name__, type(ref.binary()).__name__


@case
def ids_have_twenty_eight_bytes():
    ref = add.remote(1)
    return len(ref.binary()), len(ray.put(1).binary())


@case
def a_ref_is_not_nil():
    return ray.put(1).is_nil()


@case
def equality_and_hash():
    ref, other = ray.put(1), ray.put(1)
    same = pickle_copy(ref)
    return (
        ref == same,
        hash(ref) == hash(same),
        ref == other,
        ref != other,
        ref == 1,
        len({ref, same, other}),
    )


def pickle_copy(ref):
    return ray.get(ray.put([ref]))[0]


@case
def order_of_refs():
    return attempt(lambda: ray.put(1) < ray.put(2))


@case
def repr_of_a_ref():
    ref = ray.put(1)
    return repr(ref) == f"ObjectRef({ref.hex()})", str(ref) == repr(ref)


@case
def refs_can_be_keys():
    ref = ray.put(1)
    return {ref: "here"}[pickle_copy(ref)]


@case
def the_task_id_of_a_ref():
    @ray.remote(num_returns=2)
    def two():
        return 1, 2

    first, second = two.remote()
    return first.task_id() == second.task_id(), first.task_id() == two.remote()[0].task_id()


@case
def the_job_id_of_a_ref():
    ref = add.remote(1)
    return ref.job_id() == ray.put(1).job_id()


@case
def ids_of_tasks_and_jobs_have_hex_and_binary():
    ref = add.remote(1)
    return [
        (len(one.hex()), len(one.binary()), one.is_nil()) for one in (ref.task_id(), ref.job_id())
    ]


@case
def truth_and_iteration_of_a_ref():
    ref = ray.put(0)
    return bool(ref), attempt(iter, ref), attempt(len, ref)


@case
def a_ref_cannot_be_added():
    return attempt(lambda: ray.put(1) + 1), attempt(lambda: ray.put([1])[0])


@case(differs="works; Ray's refs have no place for them")
def weak_references_to_refs():
    ref = ray.put(1)
    return attempt(lambda: weakref.ref(ref)() is ref)


@case
def copies_of_refs():
    ref = ray.put(3)
    return attempt(lambda: copy.copy(ref) == ref), attempt(lambda: copy.deepcopy(ref) == ref)


@case
def pickling_a_ref_by_hand():
    return attempt(pickle.dumps, ray.put(1)) is not None


@case
def attributes_of_refs():
    ref = ray.put(1)
    return attempt(setattr, ref, "mine", 1)


@case
def the_class_names():
    return ray.ObjectRef.__name__, ray.ObjectID is ray.ObjectRef


@case
def typed_refs():
    return attempt(lambda: ray.ObjectRef[int] is not None)


@case
def the_value_lives_as_long_as_a_ref():
    refs = [ray.put(bytes(500_000)) for _ in range(3)]
    last = refs[-1]
    del refs
    gc.collect()
    return len(ray.get(last))


@case
def arrays_are_read_only():
    array = ray.get(ray.put(numpy.zeros(100_000)))
    return array.flags.writeable, attempt(array.__setitem__, 0, 1.0), array.shape, str(array.dtype)


@case
def small_arrays_are_read_only_too():
    array = ray.get(ray.put(numpy.zeros(3)))
    return array.flags.writeable


@case
def arrays_in_arguments_are_read_only():
    @ray.remote
    def writable(array, small):
        return array.flags.writeable, small.flags.writeable

    return ray.get(writable.remote(numpy.zeros(100_000), numpy.zeros(3)))


@case
def arrays_outlive_their_refs():
    array = ray.get(ray.put(numpy.arange(200_000)))
    gc.collect()
    others = [ray.put(numpy.ones(200_000)) for _ in range(3)]
    return int(array.sum()), len(others)


@case
def arrays_of_many_kinds():
    arrays = [
        numpy.asfortranarray(numpy.arange(6).reshape(2, 3)),
        numpy.array(["a", "bc"]),
        numpy.array([1, None, "x"], dtype=object),
        numpy.zeros((0, 3)),
        numpy.float32(1.5),
        numpy.array(7),
        numpy.zeros(3, dtype=[("a", "i4"), ("b", "f8")]),
        numpy.arange(10)[::2],
        numpy.array(["2020-01-01"], dtype="datetime64[D]"),
    ]
    return [
        bool(numpy.array_equal(got, array)) and str(getattr(got, "dtype", type(got)))
        for array in arrays
        for got in [ray.get(ray.put(array))]
    ]


@case
def large_bytes():
    value = bytes(range(256)) * 10_000
    got = ray.get(ray.put(value))
    return type(got).__name__, got == value


@case
def bytearrays_and_memoryviews():
    got = ray.get(ray.put(bytearray(b"abc")))
    return bytes(got) == b"abc", attempt(ray.put, memoryview(b"abc"))


@case(differs="it stays a bytearray, where Ray makes bytes of it")
def the_type_of_a_bytearray():
    return type(ray.get(ray.put(bytearray(b"abc")))).__name__


@case
def a_large_object_through_tasks():
    @ray.remote
    def double(array):
        return array * 2

    array = numpy.ones(300_000)
    return float(ray.get(double.remote(double.remote(array))).sum())


@case
def a_task_puts_and_returns_the_ref():
    @ray.remote
    def make():
        return [ray.put("inside")]

    return ray.get(ray.get(make.remote())[0])


if __name__ == "__main__":
    run()
