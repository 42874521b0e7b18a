//! Every op as plain scalar f64 code, forward and backward: the specification.
