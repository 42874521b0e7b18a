/* Everything that host and device share: the one header that Rust's bindings are made from. */
#ifndef EMO_H
#define EMO_H
#include "losses.h"
#include "memory.h"
#include "pool.h"
#include "rms_norm.h"
#include "router.h"
#include "router_logits.h"
#include "smoothing.h"
#include "status.h"
#include "sum_rows.h"
#endif
