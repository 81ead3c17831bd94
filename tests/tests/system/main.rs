//! System tests: the real server, real plugins and real sockets. All tests are in one
//! program, because linking a program takes half a minute.

mod admin;
mod blackbox;
mod cache;
mod cache_equivalence;
mod capabilities;
mod command_line;
mod documents;
mod durability;
mod erasure;
mod events;
mod guests;
mod health;
mod lifecycle;
mod live;
mod network;
mod packaging;
mod reload;
mod samples;
mod simulate;
mod tools;
mod traces;
mod webhook;
