//! How platforms reach the webhook listener: https, and who may send how much.

mod https;
mod senders;
mod tls;
