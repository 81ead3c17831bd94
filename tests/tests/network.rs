//! How platforms reach the webhook listener: https, and who may send how much.

#[path = "network/https.rs"]
mod https;
#[path = "network/senders.rs"]
mod senders;
#[path = "network/tls.rs"]
mod tls;
