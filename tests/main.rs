//! Integration tests: the built binary on small generated data, as a user would run it.

mod bad_input; // every refusal: one line, the right exit status, nothing lost
mod command_line; // help, config, output streams
mod pipeline; // the stages end to end, same seed same bytes, resume
mod readme; // the commands of the README
mod support;
