//! Holds what the wire looks like: `golden/api.txt` lists it, and a change of the wire has to change that file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
};

#[test]
fn the_wire_is_as_recorded() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let set = protox::compile(&files, [&root]).expect("our text compiles");
    let mut text = String::new();
    let mut ours: Vec<_> = set
        .file
        .iter()
        .filter(|file| file.package() != "google.protobuf")
        .collect();
    ours.sort_by_key(|file| file.name());
    for file in ours {
        describe_file(&mut text, file);
    }
    let golden = include_str!("../golden/api.txt");
    if text != golden {
        let actual = Path::new(env!("CARGO_TARGET_TMPDIR")).join("api.txt");
        std::fs::write(&actual, &text).expect("write the actual text");
        let line = text
            .lines()
            .zip(golden.lines())
            .position(|(ours, theirs)| ours != theirs);
        panic!(
            "the wire changed, first at line {line:?}; if that is meant: cp {} golden/api.txt",
            actual.display()
        );
    }
}

#[test]
fn every_service_has_its_names() {
    use proto::Method;
    use proto::containerd::services::content::v1::content_service;
    use proto::containerd::task::v3::task_service;

    fn path<M: Method>() -> (String, bool, bool) {
        let path = format!("/{}/{}", M::SERVICE, M::NAME);
        (path, M::CLIENT_STREAMING, M::SERVER_STREAMING)
    }
    assert_eq!(
        path::<task_service::CloseIO>(),
        ("/containerd.task.v3.Task/CloseIO".into(), false, false)
    );
    assert_eq!(
        path::<content_service::Write>(),
        (
            "/containerd.services.content.v1.Content/Write".into(),
            true,
            true
        )
    );
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("read the folder of texts") {
        let path = entry.expect("read an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn describe_file(text: &mut String, file: &FileDescriptorProto) {
    let package = file.package();
    writeln!(text, "file {} package {package}", file.name()).expect("text grows");
    for service in &file.service {
        for method in &service.method {
            writeln!(
                text,
                "rpc {package}.{}/{} {}{} -> {}{}",
                service.name(),
                method.name(),
                stream(method.client_streaming()),
                method.input_type(),
                stream(method.server_streaming()),
                method.output_type()
            )
            .expect("text grows");
        }
    }
    for message in &file.message_type {
        describe_message(text, package, message);
    }
    for value in &file.enum_type {
        describe_enum(text, package, value);
    }
}

fn describe_message(text: &mut String, outer: &str, message: &DescriptorProto) {
    let name = format!("{outer}.{}", message.name());
    writeln!(text, "message {name}").expect("text grows");
    for range in &message.reserved_range {
        writeln!(text, "  reserved {}..{}", range.start(), range.end()).expect("text grows");
    }
    for field in &message.field {
        describe_field(text, field);
    }
    for nested in &message.nested_type {
        describe_message(text, &name, nested);
    }
    for nested in &message.enum_type {
        describe_enum(text, &name, nested);
    }
}

fn describe_field(text: &mut String, field: &FieldDescriptorProto) {
    let kind = match field.r#type() {
        Type::Message | Type::Enum => field.type_name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    };
    let label = match field.label() {
        Label::Repeated => "repeated ",
        Label::Required => "required ",
        Label::Optional if field.proto3_optional() => "optional ",
        Label::Optional => "",
    };
    let (number, name, json) = (field.number(), field.name(), field.json_name());
    writeln!(text, "  {number} {label}{kind} {name} json {json}").expect("text grows");
}

fn describe_enum(text: &mut String, outer: &str, value: &EnumDescriptorProto) {
    writeln!(text, "enum {outer}.{}", value.name()).expect("text grows");
    for value in &value.value {
        writeln!(text, "  {} {}", value.number(), value.name()).expect("text grows");
    }
}

fn stream(yes: bool) -> &'static str {
    if yes { "stream " } else { "" }
}
