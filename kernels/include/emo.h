/* Everything that host and device share: the one header that Rust's bindings are made from. */
#ifndef EMO_H
#define EMO_H
#include "activation.h"
#include "grouped_gemm.h"
#include "linear.h"
#include "memory.h"
#include "rms_norm.h"
#include "status.h"
#endif
