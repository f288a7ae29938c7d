"""What one option of the command line is, and a table of them. The options themselves are in engine/options.py."""

from __future__ import annotations

from engine.errors import CrError
from engine.option_values import append, replace, string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar

    from engine.option_values import Combine, Parse

NONE, OPTIONAL, REQUIRED = "none", "optional", "required"

EBADRQC = 56


class OptionError(CrError):
    """A command line, configuration file or request that makes no sense."""

    def __init__(self, message: str) -> None:
        super().__init__(message, EBADRQC)


class Option:
    """One option.

    name       long name; short: its letter or ""
    arg        NONE, OPTIONAL or REQUIRED; metavar names the argument in the usage text
    default    its value when nobody sets it
    negatable  --no-NAME exists too
    commands   the verbs it means something to
    rpc        fields of criu_opts that set it
    combine    old value and text give the new value (see option_values)
    into       attribute of the option that really holds the value
    pulls      values that other options get when this one becomes true
    """

    def __init__(
        self,
        form: str,
        commands: str,
        meaning: str,
        combine: Combine,
        default: Any,
        *,
        negatable: bool = False,
        rpc: str = "",
        into: str = "",
        pulls: dict[str, Any] | None = None,
    ) -> None:
        """form: "-D DIR" (letter, if it has one, and argument), "-v [N]" (optional argument), "-s" or ""."""
        letter, _, metavar = form.partition(" ") if form.startswith("-") else ("", "", form)
        optional = metavar.startswith("[") and metavar.endswith("]")
        self.short = letter.removeprefix("-")
        self.metavar = metavar[1:-1] if optional else metavar
        self.arg = OPTIONAL if optional else REQUIRED if metavar else NONE
        self.commands = tuple(commands.split())
        self.meaning = meaning
        self.combine = combine
        self.default = default
        self.negatable = negatable
        self.rpc = tuple(rpc.split())
        self.into = into
        self.pulls = pulls or {}

    def __set_name__(self, owner: type, attribute: str) -> None:
        self.attribute = self.into or attribute
        self.name = attribute.replace("_", "-")


class Table:
    """Base of a class in whose body stand options. An object of it holds the values of one run.

    table  the options by name
    given  attributes that somebody set, to tell a default from a wish
    """

    table: ClassVar[dict[str, Option]]

    def __init_subclass__(cls) -> None:
        cls.table = {option.name: option for option in vars(cls).values() if isinstance(option, Option)}

    def __init__(self) -> None:
        for option in self.table.values():
            if not option.into:
                default = option.default
                setattr(self, option.attribute, default.copy() if isinstance(default, list) else default)
        self.given: set[str] = set()

    def use(self, option: Option, text: str | None) -> None:
        """Use an option once, as the command line and configuration files do. Raises OptionError."""
        try:
            self.set(option, option.combine(getattr(self, option.attribute), text))
        except ValueError as exc:
            shown = f"--{option.name}" if text is None else f"--{option.name} {text}"
            raise OptionError(f"{shown}: {exc}") from None

    def set(self, option: Option, value: Any) -> None:
        """Give an option a value of its own type."""
        setattr(self, option.attribute, value)
        self.given.add(option.attribute)
        if value:
            for attribute, pulled in option.pulls.items():
                setattr(self, attribute, pulled)


def flag(
    commands: str, meaning: str, default: bool = False, short: str = "", negatable: bool = True, **more: Any
) -> Any:
    """On or off."""
    form = f"-{short}" if short else ""
    return Option(form, commands, meaning, lambda _old, _text: True, default, negatable=negatable, **more)


def one(form: str, commands: str, meaning: str, parse: Parse = string, default: Any = None, **more: Any) -> Any:
    """One value, the last use wins."""
    return Option(form, commands, meaning, replace(parse), default, **more)


def many(form: str, commands: str, meaning: str, parse: Parse = string, **more: Any) -> Any:
    """A list; every use adds an item."""
    return Option(form, commands, meaning, append(parse), [], **more)


def custom(form: str, commands: str, meaning: str, combine: Combine, default: Any, **more: Any) -> Any:
    """An option that adds up its uses in a way of its own."""
    return Option(form, commands, meaning, combine, default, **more)
