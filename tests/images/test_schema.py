"""The schema: nothing in it may change that is in images already, and little of it is loaded at a time."""

from __future__ import annotations

import difflib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FieldDescriptorProto
from google.protobuf.descriptor_pb2 import FileDescriptorProto as File

from engine.errors import CrError
from engine.images import schema
from engine.images.magic import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK = Path(__file__).parent / "schema.lock"
COMPILED = Path(schema.__file__).parent


def test_schema_is_the_locked_one() -> None:
    """A changed name, number, label, type, default or hint breaks images; a new field adds a line to schema.lock."""
    diff = difflib.unified_diff(LOCK.read_text().splitlines(), sorted(_schema_lines()), "schema.lock", "proto/", n=0)
    assert "\n".join(diff) == ""


def _schema_lines() -> Iterator[str]:
    """One line for each field and each enum value: full name, number, label and type, default and hints if any."""
    for path in COMPILED.glob("*.desc"):
        if path.stem == "descriptor":
            continue
        yield from _file_lines(File.FromString(path.read_bytes()))


def _file_lines(file: File) -> Iterator[str]:
    for enum in file.enum_type:
        yield from _enum_lines(enum, "")
    for message in file.message_type:
        yield from _message_lines(message)
    for extension in file.extension:
        yield _field_line(extension, extension.extendee[1:], f"({extension.name})", {})


@pytest.mark.parametrize(
    "change",
    [
        {"number": 77},
        {"type": FieldDescriptorProto.TYPE_UINT64},
        {"label": FieldDescriptorProto.LABEL_REQUIRED},
        {"label": FieldDescriptorProto.LABEL_REPEATED},
        {"default_value": "1"},
    ],
    ids=str,
)
def test_lock_notices_a_changed_field(change: dict[str, Any]) -> None:
    """The locked line is gone, and another one is there in its place."""
    locked = set(LOCK.read_text().splitlines())
    file = File.FromString((COMPILED / "pagemap.desc").read_bytes())
    (entry,) = (message for message in file.message_type if message.name == "pagemap_entry")
    (field,) = (field for field in entry.field if field.name == "flags")
    before = set(_file_lines(file))
    assert before <= locked
    for name, value in change.items():
        setattr(field, name, value)
    after = set(_file_lines(file))
    assert len(before - after) == 1
    assert len(after - locked) == 1


def _message_lines(message: DescriptorProto) -> Iterator[str]:
    assert not message.nested_type
    for enum in message.enum_type:
        yield from _enum_lines(enum, f"{message.name}.")
    fields = schema.message(message.name).DESCRIPTOR.fields_by_name
    for field in message.field:
        yield _field_line(field, message.name, field.name, schema.hints(fields[field.name]))


def _enum_lines(enum: EnumDescriptorProto, prefix: str) -> Iterator[str]:
    for value in enum.value:
        yield f"{prefix}{enum.name}.{value.name} {value.number} value"


def _field_line(field: FieldDescriptorProto, owner: str, name: str, hints: dict[str, object]) -> str:
    label = FieldDescriptorProto.Label.Name(field.label).removeprefix("LABEL_").lower()
    type_name = field.type_name[1:] or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    extras = [f"criu.{hint}={'true' if value is True else value}" for hint, value in hints.items()]
    if field.HasField("default_value"):
        extras.append(f"default={field.default_value}")
    if field.options.packed:
        extras.append("packed")
    return " ".join([f"{owner}.{name} {field.number} {label} {type_name}", *sorted(extras)])


def test_every_kind_has_its_messages() -> None:
    for kind in KINDS.values():
        for name in kind.messages:
            assert schema.message(name).DESCRIPTOR.full_name == name


def test_the_same_name_gives_the_same_class() -> None:
    """Also for messages first met as the type of a field."""
    core = schema.message("core_entry")()
    assert schema.message("core_entry") is type(core)
    assert schema.message("task_core_entry") is type(core.tc)


def test_unknown_name() -> None:
    with pytest.raises(KeyError):
        schema.message("no_such_entry")


def test_names() -> None:
    assert len(schema.names()) == 174 + 20, "top-level messages and enums"


def test_enum() -> None:
    assert schema.enum("fd_types")["EVENTFD"] == 6


def test_hints() -> None:
    fields = schema.message("vma_entry").DESCRIPTOR.fields_by_name
    assert schema.hints(fields["prot"]) == {"flags": "mmap.prot"}
    assert schema.hints(fields["start"]) == {"hex": True}
    assert schema.hints(fields["fd"]) == {}


def test_columns_parse_many_messages_at_once() -> None:
    entry = schema.message("pagemap_head")
    many = b"".join(entry(pages_id=number).SerializeToString() for number in range(5))
    assert [*schema.columns("pagemap_head").FromString(many).pages_id] == [0, 1, 2, 3, 4]


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_only_what_is_needed_is_loaded() -> None:
    code = "from engine.images import schema; schema.message('pagemap_entry'); print(*sorted(schema._loaded().loaded))"
    assert _run(code).split() == ["google/protobuf/descriptor.proto", "opts.proto", "pagemap.proto"]


def test_the_slow_half_of_protobuf_is_not_imported() -> None:
    code = (
        "import sys; from engine.images.schema import message; core = message('core_entry')();"
        "core.tc.comm = 'x'; core.SerializePartialToString();"
        "print(*sorted({'google.protobuf.internal.python_message', 'pickle', 'logging'} & set(sys.modules)))"
    )
    assert _run(code).split() == []


@pytest.mark.parametrize("implementation", ["upb", "python"])
def test_both_implementations_of_protobuf(implementation: str) -> None:
    code = (
        f"import os; os.environ['PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION'] = {implementation!r};"
        "from engine.images import schema; from google.protobuf.internal import api_implementation;"
        "core = schema.message('core_entry')(); core.tc.rlimits.rlimits.add(cur=1, max=2);"
        "again = type(core)(); again.MergeFromString(core.SerializePartialToString());"
        "print(api_implementation.Type(), again == core, again.tc.rlimits.rlimits[0].max,"
        "      schema.hints(schema.message('vma_entry').DESCRIPTOR.fields_by_name['start']))"
    )
    assert _run(code).strip() == f"{implementation} True 2 {{'hex': True}}"


def test_other_messages_of_the_same_name_do_not_collide() -> None:
    """Podman-like clients may have CRIU's own generated rpc_pb2 in the same process, in protobuf's default pool."""
    code = (
        "from google.protobuf import descriptor_pool, descriptor_pb2;"
        "file = descriptor_pb2.FileDescriptorProto(name='rpc.proto'); file.message_type.add(name='criu_req');"
        "descriptor_pool.Default().AddSerializedFile(file.SerializeToString());"
        "from engine.images.schema import message; print(message('criu_req').DESCRIPTOR.fields_by_name['type'].number)"
    )
    assert _run(code).strip() == "1"


def test_schema_not_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(schema, "_HERE", str(tmp_path))
    monkeypatch.setattr(schema, "_schema", None)
    with pytest.raises(CrError, match=f"schema {tmp_path}/index is missing: install the package"):
        schema._loaded()
