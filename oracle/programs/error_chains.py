"""Errors that travel: chains, groups, levels of tasks, what cannot be unpickled."""

from __future__ import annotations

import builtins
import pickle
import re
import sys
import traceback

from oracle.cases import attempt, case, lineage, raised, ray, run


class PlainError(Exception):
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
def the_traceback_shows_the_chain():
    @ray.remote(max_retries=0)
    def inner():
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error

    text = str(caught(inner.remote()))
    return "KeyError" in text, "direct cause" in text, "ValueError: second" in text


@case
def the_traceback_shows_the_context():
    @ray.remote(max_retries=0)
    def inner():
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second")  # noqa: B904 - the context is what is asked for.

    text = str(caught(inner.remote()))
    return "KeyError" in text, "another exception occurred" in text


@case
def a_suppressed_context_is_not_shown():
    @ray.remote(max_retries=0)
    def inner():
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second") from None

    return "KeyError" in str(caught(inner.remote()))


@case
def cause_and_context_of_the_error_itself():
    @ray.remote(max_retries=0)
    def inner():
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error

    error = caught(inner.remote())
    return (
        attempt(lambda: error.cause),
        attempt(lambda: error.cause.__cause__),
        attempt(lambda: error.__cause__),
        attempt(lambda: error.__context__),
    )


@case
def notes_of_an_error():
    @ray.remote(max_retries=0)
    def inner():
        error = ValueError("mine")
        error.add_note("a note")
        raise error

    error = caught(inner.remote())
    return "a note" in str(error), attempt(lambda: error.cause.__notes__)


@case
def exception_groups():
    error = error_of(builtins.ExceptionGroup("several", [ValueError("a"), KeyError("b")]))
    return lineage(error), attempt(lambda: [type(one).__name__ for one in error.exceptions])


@case
def except_star_takes_the_members_apart():
    error = error_of(builtins.ExceptionGroup("several", [ValueError("a"), KeyError("b")]))
    return attempt(lambda: type(error.split(ValueError)[0]).__name__)


@case
def through_two_levels():
    @ray.remote(max_retries=0)
    def outer():
        return ray.get(throw.remote(PlainError("mine")))

    error = caught(outer.remote())
    text = str(error)
    return (
        lineage(error),
        [part in text for part in ("outer", "throw", "mine")],
        raised(error.cause),
    )


@case
def through_four_levels():
    @ray.remote(max_retries=0, num_cpus=0.1)
    def level(n):
        if n == 0:
            raise PlainError("deep")
        return ray.get(level.remote(n - 1))

    error = caught(level.remote(3))
    return (
        lineage(error),
        len(re.findall(r"in (?:\S+\.)?level$", str(error), re.MULTILINE)),
        lineage(error.cause),
    )


@case
def through_an_argument():
    @ray.remote(max_retries=0)
    def use(value):
        return value

    error = caught(use.remote(throw.remote(PlainError("mine"))))
    text = str(error)
    return lineage(error), [part in text for part in ("use", "throw", "mine", "input arguments")]


@case
def caught_and_wrapped_in_the_outer_task():
    @ray.remote(max_retries=0)
    def outer():
        try:
            ray.get(throw.remote(PlainError("mine")))
        except PlainError as error:
            raise KeyError("wrapped") from error

    error = caught(outer.remote())
    return lineage(error), "wrapped" in str(error), "mine" in str(error)


@case(differs="a returned exception is a value; Ray raises it if it is a caught RayTaskError")
def returned_by_the_outer_task():
    @ray.remote(max_retries=0)
    def outer():
        try:
            ray.get(throw.remote(PlainError("mine")))
        except PlainError as error:
            return error

    error = ray.get(outer.remote())
    return lineage(error), attempt(lambda: raised(error.cause))


@case(differs="a put exception is a value; Ray raises it if it is a caught RayTaskError")
def put_of_a_caught_error():
    error = error_of(PlainError("mine"))
    return lineage(ray.get(ray.put(error)))


@case(differs="works; Ray's combined classes cannot be pickled")
def pickling_a_caught_error():
    error = error_of(ValueError("mine"))
    copy = pickle.loads(pickle.dumps(error))
    return lineage(copy), str(copy) == str(error)


