"""What is around a session: sys.path, variables, output, a small store. The cases start their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import numpy

from oracle.cases import ENGINE, attempt, case, ray, run_without_session, start

JobConfig = import_module(f"{ENGINE}.job_config").JobConfig

MIB = 2**20


def get(ref):
    return ray.get(ref, timeout=30)


def module_folder(name):
    """A new folder with a module `name`, whose `text()` is its name."""
    folder = tempfile.mkdtemp()
    Path(folder, f"{name}.py").write_text(f"def text():\n    return {name!r}\n")
    return folder


def imported(name):
    """What a task finds in the module `name`, which it imports itself."""

    @ray.remote(max_retries=0)
    def find():
        return import_module(name).text()

    return attempt(lambda: get(find.remote()))


@case(
    seconds_max=60,
    differs="workers have the driver's sys.path, in Ray the script's folder and PYTHONPATH",
)
def sys_path_before_init():
    sys.path.append(module_folder("early_module"))
    start()
    try:
        return imported("early_module")
    finally:
        ray.shutdown()
        sys.path.pop()


@case(seconds_max=60, differs="workers follow the driver's sys.path, in Ray they do not")
def sys_path_after_init():
    start()
    sys.path.append(module_folder("late_module"))
    try:
        return imported("late_module")
    finally:
        ray.shutdown()
        sys.path.pop()


@case(seconds_max=60)
def folders_of_the_code_search_path():
    folders = [module_folder("first_module"), module_folder("second_module")]
    Path(folders[0], "asked_module.py").write_text(
        "import sys\ndef places(folders):\n    return [sys.path.index(one) for one in folders]\n"
    )
    sys.path.insert(0, folders[0])
    try:
        start(job_config=JobConfig(code_search_path=folders))
        first, second = get(ray.remote(import_module("asked_module").places).remote(folders))
        return second < first
    finally:
        ray.shutdown()
        sys.path.pop(0)


@case(seconds_max=60)
def a_folder_in_sys_path_that_is_not_there():
    sys.path.append("/somewhere/that/is/not/there")
    start()
    try:
        return get(ray.remote(lambda: 1).remote())
    finally:
        ray.shutdown()
        sys.path.pop()


@case(seconds_max=60)
def variables_that_are_not_utf_8():
    os.environb[b"ORACLE_BYTES"] = b"caf\xe9"
    os.environb[b"ORACLE_LINES"] = b"a\nb"
    os.environb[b"ORACLE_EMPTY"] = b""
    try:
        start()

        @ray.remote
        def found():
            names = (b"ORACLE_BYTES", b"ORACLE_LINES", b"ORACLE_EMPTY")
            return [list(os.environb.get(name, b"absent")) for name in names]

        return attempt(lambda: get(found.remote()))
    finally:
        ray.shutdown()
        for name in (b"ORACLE_BYTES", b"ORACLE_LINES", b"ORACLE_EMPTY"):
            del os.environb[name]


@case(seconds_max=60, differs="names that are not UTF-8 are bytes; Ray has a UnicodeEncodeError")
def a_working_directory_that_is_not_utf_8():
    before = os.getcwd()
    folder = os.path.join(os.fsencode(tempfile.mkdtemp()), b"caf\xe9")
    os.mkdir(folder)
    os.chdir(folder)
    try:
        start()
        return attempt(lambda: get(ray.remote(lambda: list(os.getcwdb()[-4:])).remote()))
    finally:
        ray.shutdown()
        os.chdir(before)


@case(seconds_max=60)
def entries_of_sys_path_that_are_not_utf_8():
    sys.path.append("/somewhere/caf\udce9")
    try:
        start()
        return get(ray.remote(lambda: 1).remote())
    finally:
        ray.shutdown()
        sys.path.pop()


@case(seconds_max=60)
def an_object_larger_than_the_store():
    start(object_store_memory=80 * MIB)
    try:
        ref = ray.put(numpy.ones(120 * MIB, "u1"))
        return int(ray.get(ref).sum()) // MIB, int(
            get(ray.remote(lambda array: array.sum()).remote(ref))
        ) // MIB
    finally:
        ray.shutdown()


PARTS = """
import sys, time
import {engine} as ray
ray.init(num_cpus=1, include_dashboard=False, logging_level="error")

@ray.remote
def parts():
    for number in range(3):
        print("out", number, end=" ")
        print("err", number, end=" ", file=sys.stderr)

ray.get(parts.remote())
time.sleep(3)
ray.shutdown()
"""


@case(seconds_max=60)
def lines_that_do_not_end():
    program = PARTS.format(engine=ENGINE)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50
    )
    text = done.stdout + done.stderr
    return "out 0 out 1 out 2" in text, "err 0 err 1 err 2" in text


if __name__ == "__main__":
    run_without_session()
