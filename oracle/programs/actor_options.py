"""The options of actor classes, of their methods and of calls, and what is made of wrong ones."""

from __future__ import annotations

from oracle.cases import attempt, case, ray, run


@ray.remote
class Counter:
    def get(self):
        return 0


WRONG = [
    {"num_cpus": -1},
    {"num_cpus": "1"},
    {"num_gpus": -1},
    {"num_returns": 1},
    {"max_retries": 1},
    {"max_calls": 1},
    {"unknown": 1},
    {"max_restarts": -2},
    {"max_restarts": 1.5},
    {"max_task_retries": -2},
    {"max_task_retries": "a"},
    {"max_concurrency": 0},
    {"max_concurrency": -1},
    {"max_concurrency": "2"},
    {"max_pending_calls": 0},
    {"max_pending_calls": -2},
    {"max_pending_calls": 1.5},
    {"lifetime": "forever"},
    {"lifetime": 1},
    {"lifetime": "non_detached"},
    {"name": ""},
    {"name": 1},
    {"namespace": ""},
    {"namespace": 3},
    {"get_if_exists": True},
    {"get_if_exists": 1},
    {"resources": {"CPU": 1}},
    {"resources": {"GPU": 1}},
    {"resources": {"x": -1}},
    {"resources": []},
    {"memory": -1},
    {"memory": 0},
    {"object_store_memory": 1000000},
    {"accelerator_type": 1},
    {"runtime_env": "x"},
    {"runtime_env": {}},
    {"scheduling_strategy": "WRONG"},
    {"scheduling_strategy": "SPREAD"},
    {"scheduling_strategy": "DEFAULT"},
    {"scheduling_strategy": 1},
    {"placement_group": "default"},
    {"enable_task_events": "x"},
    {"allow_out_of_order_execution": "x"},
    {"allow_out_of_order_execution": True},
    {"concurrency_groups": {"io": 1}},
    {"concurrency_groups": "io"},
    {"retry_exceptions": True},
    {"_labels": {"a": "b"}},
    {"label_selector": 1},
    {"fallback_strategy": 1},
    {"max_concurrency": None},
    {"_metadata": {}},
    {"num_cpus": None},
    {"lifetime": None},
]

# Without those that one of the two looks at when the actor is made.
EARLY = [
    options
    for options in WRONG
    if options not in ({"get_if_exists": True}, {"scheduling_strategy": "WRONG"})
]


class Plain:
    def f(self):
        return 1


@case(seconds_max=60)
def options_in_the_decorator():
    return {repr(options): _short(lambda o=options: ray.remote(**o)(Plain)) for options in EARLY}


@case(seconds_max=60)
def options_in_options():
    made = ray.remote(Plain)
    return {repr(options): _short(lambda o=options: made.options(**o)) for options in EARLY}


@case(seconds_max=120)
def options_at_creation():
    made = ray.remote(Plain)
    outcomes = {}
    for options in WRONG:
        if "accelerator_type" in options or "memory" in options:
            continue
        outcomes[repr(options)] = _short(lambda o=options: made.options(**o).remote())
    return outcomes


@case(differs="None is the default")
def none_for_numbers():
    made = ray.remote(Plain)
    options = ("max_restarts", "max_task_retries", "max_pending_calls")
    return [_short(lambda name=name: made.options(**{name: None}).remote()) for name in options]


def _short(function):
    try:
        value = function()
    except Exception as error:
        return type(error).__name__
    return type(value).__name__ == "ActorHandle"


@case(differs="wrong values are refused when the method is looked at")
def method_keywords():
    def make(*args, **options):
        def call():
            class Some:
                @ray.method(*args, **options)
                def f(self):
                    return 1

            actor = ray.remote(Some).remote()
            return type(actor.f).__name__

        return call

    return {
        "none": _kind(make()),
        "unknown": _kind(make(unknown=1)),
        "num_returns": _kind(make(num_returns=1)),
        "negative": _kind(make(num_returns=-1)),
        "text": _kind(make(num_returns="x")),
        "float": _kind(make(num_returns=1.5)),
        "retries": _kind(make(max_task_retries=-2)),
        "retries2": _kind(make(max_task_retries=3)),
        "retries_text": _kind(make(max_task_retries="3")),
        "retry_exceptions": _kind(make(retry_exceptions=True)),
        "retry_list": _kind(make(retry_exceptions=[ValueError])),
        "retry_wrong": _kind(make(retry_exceptions=3)),
        "retry_wrong_list": _kind(make(retry_exceptions=[1])),
        "group": _kind(make(concurrency_group=3)),
        "events": _kind(make(enable_task_events=False)),
        "backpressure": _kind(make(_generator_backpressure_num_objects=2)),
        "backpressure0": _kind(make(_generator_backpressure_num_objects=0)),
        "name": _kind(make(name="x")),
    }


def _kind(function):
    try:
        return function() and "made"
    except Exception as error:
        return type(error).__name__


@case
def method_without_parentheses():
    def define():
        class Some:
            @ray.method
            def f(self):
                return 1

        return ray.remote(Some)

    return type(attempt(define)).__name__.startswith("ActorClass")


@case
def method_options_at_the_call():
    actor = Counter.remote()

    def kind(**options):
        try:
            result = actor.get.options(**options).remote()
        except Exception as error:
            return type(error).__name__
        return type(result).__name__

    return {
        "num_returns": kind(num_returns=1),
        "zero": kind(num_returns=0),
        "two": kind(num_returns=2),
        "negative": kind(num_returns=-1),
        "text": kind(num_returns="x"),
        "streaming": kind(num_returns="streaming"),
        "name": kind(name="x"),
        "unknown": kind(unknown=1),
        "num_cpus": kind(num_cpus=1),
        "retries": kind(max_task_retries=1),
        "retry_exceptions": kind(retry_exceptions=True),
        "events": kind(enable_task_events=False),
    }


run(num_cpus=4)
