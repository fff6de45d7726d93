"""JobConfig and LoggingConfig: what a program says about itself to `init`."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from typing import Any

import mobula as ray
import pytest
from conftest import start
from mobula.job_config import JobConfig

RunScript = Callable[..., subprocess.CompletedProcess[str]]


# ---- JobConfig -----------------------------------------------------------------------------------


@ray.remote
def look() -> tuple[str | None, str | None, str]:
    return os.environ.get("A"), os.environ.get("B"), ray.get_runtime_context().namespace


@pytest.mark.usefixtures("no_session")
def test_namespace_and_variables_of_the_job_count() -> None:
    start(
        job_config=JobConfig(
            runtime_env={"env_vars": {"A": "1"}}, ray_namespace="space", metadata={"k": "v"}
        )
    )
    assert ray.get(look.remote()) == ("1", None, "space")
    assert ray.get_runtime_context().namespace == "space"


@pytest.mark.usefixtures("no_session")
def test_what_init_is_given_itself_wins() -> None:
    job = JobConfig(runtime_env={"env_vars": {"A": "1"}}, ray_namespace="space")
    start(job_config=job, namespace="other", runtime_env={"env_vars": {"B": "2"}})
    assert ray.get(look.remote()) == (None, "2", "other")


@pytest.mark.mobula_only
@pytest.mark.usefixtures("no_session")
def test_what_init_is_not_given_comes_from_the_job() -> None:
    """Ray forgets the whole JobConfig if init is given one of the two."""
    job = JobConfig(runtime_env={"env_vars": {"A": "1"}}, ray_namespace="space")
    start(job_config=job, namespace="other")
    assert ray.get(look.remote()) == ("1", None, "other")


def test_a_job_config_can_be_built_step_by_step() -> None:
    job = JobConfig(metadata={"k": "v"})
    job.set_metadata("a", "b")
    job.set_ray_namespace("space")
    job.set_runtime_env({"env_vars": {"A": "1"}})
    job.set_default_actor_lifetime("detached")
    assert job.metadata == {"k": "v", "a": "b"}
    assert job.ray_namespace == "space"
    assert job.runtime_env == {"env_vars": {"A": "1"}}
    job.set_runtime_env(None)
    assert job.runtime_env == {}


def test_a_job_config_comes_from_json() -> None:
    job = JobConfig.from_json({"runtime_env": {"env_vars": {"B": "2"}}, "metadata": {"a": "b"}})
    assert job.runtime_env == {"env_vars": {"B": "2"}}
    assert job.metadata == {"a": "b"}
    assert job.ray_namespace is None


def test_wrong_job_configs() -> None:
    with pytest.raises(ValueError, match="detached"):
        JobConfig(default_actor_lifetime="forever")
    with pytest.raises(TypeError, match="search"):
        JobConfig(code_search_path="/a:/b")  # type: ignore[arg-type]


@pytest.mark.mobula_only
@pytest.mark.usefixtures("no_session")
def test_job_configs_that_init_refuses() -> None:
    """Ray raises AttributeError, or hangs."""
    with pytest.raises(TypeError, match="job_config"):
        ray.init(num_cpus=1, job_config={"ray_namespace": "x"})  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError, match="jvm_options"):
        ray.init(num_cpus=1, job_config=JobConfig(jvm_options=["-Xmx1g"]))
    with pytest.raises(TypeError, match="namespace"):
        ray.init(num_cpus=1, job_config=JobConfig(ray_namespace=3))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="runtime_env"):
        ray.init(num_cpus=1, job_config=JobConfig(runtime_env=3))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Metadata"):
        JobConfig(metadata={"a": 3})  # type: ignore[dict-item]
    job = JobConfig()
    job.code_search_path = "/a:/b"  # type: ignore[assignment]
    with pytest.raises(TypeError, match="search"):
        ray.init(num_cpus=1, job_config=job)
    assert not ray.is_initialized()


# ---- LoggingConfig -------------------------------------------------------------------------------

# Ray prints the same, but what workers said last can be missing at the end.
prints_until_the_end = pytest.mark.mobula_only

LOGS = """
import logging, os, sys
import mobula as ray

ray.init(num_cpus=1, logging_config=ray.LoggingConfig(**eval(sys.argv[1])))

def speak(who):
    log = logging.getLogger("a.b")
    log.debug("debug %s", who)
    log.info("info %s", who, extra={"mine": 5})
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("two\\nlines")
    return os.getpid(), ray.get_runtime_context().get_task_id()

@ray.remote
def task():
    print("printed by the task")
    return speak("task")

