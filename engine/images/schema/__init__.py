"""The messages of the images and of the service, by name.

    core = message("core_entry")()

The build (setup.py) compiles each proto/NAME.proto into NAME.desc beside this file, and writes `index`, one line per
.proto: its name, its imports, its messages, its enums, separated by tabs. A name loads the .proto that defines it and
what that imports, no more, into a descriptor pool of our own: other libraries in the process may have registered
messages of the same names, CRIU's among them, with protobuf's default pool.
"""

from __future__ import annotations

import os

from engine.errors import CrError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from google.protobuf.descriptor import FieldDescriptor
    from google.protobuf.message import Message

_HERE = os.path.dirname(__file__)


class _Schema:
    """What has been loaded so far."""

    def __init__(self) -> None:
        self.pool = _new_pool()
        self.imports: dict[str, list[str]] = {}
        self.home: dict[str, str] = {}
        self.loaded: set[str] = set()
        for line in _read("index").decode().splitlines():
            proto, imports, messages, enums = line.split("\t")
            self.imports[proto] = imports.split()
            for name in messages.split() + enums.split():
                self.home[name] = proto

    def load(self, proto: str) -> None:
        """Make sure that proto and its imports are in the pool."""
        if proto in self.loaded:
            return
        self.loaded.add(proto)
        for imported in self.imports[proto]:
            self.load(imported)
        self.pool.AddSerializedFile(_read(os.path.basename(proto).removesuffix(".proto") + ".desc"))


_schema: _Schema | None = None
_classes: dict[str, type[Message]] = {}


def message(name: str) -> type[Message]:
    """The class of a top-level message: "core_entry", "criu_req". KeyError: there is no such message."""
    cls = _classes.get(name)
    if cls is None:
        cls = _classes[name] = _message_class(_home_of(name).FindMessageTypeByName(name))
    return cls


def enum(name: str) -> dict[str, int]:
    """Values of a top-level enum: enum("fd_types")["PIPE"]. KeyError: there is no such enum."""
    values = _home_of(name).FindEnumTypeByName(name).values
    return {value.name: value.number for value in values}


def names() -> list[str]:
    """All names that message() and enum() know."""
    return sorted(_loaded().home)


def hints(field: FieldDescriptor) -> dict[str, Any]:
    """How crit shows a field: its (criu) options that are set, for example {"hex": True} or {"flags": "mmap.prot"}.

    field: from the DESCRIPTOR of a class that message() gave. GetOptions() answers with a class of protobuf's default
    pool, which does not know our extension, so its bytes are parsed again by the pool that does.
    """
    raw = field.GetOptions().SerializeToString()
    if not raw:
        return {}
    pool = _home_of("CRIU_Opts")
    options = _message_class(pool.FindMessageTypeByName("google.protobuf.FieldOptions")).FromString(raw)
    extension = options.Extensions[pool.FindExtensionByName("criu")]
    return {option.name: value for option, value in extension.ListFields()}


def _loaded() -> _Schema:
    global _schema
    if _schema is None:
        _schema = _Schema()
    return _schema


def _home_of(name: str) -> Any:
    """The pool, with the file that defines name loaded into it."""
    schema = _loaded()
    schema.load(schema.home[name])
    return schema.pool


def _new_pool() -> Any:
    """An empty descriptor pool.

    descriptor_pool imports protobuf's pure Python implementation even when the C one is in use, 20 ms of the 60 that a
    command may take to start. So the C module's class is asked for directly, and the public way is the way out for
    installations without it.
    """
    from google.protobuf.internal import api_implementation

    c_module = getattr(api_implementation, "_c_module", None)
    if hasattr(c_module, "DescriptorPool"):
        return c_module.DescriptorPool()  # type: ignore[union-attr]
    from google.protobuf import descriptor_pool

    return descriptor_pool.DescriptorPool()


def _message_class(descriptor: Any) -> type[Message]:
    """message_factory.GetMessageClass(), short of importing it where the C implementation has made the class."""
    cls = getattr(descriptor, "_concrete_class", None)
    if cls is None:
        from google.protobuf import message_factory

        cls = message_factory.GetMessageClass(descriptor)
    return cls  # type: ignore[no-any-return]


def _read(name: str) -> bytes:
    path = os.path.join(_HERE, name)
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise CrError(
            f"the compiled image schema {path} is missing: install the package, "
            "or run `pip install -e . --no-build-isolation` in a checkout"
        ) from None
