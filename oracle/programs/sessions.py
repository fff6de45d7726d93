"""More of init: arguments of every kind, contexts, environments of jobs and tasks, variables."""

from __future__ import annotations

import os
import subprocess
import sys

from oracle.cases import ENGINE, attempt, case, ray, run_without_session, start


def session(**options):
    """A session for one case."""
    ray.shutdown()
    return start(**options)


def program(text, **variables):
    """What a program prints whose first lines import the engine as `ray`, and its exit status."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {ENGINE} as ray, os, sys, time\n{text}"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **variables},
    )
    return done.stdout.split(), done.returncode


QUIET = "ray.init(num_cpus=1, include_dashboard=False, logging_level='error'"


@case(seconds_max=60)
def the_context_survives_an_error_inside():
    try:
        with session():
            raise KeyError("x")
    except KeyError:
        return ray.is_initialized()


@case(seconds_max=60)
def ignore_reinit_error_gives_the_same_session():
    first = session()
    second = start(ignore_reinit_error=True)
    answer = first.address_info["node_id"] == second.address_info["node_id"]
    ray.shutdown()
    return answer


@case(seconds_max=60)
def the_store_and_the_memory():
    session(object_store_memory=200 * 1024 * 1024, _memory=10**9)
    found = ray.cluster_resources()
    answer = found["object_store_memory"], found["memory"]
    ray.shutdown()
    return answer


@case(seconds_max=60)
def a_runtime_env_of_the_job_and_of_a_task():
    session(runtime_env={"env_vars": {"A": "job", "B": "job"}})

    @ray.remote
    def look():
        return os.environ.get("A"), os.environ.get("B"), os.environ.get("C")

    answer = (
        ray.get(look.remote()),
        ray.get(look.options(runtime_env={"env_vars": {"B": "task", "C": "task"}}).remote()),
        ray.get(look.options(runtime_env={}).remote()),
    )
    ray.shutdown()
    return answer


@case(seconds_max=90)
def a_child_inherits_the_environment_of_its_parent():
    session()

    @ray.remote
    def look():
        return os.environ.get("A"), os.environ.get("B")

    @ray.remote
    def parent():
        own = ray.get(look.remote())
        other = ray.get(look.options(runtime_env={"env_vars": {"B": "child"}}).remote())
        return own, other

    answer = ray.get(parent.options(runtime_env={"env_vars": {"A": "parent"}}).remote())
    ray.shutdown()
    return answer


@case(seconds_max=60)
def the_decorator_and_the_options_replace_each_other():
    session()

    @ray.remote(runtime_env={"env_vars": {"A": "decorator", "B": "decorator"}})
    def look():
        return os.environ.get("A"), os.environ.get("B")

    answer = (
        ray.get(look.remote()),
        ray.get(look.options(runtime_env={"env_vars": {"A": "options"}}).remote()),
    )
    ray.shutdown()
    return answer


@case(seconds_max=60)
def the_runtime_env_of_the_context():
    session(runtime_env={"env_vars": {"A": "1"}})

    @ray.remote
    def look():
        return ray.get_runtime_context().runtime_env.get("env_vars")

    answer = (
        dict(ray.get_runtime_context().runtime_env).get("env_vars"),
        ray.get(look.remote()),
        ray.get(look.options(runtime_env={"env_vars": {"B": "2"}}).remote()),
    )
    ray.shutdown()
    return answer


@case
def a_logging_level_that_there_is_not():
    ray.shutdown()
    answer = attempt(start, logging_level="loud")
    ray.shutdown()
    return answer


@case(seconds_max=60)
def configs_of_logging():
    kinds = [
        attempt(lambda options=options: type(ray.LoggingConfig(**options)).__name__)
        for options in (
            {},
            {"encoding": "JSON"},
            {"encoding": "XML"},
            {"log_level": "DEBUG"},
            {"additional_log_standard_attrs": ["name"]},
            {"absent": 1},
        )
    ]
    made = ray.LoggingConfig()
    return kinds, made.encoding, made.log_level, made.additional_log_standard_attrs


@case(seconds_max=60)
def log_to_driver_false_is_silent():
    return program(
        QUIET + ", log_to_driver=False)\n"
        "@ray.remote\ndef f(): print('from-a-task')\n"
        "ray.get(f.remote()); time.sleep(1); ray.shutdown(); print('end')"
    )


@case(seconds_max=60)
def an_exception_ends_the_program_with_status_one():
    return program(QUIET + ")\n@ray.remote\ndef f(): return 1/0\nray.get(f.remote())")


@case(seconds_max=60)
def sys_exit_keeps_its_status():
    return program(QUIET + ")\nsys.exit(7)")


@case(seconds_max=60)
def a_program_without_shutdown_ends():
    return program(
        QUIET + ")\n@ray.remote\ndef f(): return 5\nprint(ray.get(f.remote()))\nf.remote()"
    )


@case(seconds_max=60)
def exit_handlers_run_while_there_is_still_a_session():
    return program(
        "import atexit\n" + QUIET + ")\n"
        "@ray.remote\ndef f(): return 5\n"
        "atexit.register(lambda: print('at-exit', ray.is_initialized()))\n"
        "print(ray.get(f.remote()))"
    )


@case(seconds_max=60)
def argv_and_directory_in_a_task():
    return program(
        QUIET + ")\n"
        "@ray.remote\ndef f(): return os.getcwd(), __name__\n"
        "where, name = ray.get(f.remote())\nprint(where == os.getcwd(), name)"
    )


@case(seconds_max=60)
def shutdown_while_tasks_run():
    return program(
        QUIET + ")\n@ray.remote\ndef f(): time.sleep(60)\nf.remote(); time.sleep(0.3)\n"
        "ray.shutdown(); print('over', ray.is_initialized())"
    )


if __name__ == "__main__":
    run_without_session()
