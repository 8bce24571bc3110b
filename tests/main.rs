//! Integration tests: the built binary on small generated data, as a user would run it.
#![allow(clippy::disallowed_methods, reason = "tests compare with them")]

mod bad_images; // damaged, odd and vanished image files: one line each, the rest done
mod bad_input; // every refusal: one line, the right exit status, nothing lost
mod budget; // steps, a time budget, sizes of images, dry runs
mod command_line; // help, config, output streams
mod devices; // names of devices, several in a step, listing and checking them
mod disk; // full disks, directories that cannot be written or went away
mod docs; // README and docs/: commands run, outputs compared, options, links and the list of pages
mod docs_links; // links of the pages, the errors they explain, the length of README
mod encoders; // every encoder, read-out and head through the stages
mod export; // networks and features for other programs
mod fairness; // every config goes through `evaluate`, no baseline is held back, the test set is opened last
mod finetuning; // a frozen encoder, rates by part, from scratch
mod golden; // digests that every processor and instruction set must give
#[cfg(feature = "wgpu")]
mod gpu; // graphics cards, on a software renderer and without drivers
mod images; // image files as a data set; predict, data check
mod included; // the network in the program, encoders taken over
mod joint; // classes and rotations learned at once
mod judge;
mod kill; // SIGKILL at random moments; ROTNET_KILLS=100 for the long form
mod onnx; // networks in the format of ONNX
mod orient; // which way up images are; no image is ever lost
mod orient_places; // where it writes: over no image, log or plan
mod pipeline; // the stages end to end, same seed same bytes, resume
mod precision; // bf16: recorded, shown, kept
mod probe; // looks at the features during pretraining
mod quickstart; // what `run` does without a config, and its comparison at the end
#[cfg(feature = "mpi")]
mod ranks; // processes that mpirun started, and what is wrong with one of them
mod recipes; // configs by name, extended, listed, shown
mod reference; // the pages about environment variables and files of a run
#[cfg(feature = "remote")]
mod relay; // a connection that is listened to
mod replacing; // old results while new ones are made
mod report; // the page about runs, and TensorBoard's files
mod resume; // stopped, killed, damaged: the result is that of a run that was left alone
mod sequences; // random sequences of commands; ROTNET_SEQUENCES=2000 for the long form
mod support;
mod sweeps; // several processes in the directory of one sweep
mod training_options; // every option of training: exact through a stop, and doing what it says
mod verification; // the commands that check these promises
#[cfg(feature = "remote")]
mod worker; // workers on loopback, killed and refused
