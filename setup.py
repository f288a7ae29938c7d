"""Compiles proto/*.proto while the package is built. Everything else about the package is in pyproject.toml.

Nothing that is generated is kept in the repository. In a checkout, `pip install -e . --no-build-isolation` puts the
result next to engine/images/schema/__init__.py; run it again after changing a .proto.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import ClassVar

from setuptools import Command, setup
from setuptools.command.build import build

PROTO = Path("proto")
SCHEMA = Path("engine/images/schema")


class build_schema(Command):
    """Write one compiled descriptor per .proto, and the index that engine.images.schema looks names up in.

    Follows setuptools.command.build.SubCommand: into build_lib, or in place for an editable installation.
    """

    description = "compile proto/*.proto into descriptors"
    user_options: ClassVar = [
        ("build-lib=", "d", "directory to build into"),
        ("inplace", "i", "write into the source tree"),
    ]
    boolean_options: ClassVar = ["inplace"]

    def initialize_options(self) -> None:
        self.build_lib: str | None = None
        self.inplace = False
        self.editable_mode = False

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def run(self) -> None:
        target = self._target()
        target.mkdir(parents=True, exist_ok=True)
        index = []
        for file in _compile(sorted(PROTO.glob("*.proto"))):
            (target / _descriptor_name(file.name)).write_bytes(file.SerializeToString())
            prefix = f"{file.package}." if file.package else ""
            names = [prefix + definition.name for definition in (*file.message_type, *file.enum_type)]
            index.append("\t".join([file.name, " ".join(file.dependency), " ".join(names)]))
        (target / "index").write_text("".join(f"{line}\n" for line in sorted(index)))
        outputs = set(self.get_outputs())
        for path in target.glob("*.desc"):
            if str(path) not in outputs:
                path.unlink()

    def get_source_files(self) -> list[str]:
        return [str(path) for path in sorted(PROTO.glob("*.proto"))]

    def get_outputs(self) -> list[str]:
        names = [_descriptor_name(path.name) for path in PROTO.glob("*.proto")]
        return [str(self._target() / name) for name in [*names, "descriptor.desc", "index"]]

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def _target(self) -> Path:
        if self.inplace or self.editable_mode:
            return SCHEMA
        assert self.build_lib is not None
        return Path(self.build_lib) / SCHEMA


def _descriptor_name(proto: str) -> str:
    return f"{Path(proto).stem}.desc"


def _compile(protos: list[Path]):  # type: ignore[no-untyped-def]  # FileDescriptorProto is imported here only
    """The FileDescriptorProto of each .proto, and of google/protobuf/descriptor.proto, which opts.proto extends."""
    import grpc_tools
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from grpc_tools import protoc

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "schema"
        arguments = [f"-I{PROTO}", f"-I{well_known}", "--include_imports", f"--descriptor_set_out={out}"]
        if protoc.main(["protoc", *arguments, *map(str, protos)]) != 0:
            raise SystemExit("protoc cannot compile proto/*.proto, see its messages above")
        return FileDescriptorSet.FromString(out.read_bytes()).file


build.sub_commands.append(("build_schema", None))
setup(cmdclass={"build_schema": build_schema})
