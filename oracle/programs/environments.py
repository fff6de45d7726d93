"""RuntimeEnv, RuntimeEnvConfig and JobConfig: what they take, refuse and say."""

from __future__ import annotations

import importlib

from oracle.cases import ENGINE, attempt, case, run_without_session

runtime_env = importlib.import_module(f"{ENGINE}.runtime_env")
RuntimeEnv = runtime_env.RuntimeEnv
RuntimeEnvConfig = runtime_env.RuntimeEnvConfig
JobConfig = importlib.import_module(f"{ENGINE}.job_config").JobConfig


def fields(**given):
    made = attempt(RuntimeEnv, **given)
    if isinstance(made, str):
        return made
    return {key: value for key, value in dict(made).items() if key != "_ray_commit"}


@case
def packages():
    return [
        fields(pip=["a"]),
        fields(pip=[]),
        fields(pip=None),
        fields(pip={"packages": ["a"], "pip_check": True, "pip_version": "==22.0"}),
        fields(uv=["a"]),
        fields(uv={"packages": ["a"], "uv_version": "==0.4"}),
    ]


@case
def packages_that_are_refused():
    return [
        fields(pip=1),
        fields(pip={"packages": 1}),
        fields(pip={"x": 1}),
        fields(pip={"packages": ["a"], "y": 1}),
        fields(pip="/no/such/file.txt"),
        fields(uv=1),
        fields(uv={"packages": 1}),
        fields(conda=1),
    ]


@case
def two_installers_at_once():
    return [
        fields(pip=["a"], conda="b"),
        fields(pip=["a"], uv=["b"]),
        fields(uv=["a"], conda="b"),
        fields(image_uri="x", pip=["a"]),
    ]


@case
def variables():
    return [
        fields(env_vars={"a": "b"}),
        fields(env_vars=None),
        fields(env_vars={"a": 1}),
        fields(env_vars={1: "a"}),
    ]


@case(differs="a TypeError, where Ray takes an empty list for nothing")
def variables_that_are_a_list():
    return fields(env_vars=[])


@case
def directories_and_modules():
    return [
        fields(working_dir="s3://a/b.zip"),
        fields(working_dir="s3://a/b"),
        fields(working_dir=1),
        fields(working_dir="/no/such/directory"),
        fields(py_modules="x"),
        fields(py_modules=[1]),
        fields(py_modules=["/no/such/directory"]),
        fields(excludes=["a"]),
        fields(excludes="a"),
    ]


@case
def the_rest():
    return [
        fields(),
        fields(foo=1),
        fields(py_executable="p"),
        fields(worker_process_setup_hook="a.b"),
        fields(config={"setup_timeout_seconds": 1}),
        fields(config={"setup_timeout_seconds": 0}),
        fields(config={"x": 1}),
        fields(config=1),
    ]


@case
def it_is_a_dict_with_checks():
    made = RuntimeEnv(pip=["a"], env_vars={"a": "b"})
    made.set("env_vars", {"c": "d"})
    return (
        made["env_vars"],
        made.get("nope"),
        "pip" in made,
        attempt(made.set, "env_vars", {"c": 1}),
        dict(RuntimeEnv.deserialize(made.serialize()))["pip"],
    )


@case
def configs():
    return [
        dict(RuntimeEnvConfig()),
        dict(RuntimeEnvConfig(setup_timeout_seconds=5, eager_install=False)),
        attempt(RuntimeEnvConfig, setup_timeout_seconds="x"),
        attempt(RuntimeEnvConfig, setup_timeout_seconds=0),
        attempt(RuntimeEnvConfig, eager_install="x"),
        attempt(RuntimeEnvConfig, log_files="x"),
    ]


@case
def job_configs():
    made = JobConfig(ray_namespace="a", metadata={"k": "v"})
    made.set_ray_namespace("b")
    made.set_metadata("l", "w")
    made.set_runtime_env({"env_vars": {"a": "b"}})
    return made.ray_namespace, made.metadata, dict(made.runtime_env)["env_vars"]


run_without_session()
