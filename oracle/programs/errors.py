"""What a failing task looks like to who gets its result."""

from __future__ import annotations

from oracle.cases import attempt, case, lineage, ray, run


class PlainError(Exception):
    pass


class FieldsError(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


class KeywordOnlyError(Exception):
    def __init__(self, *, code):
        super().__init__(code)
        self.code = code


class ReducedError(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code

    def __reduce__(self):
        return (ReducedError, (self.code, self.args[0]))


class OwnTextError(Exception):
    def __str__(self):
        return "a text of its own"


class SlotsError(Exception):
    __slots__ = ("place",)


class TwoBasesError(KeyError, AttributeError):
    pass


class FinalError(Exception):
    def __init_subclass__(cls, **kwargs):
        raise TypeError("no subclasses")


class MetaKind(type):
    pass


class MetaError(Exception, metaclass=MetaKind):
    pass


@ray.remote(max_retries=0)
def throw(error):
    raise error


def caught(ref, timeout=15):
    try:
        ray.get(ref, timeout=timeout)
    except BaseException as error:
        return error
    return None


def error_of(error):
    """What get raises for a task that raises `error`, or what `error`, a function, makes."""
    make = error if not isinstance(error, BaseException) else lambda: error

    @ray.remote(max_retries=0)
    def throw_it():
        raise make()

    return caught(throw_it.remote())


@case
def built_in_classes():
    errors = [
        ValueError("v"),
        KeyError("k"),
        ZeroDivisionError("z"),
        TypeError("t"),
        RuntimeError("r"),
    ]
    return [lineage(error_of(error)) for error in errors]


@case
def built_in_classes_with_fields():
    errors = [
        OSError(2, "gone", "a file"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
        StopIteration(3),
    ]
    return [lineage(error_of(error)) for error in errors]


@case
def other_control_flow():
    @ray.remote(max_retries=0)
    def leave(kind):
        raise kind("away")

    kinds = (GeneratorExit, BaseException, StopAsyncIteration, Warning, ImportError, MemoryError)
    return {kind.__name__: attempt(ray.get, leave.remote(kind), timeout=15) for kind in kinds}


@case
def a_class_of_the_user():
    error = error_of(PlainError("mine"))
    return lineage(error), isinstance(error, PlainError)


@case
def it_can_be_caught_as_the_class_of_the_user():
    try:
        ray.get(throw.remote(PlainError("mine")))
    except PlainError:
        return "caught"


@case
def it_can_be_caught_as_ray_task_error():
    try:
        ray.get(throw.remote(PlainError("mine")))
    except ray.exceptions.RayTaskError as error:
        return type(error.cause).__name__, str(error.cause)


@case
def the_text_has_the_remote_traceback():
    text = str(error_of(PlainError("mine")))
    return [part in text for part in ("throw_it", "errors.py", "PlainError", "mine", "pid=")]


@case
def repr_of_the_error():
    text = repr(error_of(PlainError("mine")))
    return [part in text for part in ("RayTaskError(PlainError)", "PlainError('mine')")]


@case
def args_of_the_error():
    return error_of(PlainError("mine", 2)).args


@case
def args_of_a_built_in_error():
    return error_of(ValueError("mine", 2)).args


@case
def the_cause_is_the_original():
    error = error_of(lambda: ReducedError(5, "five"))
    return lineage(error.cause), error.cause.code, str(error.cause)


@case
def fields_of_the_user_can_be_read():
    error = error_of(lambda: ReducedError(5, "five"))
    return lineage(error), attempt(lambda: error.code)


@case(differs="also a RayTaskError with the remote traceback, as other errors")
def a_constructor_that_pickle_cannot_call():
    return lineage(error_of(lambda: FieldsError(5, "five")))


@case
def a_function_that_cannot_be_unpickled():
    error = FieldsError(5, "five")
    return lineage(error_of(error))


@case(differs="also a RayTaskError with the remote traceback, as other errors")
def a_constructor_with_keywords_only():
    return lineage(error_of(lambda: KeywordOnlyError(code=3)))


@case
def an_error_with_reduce():
    error = error_of(ReducedError(5, "five"))
    return lineage(error), error.cause.code, str(error.cause)


@case
def an_error_with_a_text_of_its_own():
    error = error_of(OwnTextError(1))
    return str(error.cause), "a text of its own" in str(error)


@case
def an_error_with_slots():
    error = SlotsError("s")
    error.place = "here"
    got = error_of(error)
    return lineage(got), attempt(lambda: got.cause.place)


@case
def an_error_with_two_bases():
    return lineage(error_of(TwoBasesError("both")))


@case
def an_error_whose_class_allows_no_subclasses():
    return lineage(error_of(FinalError("final")))


@case
def an_error_with_a_metaclass():
    return lineage(error_of(MetaError("meta")))


@case
def an_error_with_attributes_set_later():
    error = PlainError("mine")
    error.note = "later"
    got = error_of(error)
    return attempt(lambda: got.cause.note), attempt(lambda: got.note)


@case
def an_error_class_defined_in_the_task():
    @ray.remote(max_retries=0)
    def inner():
        class LocalError(Exception):
            pass

        raise LocalError("local")

    return lineage(caught(inner.remote()))


@case(differs="class and fields stay; in Ray it is an UnserializableException")
def an_error_whose_init_takes_something_else():
    class NeedyError(Exception):
        def __init__(self, a, b):
            super().__init__(f"{a} and {b}")

    @ray.remote(max_retries=0)
    def inner():
        raise NeedyError(1, 2)

    return lineage(caught(inner.remote()))


@case
def an_error_with_a_long_text():
    return lineage(error_of(ValueError("x" * 1_000_000)))


@case(differs="Ray's worker dies of it; Mobula shows the remote traceback")
def an_error_that_cannot_be_pickled():
    @ray.remote(max_retries=0)
    def inner():
        import threading

        raise PlainError(threading.Lock())

    return lineage(caught(inner.remote()))


@case(differs="as any error that cannot be pickled: its cause is an UnserializableException")
def an_attribute_that_cannot_be_pickled():
    @ray.remote(max_retries=0)
    def inner():
        import threading

        error = PlainError("mine")
        error.lock = threading.Lock()
        raise error

    return lineage(caught(inner.remote()))


@case
def a_cause_that_cannot_be_pickled():
    @ray.remote(max_retries=0)
    def inner():
        import threading

        try:
            raise PlainError(threading.Lock())
        except PlainError as error:
            raise ValueError("outer") from error

    return lineage(caught(inner.remote()))


if __name__ == "__main__":
    run()
