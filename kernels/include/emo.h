/* Everything that host and device share: the one header that Rust's bindings are made from. */
#ifndef EMO_H
#define EMO_H
#include "router.h"
#include "status.h"
#endif
