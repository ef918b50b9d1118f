//! What is tried before the storm, because it would be a pity to find out after it: whether the
//! files can be written, and whether there are enough descriptors for all those connections.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tokio::net::TcpSocket;

use crate::lanes;
use crate::load::GIVE_UP;

/// A file that is open for writing but keeps what it holds until there is something to write.
#[derive(Debug)]
pub(crate) struct Output {
    what: &'static str,
    path: PathBuf,
    file: File,
}

impl Output {
    pub(crate) fn open(what: &'static str, path: &Path) -> Result<Self, String> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map(|file| Self {
                what,
                path: path.to_owned(),
                file,
            })
            .map_err(|error| cannot_write(what, path, &error))
    }

    /// The same, with the folder it goes to.
    pub(crate) fn open_in_new_folder(what: &'static str, path: &Path) -> Result<Self, String> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| cannot_write(what, path, &error))?;
        }
        Self::open(what, path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn write(mut self, text: &str) -> Result<(), String> {
        self.replace(text)
            .map_err(|error| cannot_write(self.what, &self.path, &error))
    }

    fn replace(&mut self, text: &str) -> io::Result<()> {
        // A pipe or a terminal has no length.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.file.write_all(text.as_bytes())
    }
}

fn cannot_write(what: &str, path: &Path, error: &io::Error) -> String {
    format!(
        "cannot write {what} to {}: {}",
        path.display(),
        reason(error)
    )
}

/// What an error of the system says, as part of a sentence: without capital and number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(letters).collect()
    })
}

/// Opens as many sockets as the run may need at a time, and closes them again.
pub(crate) fn try_descriptors(rps: u32) -> Result<(), String> {
    // In the worst case all the bare lane's calls of the last second are open, and the other lanes
    // are full. Each call takes one descriptor at either end.
    let calls = rps as usize * GIVE_UP.as_secs() as usize + 2 * lanes::most_in_flight(rps);
    let needed = 2 * calls + 64;
    let sockets: io::Result<Vec<TcpSocket>> = (0..needed).map(|_| TcpSocket::new_v4()).collect();
    sockets.map(drop).map_err(|error| {
        format!(
            "cannot open the {needed} sockets that {rps} calls per second may take ({}): \
             lower --rps, or raise the limit with ulimit -n",
            reason(&error)
        )
    })
}
