//! Refusals as `tonic::Status`.
