//! Compiles the `.proto` text below `proto/` into messages and typed names of methods.

use std::error::Error;
use std::path::{Path, PathBuf};

/// Fields that carry streamed data: held as `bytes::Bytes`, so that decoding does not copy them.
const STREAMED: [&str; 3] = [
    ".containerd.services.content.v1.ReadContentResponse.data",
    ".containerd.services.content.v1.WriteContentRequest.data",
    ".containerd.types.transfer.Data.data",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=build.rs");
    let root = Path::new("proto");
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();
    let set = protox::compile(&files, [root])?;
    prost_build::Config::new()
        .enable_type_names()
        .bytes(STREAMED)
        // Ordered like `model::Labels`, and no hasher to seed in the shim.
        .btree_map(["."])
        .service_generator(Box::new(Methods))
        .include_file("messages.rs")
        .compile_fds(set)?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            files.push(path);
        }
    }
    Ok(())
}

/// Writes a module `<service>_service` beside the messages of each service: its name, and a type for each method.
struct Methods;

impl prost_build::ServiceGenerator for Methods {
    fn generate(&mut self, service: prost_build::Service, out: &mut String) {
        let full_name = format!("{}.{}", service.package, service.proto_name);
        let module = format!("{}_service", snake(&service.proto_name));
        out.push_str(&format!(
            "/// The methods of `{full_name}`.\npub mod {module} {{\n\
             /// The service's full name.\npub const NAME: &str = \"{full_name}\";\n"
        ));
        for method in &service.methods {
            out.push_str(&format!(
                "/// `{full_name}/{name}`.\n#[derive(Debug, Clone, Copy)]\npub enum {name} {{}}\n\
                 impl crate::Method for {name} {{\n\
                 const SERVICE: &'static str = NAME;\nconst NAME: &'static str = \"{name}\";\n\
                 const CLIENT_STREAMING: bool = {client};\nconst SERVER_STREAMING: bool = {server};\n\
                 type Request = {input};\ntype Response = {output};\n}}\n",
                name = method.proto_name,
                client = method.client_streaming,
                server = method.server_streaming,
                input = from_inside(&method.input_type),
                output = from_inside(&method.output_type),
            ));
        }
        out.push_str("}\n");
    }
}

/// A type's path as seen from a module one level further in.
fn from_inside(path: &str) -> String {
    if path.starts_with("::") || path == "()" {
        path.to_owned()
    } else {
        format!("super::{path}")
    }
}

fn snake(name: &str) -> String {
    let mut text = String::new();
    for (index, letter) in name.char_indices() {
        if letter.is_uppercase() && index > 0 {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}
