//! Lists the instructions of PTX files that the emulator does not know: `cargo run -p emo-emulator --example coverage -- *.ptx`.

use cuda::{Device, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in std::env::args().skip(1) {
        let device = Device::new(Options::default());
        let module = device.load_module(&std::fs::read_to_string(&path)?)?;
        println!("{path}: {} entries", module.entries().len());
        for (line, text, detail) in module.unsupported() {
            println!("  line {line}: {text}   unknown: {detail}");
        }
    }
    Ok(())
}
