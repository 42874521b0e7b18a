//! The one error type of the library.

/// What can go wrong when an op is called: every variant names the argument, what was expected and what was found.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A buffer does not have the length its shape asks for.
    #[error("{op}: `{arg}` must hold {expected} elements, found {found}")]
    Length {
        /// The op, for example `rms_norm_forward`.
        op: &'static str,
        /// The argument's field name.
        arg: &'static str,
        /// Elements the shape asks for.
        expected: usize,
        /// Elements the buffer holds.
        found: usize,
    },
    /// A scalar argument or a combination of them is outside what the op accepts.
    #[error("{op}: `{arg}` must be {expected}, found {found}")]
    Argument {
        /// The op.
        op: &'static str,
        /// The argument's field name.
        arg: &'static str,
        /// The accepted values, in words.
        expected: String,
        /// The value given.
        found: String,
    },
    /// An index buffer points outside what it indexes.
    #[error("{op}: `{arg}`[{position}] must be below {bound}, found {found}")]
    Index {
        /// The op.
        op: &'static str,
        /// The argument's field name.
        arg: &'static str,
        /// Where in the index buffer.
        position: usize,
        /// The exclusive upper bound.
        bound: usize,
        /// The index found.
        found: usize,
    },
    /// The backend cannot be made or has failed.
    #[error("{backend}: {message}")]
    Backend {
        /// The backend's name.
        backend: &'static str,
        /// What happened and what to do.
        message: String,
    },
}

/// `Result` with the library's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An [`Error::Argument`] from anything printable.
    pub fn argument(
        op: &'static str,
        arg: &'static str,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        Self::Argument { op, arg, expected: expected.to_string(), found: found.to_string() }
    }
}
