//! What authors and operators work with: the commands, the documents, other languages,
//! the page. A program of its own, as much of it builds, compiles or draws, and keeps
//! the machine busy that others measure.

mod authoring;
mod check;
mod docs;
mod languages;
mod page;
mod run;
