//! Tests of the tools for authors and operators: commands, documents, other languages and
//! the admin page. They are a separate test program, because they build, compile and draw,
//! and this load would disturb the measurements of other tests.

mod authoring;
mod check;
mod docs;
mod languages;
mod page;
mod run;
