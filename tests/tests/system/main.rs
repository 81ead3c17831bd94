//! The whole system: the real program, real plugins, real sockets. One program for all
//! of it, as linking one takes half a minute.

mod admin;
mod authoring;
mod blackbox;
mod cache;
mod cache_or_not;
mod capabilities;
mod check;
mod command_line;
mod docs;
mod documents;
mod durability;
mod erasure;
mod events;
mod guests;
mod languages;
mod lifecycle;
mod live;
mod network;
mod page;
mod reload;
mod run;
mod samples;
mod simulate;
mod tools;
mod traces;
mod webhook;
