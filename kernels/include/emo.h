/* Everything that host and device share: the one header that Rust's bindings are made from. */
#ifndef EMO_H
#define EMO_H
#include "activation.h"
#include "adamw.h"
#include "all_to_all.h"
#include "attention.h"
#include "cross_entropy.h"
#include "embedding.h"
#include "grouped_gemm.h"
#include "linear.h"
#include "losses.h"
#include "memory.h"
#include "permutation.h"
#include "pool.h"
#include "rms_norm.h"
#include "rope.h"
#include "router.h"
#include "router_logits.h"
#include "smoothing.h"
#include "status.h"
#include "sum_rows.h"
#endif
