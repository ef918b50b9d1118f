//! The circuit breaker in the form in which readiness is the reservation.
