//! The pure parts beside their models, and the loop closed around them.

mod closed_loop;
mod models;
mod plant;
mod usage;
