"""The definitions equal the contract that readers and apps in the field speak: ``wire.tsv`` beside this file.

Its rows are compared as text, so any difference in a name, number, type, label or stream kind fails. Comments are part
of the contract too: they are the only documentation that clients in other languages get.
"""

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

from infra.codegen.proto import PROTO_ROOT, definitions, run_protoc

PACKAGE = "manpasik.v1"
CONTRACT_FILE = Path(__file__).with_name("wire.tsv")

SERVICES = 22
RPCS = 178

Row = tuple[str, ...]

SCALAR_NAMES = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_FIXED32: "fixed32",
    FieldDescriptor.TYPE_FIXED64: "fixed64",
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_SFIXED32: "sfixed32",
    FieldDescriptor.TYPE_SFIXED64: "sfixed64",
    FieldDescriptor.TYPE_SINT32: "sint32",
    FieldDescriptor.TYPE_SINT64: "sint64",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
}


def contract_rows() -> list[Row]:
    lines = CONTRACT_FILE.read_text(encoding="utf-8").splitlines()
    return [tuple(line.split("\t")) for line in lines if line and not line.startswith("#")]


def descriptor_rows() -> list[Row]:
    return [row for file in public_files() for row in rows_of_file(file)]


def public_files() -> list[FileDescriptor]:
    """What the committed modules of the public package really describe at run time."""
    folder = PROTO_ROOT.joinpath(*PACKAGE.split("."))
    files: list[FileDescriptor] = []
    for module_path in sorted(folder.glob("*_pb2.py")):
        module = importlib.import_module(f"{PACKAGE}.{module_path.stem}")
        assert isinstance(module.DESCRIPTOR, FileDescriptor)
        files.append(module.DESCRIPTOR)
    return files


def rows_of_file(file: FileDescriptor) -> Iterator[Row]:
    for service in file.services_by_name.values():
        for method in service.methods:
            yield ("rpc", service.name, method.name, short(method.input_type), short(method.output_type), kind(method))
    for message in file.message_types_by_name.values():
        yield from rows_of_message(message)
    for enum in file.enum_types_by_name.values():
        yield from rows_of_enum(enum)


def rows_of_message(message: Descriptor) -> Iterator[Row]:
    if not message.fields:
        yield ("empty", short(message))
    for field in message.fields:
        yield ("field", short(message), str(field.number), field.name, type_name(field), label(field))
    for nested in message.nested_types:
        if not nested.GetOptions().map_entry:  # the entry of a map is part of the field's type
            yield from rows_of_message(nested)
    for enum in message.enum_types:
        yield from rows_of_enum(enum)


def rows_of_enum(enum: EnumDescriptor) -> Iterator[Row]:
    for value in enum.values:
        yield ("value", short(enum), str(value.number), value.name)


def short(described: Descriptor | EnumDescriptor) -> str:
    return described.full_name.removeprefix(f"{PACKAGE}.")


def kind(method: MethodDescriptor) -> str:
    match method.client_streaming, method.server_streaming:
        case True, True:
            return "bidi"
        case True, False:
            return "client_stream"
        case False, True:
            return "server_stream"
        case _:
            return "unary"


def map_entry(field: FieldDescriptor) -> Descriptor | None:
    """The made-up message of key and value that a map is described by; None when the field is no map."""
    entry = field.message_type
    return entry if entry is not None and entry.GetOptions().map_entry else None


def type_name(field: FieldDescriptor) -> str:
    if (entry := map_entry(field)) is not None:
        return f"map<{type_name(entry.fields_by_name['key'])},{type_name(entry.fields_by_name['value'])}>"
    if field.message_type is not None:
        return short(field.message_type)
    if field.enum_type is not None:
        return short(field.enum_type)
    return SCALAR_NAMES[field.type]


def label(field: FieldDescriptor) -> str:
    if map_entry(field) is not None:
        return "map"
    if field.is_repeated:
        return "repeated"
    if field.containing_oneof is not None:  # also how `optional` is described
        return f"oneof {field.containing_oneof.name}"
    return "singular"


def listed(rows: set[Row]) -> str:
    return "\n".join(" ".join(row) for row in sorted(rows))


def test_every_row_of_the_contract_is_in_the_descriptors() -> None:
    missing = set(contract_rows()) - set(descriptor_rows())
    assert not missing, f"the contract has, the definitions lack:\n{listed(missing)}"


def test_everything_in_the_descriptors_is_in_the_contract() -> None:
    surplus = set(descriptor_rows()) - set(contract_rows())
    assert not surplus, f"the definitions have, the contract lacks:\n{listed(surplus)}"


def test_the_contract_is_whole_and_says_nothing_twice() -> None:
    rows = contract_rows()
    rpcs = [row for row in rows if row[0] == "rpc"]
    assert len(rpcs) == RPCS
    assert len({service for _, service, *_ in rpcs}) == SERVICES
    assert len(set(rows)) == len(rows)


def test_all_definitions_of_the_public_package_are_proto3_in_one_package() -> None:
    files = public_files()
    assert {file.package for file in files} == {PACKAGE}
    for file in files:
        copied = FileDescriptorProto()
        file.CopyToProto(copied)
        assert copied.syntax == "proto3", file.name


def test_each_service_has_a_file_of_its_own() -> None:
    services = {file.name: list(file.services_by_name) for file in public_files()}
    assert sum(map(len, services.values())) == SERVICES
    assert {name: found for name, found in services.items() if len(found) > 1} == {}
    assert [name for name, found in services.items() if not found] == ["manpasik/v1/common.proto"]


@pytest.fixture(scope="module")
def annotated_files(tmp_path_factory: pytest.TempPathFactory) -> Sequence[FileDescriptorProto]:
    """All definitions, internal ones too, with their comments, which generated code does not keep."""
    output = tmp_path_factory.mktemp("descriptors") / "all.binpb"
    run_protoc(["--include_source_info", f"--descriptor_set_out={output}"], definitions())
    return FileDescriptorSet.FromString(output.read_bytes()).file


def commentable(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """Source path (see ``SourceCodeInfo.Location.path``) and name of all that needs a comment."""
    service_number = FileDescriptorProto.SERVICE_FIELD_NUMBER
    for s, service in enumerate(file.service):
        yield (service_number, s), service.name
        for m, method in enumerate(service.method):
            yield (
                (service_number, s, service.DESCRIPTOR.fields_by_name["method"].number, m),
                (f"{service.name}.{method.name}"),
            )
    for e, enum in enumerate(file.enum_type):
        yield (FileDescriptorProto.ENUM_TYPE_FIELD_NUMBER, e), enum.name
    for m, message in enumerate(file.message_type):
        yield from commentable_in_message((FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER, m), message)


def commentable_in_message(path: tuple[int, ...], message: DescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    yield path, message.name
    for f, field in enumerate(message.field):
        yield (*path, DescriptorProto.FIELD_FIELD_NUMBER, f), f"{message.name}.{field.name}"
    for n, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from commentable_in_message((*path, DescriptorProto.NESTED_TYPE_FIELD_NUMBER, n), nested)


def test_every_service_rpc_message_enum_and_field_has_a_comment(annotated_files: Sequence[FileDescriptorProto]) -> None:
    assert {file.package for file in annotated_files} == {PACKAGE, "manpasik.internal.v1"}
    bare: list[str] = []
    for file in annotated_files:
        commented = {
            tuple(location.path)
            for location in file.source_code_info.location
            if len(location.leading_comments.split()) > 1
        }
        bare += [f"{file.name}: {name}" for path, name in commentable(file) if path not in commented]
    assert bare == []
