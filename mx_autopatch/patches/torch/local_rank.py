"""``--local_rank`` and ``--local-rank`` are the same argument.

Why: ``python -m torch.distributed.launch`` gives the script ``--local_rank=0`` before torch
     2.0 and ``--local-rank=0`` since; a script declares one of the two, and with the other
     argparse ends it: "unrecognized arguments: --local-rank=0". 14 of 61 published
     migrations edit the script for it; it has nothing to do with the device.
How: in a process that was launched with one of the two on its command line, an
     ArgumentParser that declares only the other reads it under that name. The parser and
     its help stay as they are, and a parser that declares both, or neither, is left alone.
     It is decided when torch.distributed is imported, which is before ``parse_args()`` in
     any script that imports torch at its top; a script that parses first is not helped.
     torchrun, and ``launch --use_env``, pass neither.
Upstream: torch.distributed.launch, pytorch 2.0 (the change of spelling).
Remove when: no project in use declares ``--local_rank`` alone.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence
from typing import Any, Callable

from mx_autopatch.model import Call, Context, NotNeeded, Patch

_SPELLINGS = ("--local_rank", "--local-rank")


def _accept_both(context: Context) -> tuple[str, Callable[[], None]]:
    import argparse

    if "WORLD_SIZE" not in os.environ:
        raise NotNeeded("this process is not part of a distributed launch")
    given = next((a.partition("=")[0] for a in sys.argv[1:] if _is_spelling(a)), None)
    if given is None:
        raise NotNeeded("the command line has no --local_rank or --local-rank")
    own = vars(argparse.ArgumentParser)["parse_known_args"]

    @functools.wraps(own)
    def parse_known_args(self: Any, args: Any = None, namespace: Any = None) -> Any:
        return own(self, respelled(self, sys.argv[1:] if args is None else args), namespace)

    argparse.ArgumentParser.parse_known_args = parse_known_args  # type: ignore[method-assign]

    def undo() -> None:
        if vars(argparse.ArgumentParser)["parse_known_args"] is parse_known_args:
            argparse.ArgumentParser.parse_known_args = own  # type: ignore[method-assign]

    return f"{given} is read as the spelling that a parser declares", undo


def _is_spelling(argument: str) -> bool:
    return argument.partition("=")[0] in _SPELLINGS


def respelled(parser: Any, arguments: Sequence[str]) -> list[str]:
    """The arguments, with the spelling that ``parser`` declares if it is only one."""
    declared = [name for name in _SPELLINGS if name in parser._option_string_actions]
    if len(declared) != 1:
        return list(arguments)
    result: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":  # what follows are no options
            return [*result, argument, *rest]
        name, equals, value = argument.partition("=")
        result.append(f"{declared[0]}{equals}{value}" if name in _SPELLINGS else argument)
    return result


PATCHES = (
    Patch(
        name="torch.local_rank",
        edits=(Call("torch.distributed.distributed_c10d", _accept_both),),
    ),
)
