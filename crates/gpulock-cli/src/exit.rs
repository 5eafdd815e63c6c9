//! Exit codes. `gpulock run` otherwise ends with the code of its command, or with 128 + N
//! if signal N ended it. The numbers 64 to 77 are those of sysexits(3), 126 and 127 are the
//! shell's.

use std::fmt;

use gpulock::config::ConfigError;
use gpulock::core::Refusal;
use gpulock::store::StoreError;

/// What gpulock itself ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// 0: it is done.
    Ok,
    /// 64: the command line makes no sense.
    Usage,
    /// 65: the configuration makes no sense.
    Configuration,
    /// 69: the store cannot be used.
    Store,
    /// 70: a fault of gpulock or of the system below it.
    Internal,
    /// 75: the GPUs did not become free in time.
    NotAcquired,
    /// 76: the lease is lost, or is not the current one.
    Lost,
    /// 77: not allowed.
    NotAllowed,
    /// 126: the command cannot be executed.
    NotExecutable,
    /// 127: the command was not found.
    NotFound,
    /// That of the command, or 128 + N for signal N.
    Command(u8),
}

impl Code {
    /// The number that the shell sees.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Usage => 64,
            Self::Configuration => 65,
            Self::Store => 69,
            Self::Internal => 70,
            Self::NotAcquired => 75,
            Self::Lost => 76,
            Self::NotAllowed => 77,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
            Self::Command(code) => code,
        }
    }
}

/// Why gpulock did not do what it was asked to: one sentence, a way out, an exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string(), hint: None }
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<gpulock::Error> for Failure {
    fn from(error: gpulock::Error) -> Self {
        use gpulock::Error;
        let code = match &error {
            Error::Store(StoreError::BadUrl { .. }) | Error::NoLockKeys => Code::Configuration,
            Error::Store(_) => Code::Store,
            // It could be met later.
            Error::NotAcquired(_)
            | Error::Duplicate(_)
            | Error::Refused(Refusal::Closed { .. }) => Code::NotAcquired,
            Error::Refused(_) | Error::Name(_) => Code::Usage,
            Error::Lost(_) => Code::Lost,
            Error::Driver(_) | Error::CalledOff | Error::Start(_) => Code::Internal,
        };
        let hint = error.hint();
        Self { code, message: error.to_string(), hint }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        gpulock::Error::from(error).into()
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        let message = format!("failed to {error}{}", cause.unwrap_or_default());
        Self { code: Code::Configuration, message, hint: error.hint() }
    }
}