@case(differs="one combined class per class; Ray makes one for every error")
def two_errors_of_one_class_have_one_class():
    return type(error_of(PlainError(1))) is type(error_of(PlainError(2)))


@case(differs="the documented fields can be read; in Ray only of errors that are not combined")
def the_documented_fields():
    error = error_of(PlainError("mine"))
    fields = (
        "function_name",
        "traceback_str",
        "cause",
        "proctitle",
        "pid",
        "ip",
        "actor_repr",
        "actor_id",
    )
    return {name: hasattr(error, name) for name in fields}


@case
def as_instanceof_cause():
    error = error_of(PlainError("mine"))
    return attempt(lambda: lineage(error.as_instanceof_cause()))


@case
def the_local_traceback_is_that_of_get():
    try:
        ray.get(throw.remote(PlainError("mine")))
    except PlainError:
        frames = traceback.extract_tb(sys.exc_info()[2])
        return frames[0].name


@case
def raising_a_class():
    @ray.remote(max_retries=0)
    def inner():
        raise PlainError

    error = caught(inner.remote())
    return lineage(error), error.cause.args


@case
def raising_something_that_is_no_exception():
    @ray.remote(max_retries=0)
    def inner():
        raise 5  # noqa: B016 - that is the question.

    return lineage(caught(inner.remote()))


@case
def a_syntax_error():
    @ray.remote(max_retries=0)
    def inner():
        exec("1 +")

    return lineage(caught(inner.remote()))


@case
def a_recursion_error():
    @ray.remote(max_retries=0)
    def inner():
        return inner_most()

    def inner_most():
        return inner_most()

    return lineage(caught(inner.remote()))


@case
def a_failed_import():
    @ray.remote(max_retries=0)
    def inner():
        import a_module_that_is_not_there

        return a_module_that_is_not_there

    return lineage(caught(inner.remote()))


@case
def a_failed_assertion():
    @ray.remote(max_retries=0)
    def inner():
        assert 1 == 2, "not equal"

    error = caught(inner.remote())
    return lineage(error), "not equal" in str(error)


@case
def an_argument_that_cannot_be_unpickled():
    class Broken:
        def __reduce__(self):
            return (int, ("not a number",))

    @ray.remote(max_retries=0)
    def use(value):
        return value

    return lineage(caught(use.remote(Broken())))


@case
def a_result_that_cannot_be_unpickled():
    class Broken:
        def __reduce__(self):
            return (int, ("not a number",))

    @ray.remote(max_retries=0)
    def make():
        return Broken()

    return lineage(caught(make.remote()))


@case
def an_error_that_cannot_be_unpickled():
    class BrokenError(Exception):
        def __reduce__(self):
            return (int, ("not a number",))

    return lineage(error_of(BrokenError()))


@case
def errors_of_ray_raised_by_a_task():
    errors = [
        ray.exceptions.GetTimeoutError("mine"),
        ray.exceptions.RaySystemError("mine"),
        ray.exceptions.WorkerCrashedError(),
        ray.exceptions.TaskCancelledError(),
        ray.exceptions.ObjectStoreFullError("mine"),
    ]
    return [lineage(error_of(error)) for error in errors]


@case
def a_timeout_inside_of_a_task():
    from oracle.cases import Gate

    gate = Gate()

    @ray.remote
    def never():
        gate.wait()

    @ray.remote(max_retries=0)
    def outer():
        return ray.get(never.remote(), timeout=0.05)

    return lineage(caught(outer.remote()))


# Private names, and two of other releases of Ray that Mobula keeps.
OTHER = (
    "_",
    "ObjectReconstructionFailedLineage",
    "ObjectReconstructionFailedMaxAttempts",
    "TaskTimeoutError",
)


@case
def the_names_and_bases_of_the_exceptions():
    # TaskTimeoutError belongs to an option that Ray does not have.
    return {
        name: lineage_of_class(kind)
        for name, kind in sorted(vars(ray.exceptions).items())
        if isinstance(kind, type) and issubclass(kind, BaseException) and not name.startswith(OTHER)
    }


def lineage_of_class(kind):
    return [base.__name__ for base in kind.__mro__ if base is not object]


if __name__ == "__main__":
    run()
