"""The subcommands of `mobula`, one module each.

A module here is a subcommand of its own name (`_` stands for `-`; modules that start with `_` are none)
if it has:

    HELP: str               one line for the list of commands
    DESCRIPTION: str        optional: what `mobula <command> --help` says at the top
    EPILOG: str             optional: what it says at the end, examples as a rule
    ORDER: int              optional: place in the list of commands, 100 if not given
    def add_arguments(parser: argparse.ArgumentParser) -> None
    def run(arguments: argparse.Namespace) -> int        the exit status

Failures are `_cli.CommandError`, with what to do; ConnectionError and other OSErrors are shown without
a traceback, too. All modules are imported for `mobula --help`: import what is slow inside `run`.

`_cli.add_address(parser)` and `with _cli.observing(arguments)` ask a running session: inside, the
functions of `mobula` that only ask (nodes(), cluster_resources(), timeline(), ...) work,
for all jobs of the session. `_tables.table` prints.
"""
