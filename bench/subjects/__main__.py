"""Runs one subject in this interpreter: python -m bench.subjects MODULE NAME SETTINGS.

Each line on standard input asks for the next step of the subject, and gets one line of JSON back.
The end of the input ends the subject. What the subject itself prints goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

from bench.settings import Settings


def main() -> None:
    module, name, settings = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.set_inheritable(answers.fileno(), False)
    os.dup2(2, 1)
    subject = importlib.import_module(f"bench.subjects.{module}").SUBJECTS[name]
    steps = subject(Settings.from_json(settings))
    for _ in sys.stdin:
        print(json.dumps(next(steps)), file=answers, flush=True)
    steps.close()


if __name__ == "__main__":
    main()
