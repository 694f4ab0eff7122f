//! The one way in which image bytes move.
