"""The `echofm` command: finds its sub-commands among the installed entry points, imports only the one asked for.

Exit codes: 0 done; 1 done, but something was found that needs a person (the sub-command says what);
2 bad usage or bad input; 3 a fault of echofm itself; 130 interrupted.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TextIO

from echofm.errors import EchofmError

GROUP = "echofm.commands"


class _Unbroken:
    """A stream that swallows what nobody reads any more; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._or_nowhere(self._stream.write, text) or len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._or_nowhere(self._stream.flush)

    def _or_nowhere(self, act: Any, *arguments: Any) -> Any:
        try:
            return act(*arguments)
        except BrokenPipeError:
            # The descriptor itself: what is still in the buffer, and Python's own last flush, go there too.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def unbroken_pipes() -> Iterator[None]:
    """Within the block a closed pipe at standard output or error ends nothing."""
    before = sys.stdout, sys.stderr
    wrapped = tuple(stream and _Unbroken(stream) for stream in before)
    sys.stdout, sys.stderr = wrapped
    try:
        yield
    finally:
        for stream in wrapped:
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before


def main(argv: list[str] | None = None) -> int:
    """Run one sub-command and turn its errors into one line and an exit code."""
    argv = sys.argv[1:] if argv is None else argv
    with unbroken_pipes():
        try:
            return _main(argv)
        except EchofmError as error:
            return _fail(str(error))


def _main(argv: list[str]) -> int:
    if argv and argv[0] in ("-V", "--version"):
        from echofm import __version__

        print(__version__)
        return 0
    commands = {entry.name: entry for entry in entry_points(group=GROUP)}
    entry = chosen(argv, commands, command="echofm", about="Foundation models for echocardiography.")
    return 0 if entry is None else run(entry, argv[1:])


def chosen(
    argv: list[str], commands: Mapping[str, EntryPoint], *, command: str, about: str, words: str = "COMMAND"
) -> EntryPoint | None:
    """The command that the first word names; None: the overview was asked for and printed.

    words: what follows `command`, the first of them chosen here.
    Raises EchofmError for an unknown word, with the nearest known one.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview(commands, command, about, words))
        return None
    if argv[0] not in commands:
        kind, near = words.split()[0].lower(), _suggestion(argv[0], commands)
        raise EchofmError(f"no {kind} {argv[0]!r}{near}; `{command} --help` lists them")
    return commands[argv[0]]


def run(entry: EntryPoint, argv: list[str]) -> int:
    """Run one command; an unexpected error shows where it arose, and its text only with ECHOFM_DEBUG=1.

    The text of an unexpected error may hold a path or a tag of a patient's file, so it is not printed.
    """
    try:
        return entry.load()(argv) or 0
    except EchofmError as error:
        if os.environ.get("ECHOFM_DEBUG"):
            raise
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted", code=130)
    except Exception as error:
        if os.environ.get("ECHOFM_DEBUG"):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        where = "\n".join(f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
        print(
            f"{where}\n{type(error).__name__} (its text may name a patient: ECHOFM_DEBUG=1 shows it)",
            file=sys.stderr,
        )
        return _fail("this is a fault of echofm; please report the lines above", code=3)


def _fail(text: str, code: int = 2) -> int:
    print(f"echofm: {text}", file=sys.stderr)
    return code


def _suggestion(name: str, commands: Mapping[str, EntryPoint]) -> str:
    import difflib

    close = difflib.get_close_matches(name, commands, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _overview(commands: Mapping[str, EntryPoint], command: str, about: str, words: str) -> str:
    width, word = max(map(len, commands), default=0), words.split()[0]
    lines = [f"  {name:<{width}}  {_summary(entry)}" for name, entry in sorted(commands.items())]
    return "\n".join(
        [
            f"usage: {command} {words} ...",
            "",
            about,
            "",
            f"{word.lower()}s:",
            *lines,
            "",
            f"`{command} {word} --help` tells the rest.",
            "Exit codes: 0 done, 1 done with findings, 2 bad input, 130 interrupted.",
        ]
    )


def _summary(entry: EntryPoint) -> str:
    """First line of the command module's docstring, read without running the module or its parent packages."""
    package, *rest = entry.module.split(".")
    # Of the top package alone: looking up a submodule would import its parents, and torch with them.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return ""
    path = Path(spec.submodule_search_locations[0]).joinpath(*rest).with_suffix(".py")
    if not path.is_file():
        return ""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
