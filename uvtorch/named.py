"""`NamedTuple` as `typing` has it, without importing `typing`: that alone takes as long as a bare interpreter's start.

For modules on warm paths only. Type checkers see typing's own.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING or sys.version_info >= (3, 14):  # 3.14 evaluates annotations lazily, which typing knows how to read
    from typing import NamedTuple
else:
    from collections import namedtuple

    class _Meta(type):
        """Turns a class statement into a namedtuple class with the statement's methods, as typing does."""

        def __new__(cls, name, bases, namespace):
            if not bases:
                return super().__new__(cls, name, bases, namespace)
            fields = list(namespace.get("__annotations__", {}))
            defaults = [namespace[field] for field in fields if field in namespace]
            if any(field in namespace for field in fields[: len(fields) - len(defaults)]):
                raise TypeError(f"in {name}, a field without a default follows one with a default")
            made = namedtuple(name, fields, defaults=defaults, module=namespace["__module__"])
            for key, value in namespace.items():
                if key not in fields and key not in ("__module__", "__qualname__", "__firstlineno__"):
                    setattr(made, key, value)
            return made

    class NamedTuple(metaclass=_Meta):
        """The base to name in a class statement."""


__all__ = ["NamedTuple"]