pid, id = ray.get(task.options(name="named").remote())
print("task", pid, id)
print("driver", speak("driver")[0], ray.get_runtime_context().get_node_id())
ray.shutdown()
"""


def records(done: subprocess.CompletedProcess[str], pid: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    return [line for line in lines if line["process"] == int(pid)]


def told(done: subprocess.CompletedProcess[str], who: str) -> list[str]:
    return next(line.split()[1:] for line in done.stdout.splitlines() if line.startswith(who))


@prints_until_the_end
def test_records_are_json_in_the_driver_and_in_tasks(run_script: RunScript) -> None:
    done = run_script(LOGS, "{'encoding': 'JSON', 'additional_log_standard_attrs': ['name']}")
    for who in ("driver", "task"):
        pid, id = told(done, who)
        lines = [line for line in records(done, pid) if line.get("name") == "a.b"]
        assert [line["levelname"] for line in lines] == ["INFO", "ERROR"]
        info, error = lines
        assert info["message"] == f"info {who}"
        assert info["mine"] == 5
        assert info["filename"] == "script0.py"
        assert info["timestamp_ns"] > 10**18
        assert error["message"] == "two\nlines"
        assert error["exc_text"].endswith("ZeroDivisionError: division by zero")
        assert "mine" not in error
        if who == "driver":
            assert info["node_id"] == id
            assert "task_id" not in info
        else:
            assert info["task_id"] == id
            assert info["task_name"] == "named"
            assert info["task_func_name"].endswith(".task")
        assert int(info["job_id"]) > 0


@prints_until_the_end
def test_records_are_text_of_the_level_that_was_asked_for(run_script: RunScript) -> None:
    done = run_script(LOGS, "{'log_level': 'DEBUG', 'additional_log_standard_attrs': ['name']}")
    for who in ("driver", "task"):
        assert re.search(
            rf"^[-\d]+ [\d:,]+\tDEBUG script0.py:\d+ -- debug {who} name=a.b .*node_id=\w+",
            done.stderr,
            re.M,
        )
    (line,) = re.findall(r"^.*\tINFO .* -- info task .*$", done.stderr, re.M)
    assert " mine=5 " in line
    assert " task_name=named " in line
    assert "ZeroDivisionError: division by zero" in done.stderr


@prints_until_the_end
def test_a_level_hides_what_is_below_it(run_script: RunScript) -> None:
    done = run_script(LOGS, "{'log_level': 'WARNING'}")
    assert "info task" not in done.stderr
    assert "info driver" not in done.stderr
    assert len(re.findall(r"ERROR script0.py", done.stderr)) == 2


@prints_until_the_end
def test_what_tasks_print_has_no_label_beside_configured_records(run_script: RunScript) -> None:
    done = run_script(LOGS, "{'encoding': 'JSON'}")
    assert "\nprinted by the task\n" in "\n" + done.stdout


@pytest.mark.mobula_only
def test_anything_may_be_logged_as_extra(run_script: RunScript) -> None:
    """Ray fails to log what JSON does not know."""
    done = run_script(
        """
import logging
import mobula as ray
config = ray.LoggingConfig("JSON", additional_log_standard_attrs=["args", "exc_info"])
ray.init(num_cpus=1, logging_config=config)
try:
    raise ValueError("why")
except ValueError:
    logging.exception("it %s", object, extra={"thing": {1, 2}.__class__})
"""
    )
    (line,) = done.stderr.splitlines()
    record = json.loads(line)
    assert record["thing"] == "<class 'set'>"
    assert record["message"] == "it <class 'object'>"
    assert "why" in str(record["exc_info"])


@pytest.mark.mobula_only
def test_other_handlers_of_the_root_logger_stay(run_script: RunScript) -> None:
    """Ray adds one of its own with each init."""
    done = run_script(
        """
import logging
import mobula as ray
logging.basicConfig(level=logging.INFO, format="MINE %(message)s")
for _ in range(2):
    ray.init(num_cpus=1, logging_config=ray.LoggingConfig())
    ray.shutdown()
logging.info("once")
"""
    )
    assert done.stderr.count("MINE once") == 1
    assert len(re.findall(r"-- once", done.stderr)) == 1


def test_a_logging_config_says_what_it_is() -> None:
    config = ray.LoggingConfig(encoding="JSON", log_level="DEBUG")
    assert repr(config) == (
        "LoggingConfig(encoding='JSON', log_level='DEBUG', additional_log_standard_attrs=[])"
    )
    assert ray.LoggingConfig.from_dict(config.to_dict()) == config
    assert ray.LoggingConfig() != config


def test_wrong_logging_configs() -> None:
    for encoding in ("XML", "json"):
        with pytest.raises(ValueError, match="Invalid encoding type"):
            ray.LoggingConfig(encoding=encoding)
    with pytest.raises(ValueError, match="bogus"):
        ray.LoggingConfig(additional_log_standard_attrs=["bogus"])
    with pytest.raises(TypeError):
        ray.LoggingConfig(bogus=1)  # type: ignore[call-arg]


@pytest.mark.mobula_only
@pytest.mark.usefixtures("no_session")
def test_wrong_levels_and_types_are_found_before_anything_starts() -> None:
    with pytest.raises(ValueError, match="Unknown level: 'loud'"):
        ray.LoggingConfig(log_level="loud")
    with pytest.raises(TypeError, match="logging_config"):
        ray.init(num_cpus=1, logging_config={"encoding": "JSON"})  # type: ignore[arg-type]
    assert not ray.is_initialized()
