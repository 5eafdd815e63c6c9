//! E-mail, commands, files, the log.
