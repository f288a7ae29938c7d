"""The messages of the images and of the service, by name.

    core = message("core_entry")()

The build (setup.py) compiles each proto/NAME.proto into NAME.desc beside this file, and writes `index`, one line per
.proto: its name, its imports, the messages and enums it defines, separated by tabs. A name loads the .proto that
defines it and what that imports, no more, into a descriptor pool of our own: other libraries in the process may have
registered messages of the same names, CRIU's among them, with protobuf's default pool.
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
        from engine.images.schema.pool import new_pool

        self.pool = new_pool()
        self.imports: dict[str, list[str]] = {}
        self.home: dict[str, str] = {}
        self.loaded: set[str] = set()
        for line in _read("index").decode().splitlines():
            proto, imports, names = line.split("\t")
            self.imports[proto] = imports.split()
            for name in names.split():
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


def message(name: str) -> Any:
    """The class of a top-level message: "core_entry", "criu_req". KeyError: there is no such message."""
    return _classes.get(name) or _make_class(_home_of(name), name)


def columns(name: str) -> Any:
    """The class of a message like `name` whose fields are all repeated. KeyError: there is no such message.

    Any number of serialised `name`, one after the other, is one serialised columns(name), which protobuf parses as a
    whole: column i of each field is then the i-th message's value, provided that each message has set each field.
    """
    full_name = f"columns.{name}"
    if full_name in _classes:
        return _classes[full_name]
    file = message("google.protobuf.FileDescriptorProto")(name=full_name, package="columns")
    table = file.message_type.add(name=name)
    for field in message(name).DESCRIPTOR.fields:
        table.field.add(name=field.name, number=field.number, type=field.type, label="LABEL_REPEATED")
    pool = _loaded().pool
    pool.AddSerializedFile(file.SerializeToString())
    return _make_class(pool, full_name)


def enum(name: str) -> dict[str, int]:
    """Values of a top-level enum: enum("fd_types")["PIPE"]. KeyError: there is no such enum."""
    values = _home_of(name).FindEnumTypeByName(name).values
    return {value.name: value.number for value in values}


def names() -> list[str]:
    """All names of ours that message() and enum() know."""
    return sorted(name for name in _loaded().home if not name.startswith("google."))


def hints(field: FieldDescriptor) -> dict[str, Any]:
    """How crit shows a field: its (criu) options that are set, for example {"hex": True} or {"flags": "mmap.prot"}.

    field: from the DESCRIPTOR of a class that message() gave. GetOptions() answers with a class of protobuf's default
    pool, which does not know our extension, so its bytes are parsed again by the pool that does.
    """
    raw = field.GetOptions().SerializeToString()
    if not raw:
        return {}
    options = message("google.protobuf.FieldOptions").FromString(raw)
    extension = options.Extensions[_home_of("CRIU_Opts").FindExtensionByName("criu")]
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


def _make_class(pool: Any, name: str) -> Any:
    from engine.images.schema.pool import make_class

    return make_class(pool.FindMessageTypeByName(name), _classes)


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
