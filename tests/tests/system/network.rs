//! Network side of the webhook listener: HTTPS and admission control.

mod admission;
mod https;
mod tls;
