"""A verb: its name, its arguments, and how it is run."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from yolomix.cli.answer import Answer
from yolomix.cli.arguments import Argument, parse
from yolomix.cli.request import UsageError


@dataclass(frozen=True)
class Verb:
    """One verb.

    >>> from yolomix.cli.verbs import VERBS
    >>> VERBS["graft"].parse(["model=yolo11n.pt", "block=MLLABlock", "at=p4,p5"])["at"]
    ['p4', 'p5']

    Attributes:
        name: what users type.
        home: the file of this package that has the :attr:`function`, which takes the arguments by name and returns an
            ``Answer``; of a verb that Ultralytics carries out, its function ``run`` takes the verb and all words.
        does: one sentence.
        examples: command lines, the simplest first.
        arguments: what it takes.
        passed_on: whether Ultralytics carries it out, so that all arguments of Ultralytics are good as well.
    """

    name: str
    home: str
    does: str
    examples: tuple[str, ...]
    arguments: tuple[Argument, ...] = ()
    passed_on: bool = False

    def parse(self, words: Sequence[str]) -> dict[str, Any]:
        """The value of every argument.

        >>> from yolomix.cli.verbs import VERBS
        >>> VERBS["demo"].parse(["seed=3"])
        {'seed': 3, 'epochs': 9, 'out': 'runs/demo'}

        Raises:
            UsageError: a word is none of the arguments, or a needed one is missing.
        """
        values = parse(self.name, words, self.arguments)
        needed = [argument.name for argument in self.arguments if argument.required]
        missing = [name for name in needed if values[name] is None]
        if missing:
            raise self.lacks(*missing)
        return values

    def lacks(self, *names: str) -> UsageError:
        """The error that says which arguments are missing, with an example.

        >>> from yolomix.cli.verbs import VERBS
        >>> str(VERBS["transfer"].lacks("target"))
        'transfer needs target=, as in: yolomix transfer source=best.pt target=yolo11n-mlla.yaml save=start.pt'
        """
        wanted = [self.argument(name).hint or f"{name}=" for name in names]
        return UsageError(f"{self.name} needs {', '.join(wanted)}, as in: {self.examples[0]}")

    def argument(self, name: str) -> Argument:
        """One of the arguments.

        >>> from yolomix.cli.verbs import VERBS
        >>> VERBS["graft"].argument("mode").kind.choices
        ('after', 'wrap', 'replace')
        """
        return next(argument for argument in self.arguments if argument.name == name)

    def run(self, words: Sequence[str]) -> Answer:
        """Do it. The function is imported now, so that help and completion never wait for it.

        >>> from yolomix.cli.verbs import VERBS
        >>> VERBS["version"].run([]).shown
        ['0.1.0']
        """
        if self.passed_on:
            run: Callable[..., Answer] = importlib.import_module(f"yolomix.cli.{self.home}").run
            return run(self, words)
        values = self.parse(words)
        function: Callable[..., Answer] = getattr(importlib.import_module(f"yolomix.cli.{self.home}"), self.function)
        return function(**values)

    @property
    def function(self) -> str:
        """The name of the function that does it.

        >>> from yolomix.cli.verbs import VERBS
        >>> VERBS["export-matrix"].function
        'export_matrix'
        """
        return self.name.replace("-", "_")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "verb": self.name,
            "does": self.does,
            "examples": [*self.examples],
            "arguments": [argument.to_dict() for argument in self.arguments],
            "passed_on": self.passed_on,
        }
