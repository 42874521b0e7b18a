/* The plans of an exchange between ranks: see src/ops/all_to_all.rs. */
#ifndef EMO_ALL_TO_ALL_H
#define EMO_ALL_TO_ALL_H
#include "status.h"

enum EmoAllToAllTile { EMO_ALL_TO_ALL_THREADS = 256 };

enum EmoAllToAllSite {
    EMO_SITE_SEND_PLAN_OFFSETS = EMO_FAMILY_ALL_TO_ALL * 256,
    EMO_SITE_RECEIVE_PLAN_COUNTS
};

/* emo_send_plan, a thread for each of the larger of experts and ranks + 1. */
struct EmoSendPlan {
    const uint32_t *offsets; /* [experts + 1] */
    uint32_t *counts;        /* [experts] */
    uint32_t *send;          /* [ranks + 1] */
    uint32_t rows;
    uint32_t experts;
    uint32_t ranks;
    struct EmoStatus *status;
};

/* emo_receive_plan, block (sender, expert). */
struct EmoReceivePlan {
    const uint32_t *counts; /* [ranks, experts] */
    uint32_t *receive;      /* [ranks + 1] */
    uint32_t *offsets;      /* [experts + 1] */
    uint32_t *gather;       /* [room] */
    uint32_t *inverse;      /* [room] */
    uint32_t ranks;
    uint32_t experts; /* of this rank */
    uint32_t room;
    struct EmoStatus *status;
};
#endif
