//! The whole system: the real program, real plugins, real sockets. One program for all
//! of it, as linking one takes half a minute.

mod admin;
mod blackbox;
mod cache;
mod cache_or_not;
mod capabilities;
mod command_line;
mod documents;
mod durability;
mod erasure;
mod events;
mod guests;
mod lifecycle;
mod live;
mod network;
mod reload;
mod samples;
mod simulate;
mod tools;
mod traces;
mod webhook;
